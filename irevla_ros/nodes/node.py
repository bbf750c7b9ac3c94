"""What every node of the graph shares: its health on /diagnostics, JSON topics, the episode's state, and its clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import IrevlaError
from irevla_ros.core.health import Health, RateLimit
from irevla_ros.core.messages import Message, MessageError
from irevla_ros.nodes import topics
from irevla_ros.nodes.parameters.reading import Reader, read_node, reader_of
from irevla_ros.ros import (
    Clock,
    ClockType,
    Node,
    Parameter,
    ParameterDescriptor,
    QoSProfile,
    SetParametersResult,
    Subscription,
    Timer,
)
from irevla_ros.ros.messages import DiagnosticArray, DiagnosticStatus, KeyValue, String
from irevla_ros.ros.qos import EVENT, LATCHED
from irevla_ros.ros.run import refuse_undeclared

M = TypeVar("M", bound=Message)
S = TypeVar("S")
REPORT_S = 1.0


class GraphNode(Node):
    """A node with ``health`` (reported once a second) and the clocks of the graph.

    lock_step: there is no clock but the observations' stamps; ``seen`` notes them and ``now_ns`` is the newest. Else
    ``now_ns`` is ROS time. ``wall_ns`` is monotonic and never stops.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.health = Health()
        self.lock_step = False
        self._run_id = ""
        self._followed: dict[str, EpisodeState] = {}
        self._newest_ns = 0
        self._limit = RateLimit()
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, EVENT)
        self.every(REPORT_S, self._report)

    def declare(self, settings: Callable[[Reader], S], tune: Callable[[S], object] | None = None) -> S:
        """The node's parameters as ``settings`` reads them. ConfigError for a wrong value, and for a name that was given for
        this very node and that it does not have. They are read-only, but for those that ``tuning.limit`` marks where ``tune``
        takes what they are changed to; it raises IrevlaError to refuse."""
        name = self.get_fully_qualified_name()
        reader = Reader(f"parameters of {name}", partial(_declared, self, tune is not None))
        common, found = read_node(reader, settings)
        refuse_undeclared(name, reader.names)
        self._run_id = common.run_id
        if tune is not None:
            self._tune_by(settings, tune, reader.names)
        return found

    def _tune_by(self, settings: Callable[[Reader], S], tune: Callable[[S], object], values: dict[str, Any]) -> None:
        def changed(parameters: list[Parameter]) -> Any:
            wanted = values | {one.name: one.value for one in parameters}
            try:
                tune(settings(reader_of(f"parameters of {self.get_fully_qualified_name()}", wanted)))
            except IrevlaError as error:
                return SetParametersResult(successful=False, reason=str(error))
            values.update(wanted)
            return SetParametersResult(successful=True)

        self.add_on_set_parameters_callback(changed)

    # ---- clocks --------------------------------------------------------------------------------------------------

    def wall_ns(self) -> int:
        return time.monotonic_ns()

    def now_ns(self) -> int:
        return self._newest_ns if self.lock_step else self.get_clock().now().nanoseconds

    def seen(self, stamp_ns: int) -> None:
        self._newest_ns = max(self._newest_ns, stamp_ns)

    def every(self, period_s: float, callback: Callable[[], object]) -> Timer:
        """A timer on wall time: it runs even when the graph's clock stands still."""
        return self.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # ---- JSON topics ---------------------------------------------------------------------------------------------

    def listen(self, kind: type[M], topic: str, callback: Callable[[M], object], qos: QoSProfile = EVENT) -> Subscription:
        """Messages of ``kind`` as JSON; a malformed one is counted and logged at most once a second, never raised."""

        def received(message: String) -> None:
            try:
                parsed = kind.from_json(message.data)
            except MessageError as error:
                self.refuse(topic, error)
                return
            callback(parsed)

        return self.create_subscription(String, topic, received, qos)

    def speak(self, kind: type[M], topic: str, qos: QoSProfile = EVENT) -> Callable[[M], None]:
        """A function that publishes messages of ``kind`` as JSON."""
        publisher = self.create_publisher(String, topic, qos)

        def say(message: M) -> None:
            publisher.publish(String(data=message.to_json()))

        return say

    def follow(self, callback: Callable[[EpisodeState], object], arm: str = "") -> None:
        """Every state of the arm's episode that is news, and of the run that this node belongs to."""
        newest: list[EpisodeState] = []

        def received(state: EpisodeState) -> None:
            if self._run_id and state.run_id != self._run_id:
                error = MessageError(f"episode of run {state.run_id[:40]!r}", f"this is run {self._run_id!r}",
                                     "let graphs that see each other have domains or arms of their own")  # fmt: skip
                self.refuse(topics.STATE, error)
            elif state.supersedes(newest[0] if newest else None):
                newest[:] = [state]
                self._followed[arm] = state
                callback(state)

        self.listen(EpisodeState, topics.of(arm, topics.STATE), received, LATCHED)

    def expects_observations(self, arm: str = "") -> bool:
        """In lock step there are none outside of a run."""
        state = self._followed.get(arm)
        return not self.lock_step or (state is not None and state.phase is Phase.RUN)

    # ---- health --------------------------------------------------------------------------------------------------

    def refuse(self, what: str, error: Exception) -> None:
        """Count input that was refused, and log why, at most once a second for each ``what``."""
        self.health.counts[f"{what}.refused"] += 1
        self.warn_rarely(what, f"{what}: {error}")

    def warn_rarely(self, key: str, text: str) -> None:
        suppressed = self._limit.allow(key, self.wall_ns())
        if suppressed is not None:
            self.get_logger().warning(text + (f" ({suppressed} like it since the last)" if suppressed else ""))

    def update_health(self) -> None:
        """Called before each report: a node brings its checks and counts up to date here."""

    def _report(self) -> None:
        self.update_health()
        for one in self.io_statistics():
            for name in ("dropped", "malformed"):
                lost = getattr(one, name, 0)
                if lost:
                    self.health.absorb(one.topic, {name: lost})
        report = self.health.report(self.wall_ns())
        status = DiagnosticStatus(
            level=bytes([report.level]),
            name=self.get_fully_qualified_name(),
            message=report.message,
            values=[KeyValue(key=key, value=value) for key, value in report.values],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _declared(node: Node, tunable: bool, name: str, default: Any, description: str, live: bool) -> Any:
    descriptor = ParameterDescriptor(dynamic_typing=True, read_only=not (tunable and live), description=description)
    return node.declare_parameter(name, default, descriptor).value
