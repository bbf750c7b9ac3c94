"""One context a process: a Zenoh session, the graph, the command line, and everything that must be closed again."""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

from irevla_ros.ros.embedded.arguments import RosArguments, parse
from irevla_ros.ros.embedded.exceptions import NotInitializedException
from irevla_ros.ros.embedded.gateway import Gateway
from irevla_ros.ros.embedded.graph import Graph
from irevla_ros.ros.embedded.logging import LoggingSeverity, LogOutput
from irevla_ros.ros.embedded.network import from_environment
from irevla_ros.ros.embedded.session import open_node_session
from irevla_ros.ros.embedded.wire import close_session

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_WARNING = (LoggingSeverity.WARN, "gateway")
_HERE = (__file__, "Context", 0)


class Wakeable(Protocol):
    def wake(self) -> None: ...


class Closable(Protocol):
    def destroy_node(self) -> None: ...


class Context:
    """What lives from ``init`` to ``shutdown``."""

    def __init__(self, args: Sequence[str]) -> None:
        network = from_environment(os.environ)
        self.arguments: RosArguments = parse(args)
        self.domain = network.domain
        self.executors: weakref.WeakSet[Wakeable] = weakref.WeakSet()
        self.nodes: list[Closable] = []
        self._ids = itertools.count()
        self._running = True
        self._previous: dict[signal.Signals, Any] = {}
        self.session = open_node_session(network)
        self.session_id = str(self.session.info.zid())
        self.graph = Graph(self.session, self.domain)
        log = LogOutput(self.arguments.log_levels, console=self.arguments.console)
        self.gateway = Gateway(network, lambda text: log.write(*_WARNING, text, _HERE)) if network.two_hosts else None
        if self.gateway is not None:
            self.gateway.start()

    def ok(self) -> bool:
        return self._running

    def next_id(self) -> int:
        return next(self._ids)

    def require(self, action: str) -> None:
        if not self._running:
            raise NotInitializedException(action, "the context is shut down", "call init first, and shutdown last")

    def request_shutdown(self) -> None:
        """End every spin; fit for a signal handler, so nothing is closed here."""
        self._running = False
        for executor in list(self.executors):
            executor.wake()

    def close(self) -> None:
        """Destroy what is left and close the session: no thread, token or descriptor of it stays."""
        self.request_shutdown()
        for node in list(self.nodes):
            node.destroy_node()
        if self.gateway is not None:
            self.gateway.close()
        self.graph.close()
        close_session(self.session)
        self._restore_signals()

    def take_signals(self) -> None:
        """Shut down on SIGINT and SIGTERM, as rclpy does; what handled them before is called after it."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.request_shutdown()
        previous = self._previous.get(signal.Signals(number))
        if callable(previous):
            previous(number, frame)

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous.items():
                signal.signal(number, handler)
        self._previous = {}


_lock = threading.Lock()
_current: Context | None = None


def init(*, args: Sequence[str] | None = None) -> None:
    """Open the context. ``args`` as sys.argv has them. Raises ConfigError and MiddlewareError for what is wrong there."""
    start(args, signals=True)


def start(args: Sequence[str] | None, *, signals: bool) -> None:
    """``init`` that leaves the signals alone where ``signals`` is False."""
    global _current
    with _lock:
        if _current is not None:
            raise RuntimeError("Context.init() must only be called once")
        _current = Context(sys.argv if args is None else args)
        if signals:
            _current.take_signals()


def current(action: str) -> Context:
    """The open context. Raises NotInitializedException, naming ``action``."""
    context = _current
    if context is None:
        raise NotInitializedException(action, "needs an open context", "call init first")
    return context


def ok() -> bool:
    """Whether the context is open and nobody has asked to shut down."""
    return _current is not None and _current.ok()


def shutdown() -> None:
    """Close the context. Raises RuntimeError where there is none."""
    if not _close():
        raise RuntimeError("Context must be initialized before it can be shutdown")


def try_shutdown() -> None:
    """Close the context if there is one."""
    _close()


def _close() -> bool:
    global _current
    with _lock:
        context, _current = _current, None
    if context is None:
        return False
    context.close()
    return True


# A process that ends without shutdown must not leave its tokens to the lease of its links.
atexit.register(_close)
