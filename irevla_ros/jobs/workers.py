"""A pool of worker processes that keep state between calls: simulators, policies and training groups live there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from irevla_ros.core.errors import IrevlaError

Send = Callable[[Any], None]


class WorkerError(IrevlaError):
    """A worker process died or failed in a way that is not the user's."""


@dataclass
class WorkerContext:
    """What a worker keeps between calls: its rank, the pool's size, and whatever functions store in ``kept``."""

    rank: int
    size: int
    kept: dict[str, Any] = field(default_factory=dict)


class WorkerPool:
    """``size`` processes; each call runs one module-level function in all of them and gathers the results.

    Workers are spawned (fork after torch has started threads can hang), use one thread each, and leave Ctrl-C to the
    parent. Close the pool, or use it as a context manager.
    """

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        # Inherited at start-up, before torch or BLAS read it; two threads in each of two processes are disastrous.
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"
        self._connections: list[Connection] = []
        self._processes = []
        # Inherited too: Ctrl-C while a worker still imports its modules would end it with a traceback of its own.
        resource_tracker.ensure_running()  # when started later, it would let the signal through again
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for rank in range(size):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, rank, size), daemon=True)
                process.start()
                theirs.close()
                self._connections.append(ours)
                self._processes.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before

    @property
    def size(self) -> int:
        return len(self._processes)

    def run(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Mapping[str, Any]],
        on_message: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """Call ``function(context, send, **arguments[rank])`` in every worker; results by rank.

        What a worker gives to ``send`` reaches ``on_message`` here while the others go on. A worker's ``IrevlaError``
        is raised here; any other failure, or its death, is a ``WorkerError``.
        """
        for rank, (connection, keywords) in enumerate(zip(self._connections, arguments, strict=True)):
            try:
                connection.send((function, dict(keywords)))
            except OSError:
                raise self._died(rank) from None
        results: list[Any] = [None] * self.size
        failure: BaseException | None = None
        waiting = {connection: rank for rank, connection in enumerate(self._connections)}
        while waiting:
            for ready in wait(list(waiting)):
                assert isinstance(ready, Connection)
                rank = waiting[ready]
                try:
                    kind, content = ready.recv()
                except (EOFError, OSError):
                    raise self._died(rank) from None
                if kind == "message":
                    if on_message is not None:
                        on_message(content)
                    continue
                del waiting[ready]
                if kind == "result":
                    results[rank] = content
                else:
                    failure = content
                    if len(waiting):  # the others may wait for this one for ever
                        if (dead := self._dead(list(waiting.values()))) is not None:
                            raise self._died(dead)  # of which the failure is only the echo
                        self.close()
                        raise failure
        if failure is not None:
            raise failure
        return results

    def _dead(self, ranks: Sequence[int]) -> int | None:
        """One of ``ranks`` whose process has ended; a lost peer is often noticed before the system reports its end."""
        gone = wait([self._processes[rank].sentinel for rank in ranks], timeout=0.5)
        return next((rank for rank in ranks if self._processes[rank].sentinel in gone), None)

    def _died(self, rank: int) -> WorkerError:
        self.close()
        return WorkerError(f"worker process {rank} died", "it must live as long as the run",
                           "look for the out-of-memory killer; the run resumes where it was")  # fmt: skip

    def close(self) -> None:
        for process in self._processes:  # first: a worker that outlives its connection would fail to send into it
            process.terminate()
        for process in self._processes:
            process.join()
        for connection in self._connections:
            connection.close()
        self._connections, self._processes = [], []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(connection: Connection, rank: int, size: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    context = WorkerContext(rank, size)

    def answer(kind: str, content: Any) -> None:
        try:
            connection.send((kind, content))
        except (BrokenPipeError, ConnectionResetError):  # the parent was killed: nobody is left to tell
            os._exit(1)

    while True:
        try:
            function, keywords = connection.recv()
        except EOFError:
            return
        try:
            reply = ("result", function(context, partial(answer, "message"), **keywords))
        except IrevlaError as error:
            reply = ("error", error)
        except Exception:
            trace = traceback.format_exc()
            reply = ("error", WorkerError(f"worker process {rank} failed", trace, "report this with the run's folder"))
        answer(*reply)


def _end_with_parent() -> None:
    """End at once when the parent does, killed or not: nobody else may find this worker still writing to the run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
