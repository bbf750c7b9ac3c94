"""The operator at the arbiter: may the arm be moved, stop it now, go on after a fault; and who else may move it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from irevla_ros.core.arbiter_config import Refused
from irevla_ros.core.durations import MILLISECOND
from irevla_ros.core.graph_messages import Consent
from irevla_ros.nodes import topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import Trigger
from irevla_ros.ros.qos import COMMAND

CONSENT_NS = 100 * MILLISECOND
DONE = {"engage": "the arm may be moved", "disengage": "the arm is not moved before the next engage",
        "stop": "the arm holds until resume", "resume": "what is engaged may move the arm again"}  # fmt: skip


class ConsentVoice:
    """Says ``arbiter/consent``, when it changes and ``CONSENT_NS`` after the last."""

    def __init__(self, node: GraphNode) -> None:
        self._node, self._publish = node, node.speak(Consent, topics.CONSENT, COMMAND)
        self._said: tuple[bool, str] | None = None
        self._sequence, self._said_wall_ns = 0, 0

    def say(self, engaged: bool, hindrance: str) -> None:
        now, wall_ns = (engaged, hindrance), self._node.wall_ns()
        if now != self._said or wall_ns - self._said_wall_ns >= CONSENT_NS:
            self._said, self._said_wall_ns, self._sequence = now, wall_ns, self._sequence + 1
            self._publish(Consent(self._node.now_ns(), self._sequence, *now))


class Operator:
    """``arbiter/engage``, ``disengage``, ``stop`` and ``resume``, all Trigger: each calls one of the functions, which raise
    Refused to say why not."""

    def __init__(self, node: GraphNode, **verbs: Callable[[], object]) -> None:
        self._node = node
        for name, verb in verbs.items():
            node.create_service(Trigger, f"arbiter/{name}", self._answer(name, verb))

    def _answer(self, name: str, verb: Callable[[], object]) -> Callable[[Any, Any], Any]:
        def asked(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                verb()
            except Refused as error:
                response.success, response.message = False, str(error)
            else:
                response.success, response.message = True, DONE[name]
            self._node.get_logger().info(f"operator: {name}{'' if response.success else f' refused: {response.message}'}")
            return response

        return asked
