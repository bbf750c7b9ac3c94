"""From a fault back to an arm that follows: franka_ros2's documented sequence, for Humble and Jazzy alike."""

from __future__ import annotations

from rclpy.action import ActionClient

from irevla_ros.core.durations import SECOND
from irevla_ros.nodes.franka.command import Command
from irevla_ros.nodes.franka.controllers import MISSING, Controllers
from irevla_ros.nodes.franka.procedure import LOOK_S, RobotError, Steps, achieve, pause, until
from irevla_ros.nodes.franka.state import ArmState
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import FrankaConfig

try:
    from franka_msgs.action import ErrorRecovery
except ImportError:
    ErrorRecovery = None

NAME = "action_server/error_recovery"
GOES_DOWN_S = 1.0  # by then a fault has taken the hardware component down, or will not


class Recovery:
    def __init__(self, node: GraphNode, config: FrankaConfig, state: ArmState, controllers: Controllers,
                 command: Command) -> None:  # fmt: skip
        self._node, self._config, self._state = node, config, state
        self._controllers, self._command = controllers, command
        self._timeout_s = config.recovery.step_ns / SECOND
        self._name = config.of_driver(NAME)
        self._action = ActionClient(node, ErrorRecovery, self._name) if ErrorRecovery is not None else None

    def unattended(self) -> Steps:
        """``steps`` where no human has looked: once what the fault takes down is down, in the midst of which a switch is
        refused, and only where the robot names what stopped it, which it does not after a user stop."""
        node, controllers = self._node, self._controllers
        end_ns = node.wall_ns() + round(GOES_DOWN_S * SECOND)
        yield from controllers.look()
        while controllers.hardware == "active" and node.wall_ns() < end_ns:
            yield from pause(node, LOOK_S)
            yield from controllers.look()
        yield from self.steps(named=controllers.hardware != "active")

    def steps(self, named: bool = False) -> Steps:
        """Raises RobotError or ServiceTimeout with the step that failed; the arm is then as that step left it. named: the
        controller is not activated where the robot names no error."""
        controllers, follower = self._controllers, self._config.controller
        if self._action is None:
            raise RobotError("recovery", "franka_msgs does not import, and error_recovery is one of its actions",
                             "build franka_msgs (docs/franka.md), or recover by hand")  # fmt: skip
        yield from controllers.look()
        if controllers.hardware == MISSING:  # and so these are another arm's controllers
            raise RobotError(f"hardware component {self._config.hardware}", "the controller_manager has none of that name",
                             "set `arm_prefix`, or `driver`")  # fmt: skip
        broadcasters = sorted(controllers.broadcasters | {self._config.broadcaster} & set(controllers.states))
        # Jazzy has deactivated them all; Humble leaves them active on hardware that is not (ros2_control#2318).
        yield from controllers.switch(deactivate=[name for name, state in controllers.states.items() if state == "active"])
        yield from achieve(self._node, self._action, ErrorRecovery.Goal(), self._timeout_s, self._name)
        yield from controllers.activate_hardware()
        yield from controllers.switch(activate=broadcasters)
        yield from self._news()
        if named and not self._state.last_errors:
            raise RobotError("the robot", "it names no error that stopped it: somebody may have, with the user stop",
                             "look at the arm, then call robot/recover")  # fmt: skip
        yield from self.follow_again()
        if (fault := self._state.fault()) is not None:
            raise RobotError("after the recovery", f"the arm still has a fault: {fault.what}", "look at the robot, and at Desk")
        self._node.get_logger().info(f"recovered; {follower or 'the arm'} follows again")

    def follow_again(self) -> Steps:
        """Activate the controller that follows the targets, where the arm stands: a target that reached it while it was
        inactive would be its first, so it is told the measured pose before."""
        yield from self._news()
        state, follower = self._state, self._config.controller
        if state.problem is not None:
            raise state.problem
        if not follower:
            return
        assert state.pose is not None
        self._command.hold(state.pose, self._node.now_ns())
        yield from self._controllers.switch(activate=[follower])

    def _news(self) -> Steps:
        """Until the robot has said something."""
        since, state = self._node.wall_ns(), self._state
        yield from until(self._node, lambda: state.silence.wall_ns > since, self._timeout_s, "a state from the robot")
