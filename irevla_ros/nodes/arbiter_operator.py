"""The operator's services at the arbiter: may the arm be moved, stop it now, go on after a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from irevla_ros.core.arbiter_config import Refused
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import Trigger


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
                response.success, response.message = True, name
            self._node.get_logger().info(f"operator: {name}{'' if response.success else f' refused: {response.message}'}")
            return response

        return asked
