"""``use_sim_time``: while it is set, the node's clock shows what ``/clock`` said last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from irevla_ros.ros.embedded import qos
from irevla_ros.ros.embedded.clock import ROSClock
from irevla_ros.ros.embedded.parameter import Parameter, SetParametersResult
from irevla_ros.ros.embedded.subscription import Subscription
from irevla_ros.ros.embedded.time import Time
from irevla_ros.ros.embedded.types.message import message_class

if TYPE_CHECKING:
    from irevla_ros.ros.embedded.node import Node

_NAME = "use_sim_time"
ClockMsg = message_class("rosgraph_msgs/msg/Clock")


class TimeSource:
    """Declares the parameter on its node and follows it, also when it is set later."""

    def __init__(self, node: Node, clock: ROSClock) -> None:
        self._node = node
        self._clock = clock
        self._subscription: Subscription | None = None
        self._follow(node.declare_parameter(_NAME, False).value)
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: list[Parameter]) -> Any:
        for parameter in parameters:
            if parameter.name == _NAME:
                self._follow(parameter.value)
        return SetParametersResult(successful=True)

    def _follow(self, simulated: bool) -> None:
        self._clock._set_ros_time_is_active(simulated)
        if simulated and self._subscription is None:
            self._subscription = self._node.create_subscription(ClockMsg, "/clock", self._on_clock, qos.CLOCK)
        elif not simulated and self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _on_clock(self, message: Any) -> None:
        self._clock.set_ros_time_override(Time.from_msg(message.clock))
