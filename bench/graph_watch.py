"""What the benchmarks of the graph share: a running graph, and an observer that hears all of it.

    with RunningGraph(folder, arms=1, lock_step=False) as graph: graph.watch.sealed ...
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("IREVLA_ROS", "embedded")

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.episode_state import EpisodeState
from irevla_ros.core.graph_messages import LearnerStatus, Sealed
from irevla_ros.core.messages import Message
from irevla_ros.nodes import topics
from irevla_ros.ros import Node, SingleThreadedExecutor, init, try_shutdown
from irevla_ros.ros.messages import DiagnosticArray, PoseStamped, String
from irevla_ros.ros.qos import COMMAND, EVENT, LATCHED


@dataclass
class Watch:
    """Everything heard so far, with the monotonic time (ns) at which it came."""

    steps: deque[tuple[int, str, ArbiterStep]] = field(default_factory=lambda: deque(maxlen=200_000))
    targets: deque[tuple[int, str, int]] = field(default_factory=lambda: deque(maxlen=200_000))  # stamp
    sealed: list[tuple[int, str, Sealed]] = field(default_factory=list)
    states: list[tuple[int, str, EpisodeState]] = field(default_factory=list)
    learner: list[tuple[int, LearnerStatus]] = field(default_factory=list)
    health: dict[str, tuple[int, bytes, str, dict[str, str]]] = field(default_factory=dict)


class Observer(Node):
    """Listens to the graph of ``arms``; fills a ``Watch``."""

    def __init__(self, arms: tuple[str, ...]) -> None:
        super().__init__("observer")
        self.watch = Watch()
        for arm in arms:
            self._json(ArbiterStep, arm, topics.STEP, EVENT, lambda at, arm, m: self.watch.steps.append((at, arm, m)))
            self._json(Sealed, arm, topics.SEALED, EVENT, lambda at, arm, m: self.watch.sealed.append((at, arm, m)))
            self._json(EpisodeState, arm, topics.STATE, LATCHED, lambda at, arm, m: self.watch.states.append((at, arm, m)))
            self._target(arm)
        self._json(LearnerStatus, "", topics.STATUS, LATCHED, lambda at, _, m: self.watch.learner.append((at, m)))
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_health, EVENT)

    def _json(self, kind: type[Message], arm: str, topic: str, qos: Any, keep: Callable[[int, str, Any], object]) -> None:
        def received(message: String) -> None:
            keep(time.monotonic_ns(), arm, kind.from_json(message.data))

        self.create_subscription(String, topics.of(arm, topic), received, qos)

    def _target(self, arm: str) -> None:
        def received(message: PoseStamped) -> None:
            stamp = message.header.stamp
            self.watch.targets.append((time.monotonic_ns(), arm, stamp.sec * 10**9 + stamp.nanosec))

        self.create_subscription(PoseStamped, topics.of(arm, topics.TARGET), received, COMMAND)

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            self.watch.health[status.name] = time.monotonic_ns(), bytes(status.level), status.message, values


@contextmanager
def observing(arms: tuple[str, ...]) -> Iterator[Watch]:
    """An observer spinning in a thread of its own."""
    init()
    observer = Observer(arms)
    executor = SingleThreadedExecutor()
    executor.add_node(observer)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield observer.watch
    finally:
        stop.set()
        thread.join()
        executor.shutdown()
        observer.destroy_node()
        try_shutdown()


def wait_until(condition: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until ``condition`` held, None when it did not in time."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if condition():
            return time.monotonic() - start
        time.sleep(0.01)
    return None


def spool_of(run: Path) -> Path:
    return run / "practice"
