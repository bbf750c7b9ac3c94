"""How far the clock of the graph's other host is off, measured now and again by a node that depends on stamps of both."""

from __future__ import annotations

from irevla_ros.core.arbiter_config import Refused
from irevla_ros.core.durations import MILLISECOND, SECOND
from irevla_ros.core.health import Level
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros import Future
from irevla_ros.ros.clock_offset import Offset, ask, clock_service
from irevla_ros.ros.errors import ServiceTimeout
from irevla_ros.ros.messages import Trigger

LOOK_S = 1.0
EVERY_NS = 10 * SECOND  # while it is as it should be; else at each look
KEPT_NS = 60 * SECOND  # crystals drift apart by some ms in that time
SILENT = "nobody there tells the time"


class ClockWatch:
    """``problem`` says why stamps of ``host`` are not to be relied on; the node's finding ``clock`` shows what was measured."""

    def __init__(self, node: GraphNode, host: str, limit_ns: int) -> None:
        self._node, self._host, self._limit_ns = node, host, limit_ns
        self._client = node.create_client(Trigger, clock_service(host))
        self._offset: Offset | None = None
        self._failure = SILENT
        self._measured_ns = 0  # wall
        self._asking = False
        node.every(LOOK_S, self._look)

    def problem(self) -> Refused | None:
        """None where the clocks were within the limit of each other, not long ago."""
        offset, limit = self._offset, f"{self._limit_ns / MILLISECOND:g} ms"
        if offset is None:
            return Refused(f"clock of host {self._host}", f"not known to be within {limit} of this one ({self._failure})",
                           f"start the graph's side {self._host}, and see to the link (irevla doctor --clocks)")  # fmt: skip
        age_ns = self._node.wall_ns() - self._measured_ns
        if age_ns > KEPT_NS:
            return Refused(f"clock of host {self._host}",
                           f"measured {age_ns / SECOND:.0f} s ago, limit {KEPT_NS // SECOND} s ({self._failure})",
                           f"see to the link, and to the graph's side {self._host}")  # fmt: skip
        if not offset.within(self._limit_ns / SECOND):
            return Refused(f"clock of host {self._host} {offset}", f"no more than {limit} may be between the clocks",
                           "synchronise both hosts (chrony, PTP)")  # fmt: skip
        return None

    def _look(self) -> None:
        problem = self._show()
        due = problem is not None or self._node.wall_ns() - self._measured_ns >= EVERY_NS
        if not self._client.service_is_ready():
            self._failure = SILENT
        elif due and not self._asking:
            self._asking = True
            ask(self._node, self._client).add_done_callback(self._answered)

    def _answered(self, answer: Future) -> None:
        self._asking = False
        error = answer.exception()
        if error is None:
            self._offset, self._measured_ns = answer.result(), self._node.wall_ns()
        else:
            self._failure = str(error)
            if not isinstance(error, ServiceTimeout):
                self._offset = None  # a clock was set meanwhile: what was measured before says nothing any more
        self._show()

    def _show(self) -> Refused | None:
        problem = self.problem()
        level, text = (Level.OK, f"{self._host} {self._offset}") if problem is None else (Level.ERROR, str(problem))
        self._node.health.check("clock", level, text)
        return problem
