"""A node as a process: open, spin, stop on SIGINT or SIGTERM with the node's own last words, close.

rclpy closes the context first and tells the node afterwards, when it can no longer publish. Here the node comes first.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from irevla_ros.core.errors import ConfigError, IrevlaError, unknown_name
from irevla_ros.ros import ExternalShutdownException, Node, SingleThreadedExecutor, hosts, try_shutdown
from irevla_ros.ros.errors import CONFIGURATION
from irevla_ros.ros.given import of_every_node, on_command_line
from irevla_ros.ros.implementation import api

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A terminal and a launcher may both send SIGINT at once: only what comes later means "now, really".
_PATIENCE_S = 5.0
# rclpy's wait does not end for a Python signal handler.
_STEP_S = 0.1
_command_line: list[str] = []  # of the open context


def run_node(factory: Callable[[], Node], args: Sequence[str] | None = None,
             executor_of: Callable[[], SingleThreadedExecutor] = SingleThreadedExecutor) -> int:  # fmt: skip
    """Make a node and spin it until a signal. The exit code: 0 for a stop that was asked for, CONFIGURATION for a
    ConfigError, 1 for another error that is told in one line.

    ``args`` as sys.argv; the options of ``ros.hosts`` are understood. A node with a method ``on_shutdown()`` is told before
    anything closes, also when one of its callbacks raised, so that it can publish a safe command; what a callback raises is
    raised again afterwards.
    """
    try:
        with Stop() as stop, context(args):
            node = factory()
            executor = executor_of()
            executor.add_node(node)
            try:
                while not stop.asked:
                    executor.spin_once(timeout_sec=_STEP_S)
            except ExternalShutdownException:
                pass  # somebody called shutdown: there is nothing left to publish with
            finally:
                _last_words(node)
                executor.shutdown()
                node.destroy_node()
    except IrevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return CONFIGURATION if isinstance(error, ConfigError) else 1
    return 0


def _last_words(node: Node) -> None:
    on_shutdown = getattr(node, "on_shutdown", None)
    if on_shutdown is not None and api.ok():
        on_shutdown()


@contextmanager
def context(args: Sequence[str] | None) -> Iterator[None]:
    """A context that leaves signals alone; ``args`` as sys.argv. Raises what ``hosts.settle_words`` and ``init`` do."""
    hosts.settle_words(sys.argv if args is None else args)
    api.init_without_signals(args)
    _command_line[:] = sys.argv if args is None else args
    try:
        yield
    finally:
        _command_line.clear()
        try_shutdown()


def refuse_undeclared(full_name: str, declared: Collection[str]) -> None:
    """ConfigError for a parameter that the command line gives this node, and no other, and that it has not ``declared``.

    What a file says under ``/**`` may be for another node of the graph.
    """
    for given in on_command_line(_command_line):
        for name in given.values if given.covers(full_name) and not given.shared else ():
            if name not in declared and not of_every_node(name):
                raise unknown_name("parameter", name, declared, f"of {full_name}, given by {given.where}")


class Stop:
    """Remembers that one of ``signals`` came; five seconds after the first, the next has its usual effect."""

    def __init__(self, signals: Sequence[signal.Signals] = _SIGNALS) -> None:
        self.asked = False
        self._signals = signals
        self._since = 0.0

    def __enter__(self) -> Stop:
        self._previous = {number: signal.signal(number, self._on_signal) for number in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.asked:
            self.asked, self._since = True, now
        elif now - self._since > _PATIENCE_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
