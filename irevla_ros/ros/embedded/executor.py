"""The executor: one thread in which every callback of its nodes runs, in turn, so that none starves another."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from irevla_ros.ros.embedded.context import Context, current
from irevla_ros.ros.embedded.endpoint import Source
from irevla_ros.ros.embedded.exceptions import ExternalShutdownException

if TYPE_CHECKING:
    from irevla_ros.ros.embedded.node import Node


_LONGEST_WAIT_S = 3600.0


class SingleThreadedExecutor:
    """Runs what is ready: timers that are due, messages, requests and responses that have come."""

    def __init__(self) -> None:
        self._context: Context = current("an executor")
        self._nodes: list[Node] = []
        # A turn: everything that was ready at one look, one piece of work each, before the next look.
        self._turn: deque[tuple[Node, Source]] = deque()
        # Open while there may be something to do. A bare lock: waking by a Condition costs several times as much.
        self._gate = threading.Lock()
        self._shut = False
        self._context.executors.add(self)

    def add_node(self, node: Node) -> bool:
        """Whether the node was new here."""
        if node in self._nodes:
            return False
        self._nodes.append(node)
        node.executor = self
        self.wake()
        return True

    def remove_node(self, node: Node) -> None:
        if node in self._nodes:
            self._nodes.remove(node)
            if node.executor is self:
                node.executor = None
            turn, self._turn = self._turn, deque()
            for owner, source in turn:
                owner._has_work(source)

    def get_nodes(self) -> list[Node]:
        return list(self._nodes)

    def wake(self) -> None:
        """Look again; fit for any thread and for a signal handler."""
        if self._gate.locked():
            with contextlib.suppress(RuntimeError):  # somebody else just opened it
                self._gate.release()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """End spin and let go of the nodes."""
        self._shut = True
        for node in list(self._nodes):
            self.remove_node(node)
        self.wake()
        return True

    def spin(self) -> None:
        """Run callbacks until shutdown. Raises ExternalShutdownException where that comes while waiting."""
        while self._context.ok() and not self._shut:
            self.spin_once()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for one piece of work, ``timeout_sec`` at most (for ever if None), and do it."""
        end = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        work = self._next(end)
        if work is not None:
            work()

    def _next(self, end: float | None) -> Callable[[], object] | None:
        while not self._shut:
            while self._turn:
                work = self._turn.popleft()[1].take()
                if work is not None:
                    return work
            if not self._context.ok():
                raise ExternalShutdownException
            for node in self._nodes:
                self._turn.extend((node, source) for source in node._take_ready())
            if self._turn:
                continue
            waits = [wait for node in self._nodes for timer in node._timers if (wait := timer.wait_s()) is not None]
            if end is not None:
                waits.append(end - time.monotonic())
                if waits[-1] <= 0.0:
                    return None
            self._gate.acquire(timeout=min([*waits, _LONGEST_WAIT_S]))
        return None


def spin(node: Node, executor: SingleThreadedExecutor | None = None) -> None:
    """Run the callbacks of ``node`` until shutdown."""
    with _Guest(node, executor) as host:
        host.spin()


def spin_once(node: Node, *, executor: SingleThreadedExecutor | None = None, timeout_sec: float | None = None) -> None:
    """Run one callback of ``node``, waiting ``timeout_sec`` at most."""
    with _Guest(node, executor) as host:
        host.spin_once(timeout_sec=timeout_sec)


_global: SingleThreadedExecutor | None = None


def _global_executor() -> SingleThreadedExecutor:
    global _global
    if _global is None or _global._context is not current("spin"):
        _global = SingleThreadedExecutor()
    return _global


class _Guest:
    """A node in an executor for the time of one call."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor | None) -> None:
        self._node = node
        self._executor = executor or _global_executor()

    def __enter__(self) -> SingleThreadedExecutor:
        self._added = self._executor.add_node(self._node)
        return self._executor

    def __exit__(self, *_: object) -> None:
        if self._added:
            self._executor.remove_node(self._node)
