"""Whether the arm may be moved past the arbiter: by a reset, or a recovery. The arbiter says so, ten times a second."""

from __future__ import annotations

from collections.abc import Callable

from irevla_ros.core.durations import MILLISECOND, SECOND
from irevla_ros.core.graph_messages import Consent
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.nodes import topics
from irevla_ros.nodes.franka.command import require_sender
from irevla_ros.nodes.franka.procedure import LOOK_S, RobotError, Steps, pause
from irevla_ros.nodes.franka.silence import Silence
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import FrankaConfig
from irevla_ros.ros.qos import COMMAND

FRESH_NS = 300 * MILLISECOND
SILENT = "the arbiter is silent"


class ArbiterConsent:
    """``engaged``: the operator has called ``arbiter/engage``, as said last; ``engaged_anew``: since this began to listen.
    ``on_news`` is called with each word of it."""

    def __init__(self, node: GraphNode, config: FrankaConfig, on_news: Callable[[], object]) -> None:
        self._node, self._config, self._on_news = node, config, on_news
        self._newest: Consent | None = None
        self._silence = Silence(node)
        self.engaged_anew = False
        self._words = node.listen(Consent, topics.CONSENT, self._heard, COMMAND)

    @property
    def engaged(self) -> bool:
        return self._newest is not None and self._newest.engaged

    def objection(self, engaged: bool = True) -> str:
        """Why nothing may move the arm now, "" when it may. ``engaged``: the operator's engage is needed, too."""
        newest = self._newest
        if newest is None or self._silence.lasts_ns() > FRESH_NS:
            return SILENT
        if newest.hindrance:
            return newest.hindrance
        return "the operator has not called arbiter/engage" if engaged and not newest.engaged else ""

    def wait(self, engaged: bool = True) -> Steps:
        """Until nothing speaks against a motion; RobotError with what still does after ``consent_ns``."""
        end_ns = self._node.wall_ns() + self._config.consent_ns
        try:
            while objection := self.objection(engaged):
                self._node.health.check("consent", Level.WARN, f"waiting: {objection}")
                if self._node.wall_ns() >= end_ns:
                    raise RobotError("the arbiter does not consent", objection, "see arbiter/engage, resume in docs/safety.md")
                yield from pause(self._node, LOOK_S)
        finally:
            self._node.health.check("consent", Level.OK)

    def _heard(self, consent: Consent) -> None:
        age_ns = self._node.now_ns() - consent.stamp_ns
        try:
            require_sender(self._node, self._words, self._config.arbiter)
            if abs(age_ns) > FRESH_NS:
                raise MessageError(f"consent of {age_ns / SECOND:.2f} s ago", f"at most {FRESH_NS / SECOND:g} s, either way",
                                   "synchronise the clocks of both hosts")  # fmt: skip
        except MessageError as error:
            self._node.refuse(topics.CONSENT, error)
            return
        self.engaged_anew |= consent.engaged and self._newest is not None and not self._newest.engaged
        self._newest = consent
        self._silence.heard()
        self._on_news()
