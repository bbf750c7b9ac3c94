"""Work that takes longer than a tick: one thread, one waiting place, the newest item wins.

The executor's thread submits and receives; it never waits. A timer that needs the newest result reads what the callback
left behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from irevla_ros.ros import Node
from irevla_ros.ros.implementation import api

Item = TypeVar("Item")
Result = TypeVar("Result")


class LatestWorker(Generic[Item, Result]):
    """Runs ``work(item)`` in its thread and ``done(result)`` on the executor's thread of ``node``.

    What ``work`` raises is raised on the executor's thread, unless ``failed`` takes it there.
    """

    def __init__(
        self,
        node: Node,
        work: Callable[[Item], Result],
        done: Callable[[Result], object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        self._work = work
        self._done = done
        self._failed = failed
        self._slot: list[Item] = []
        self._results: deque[tuple[Result | None, Exception | None]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._tell, self._forget = api.caller(node, self._deliver)
        self.overwritten = 0
        self.completed = 0

    def submit(self, item: Item) -> bool:
        """Put the newest item; whether it took the place of one that was still waiting. The first one starts the thread."""
        with self._changed:
            if self._closed:
                return False
            overwrote = bool(self._slot)
            self.overwritten += overwrote
            self._slot[:] = [item]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="irevla-worker", daemon=True)
                self._thread.start()
            self._changed.notify()
        return overwrote

    def close(self, timeout_sec: float | None = None) -> bool:
        """Stop after the item under way; no result is delivered any more. False where it is not done in time."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._slot.clear()
            self._changed.notify()
        if first:
            self._forget()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_sec)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot or self._closed)
                if self._closed:
                    return
                item = self._slot.pop()
            result: Result | None = None
            fault: Exception | None = None
            try:
                result = self._work(item)
            except Exception as error:  # it belongs to the executor's thread, where it is raised or handed over
                fault = error
            with self._changed:  # once closed, there is nobody to tell
                if self._closed:
                    return
                self._results.append((result, fault))
                self._tell()

    def _deliver(self) -> None:
        while self._results and not self._closed:
            result, fault = self._results.popleft()
            self.completed += 1
            if fault is None:
                self._done(result)  # type: ignore[arg-type]
            elif self._failed is not None:
                self._failed(fault)
            else:
                raise fault
