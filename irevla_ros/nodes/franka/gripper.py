"""The Franka Hand by franka_gripper's actions: on a binary change, ``stop`` first, and without ever waiting in a callback.

The server takes every goal and works on one while the next waits, so a goal is sent only once the last was stopped.
"""

from __future__ import annotations

from typing import Any

from rclpy.action import ActionClient

from irevla_ros.core.durations import SECOND
from irevla_ros.core.gripper import GripperSwitch
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.franka.command import require_sender
from irevla_ros.nodes.franka.procedure import Procedure, RobotError, Steps, achieve, ask
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import FrankaConfig
from irevla_ros.ros.messages import JointState, Trigger
from irevla_ros.ros.qos import COMMAND, SENSOR

try:
    from franka_msgs.action import Grasp, Move
except ImportError:
    Grasp = Move = None

HAND = "franka_gripper"
MOTION_S = 6.0  # the whole way at 0.02 m/s, and a grasp's force


class Gripper:
    """``closed`` says why commands are not listened to, "" while they are; ``width_m``: as measured, None before."""

    def __init__(self, node: GraphNode, config: FrankaConfig) -> None:
        self._node, self._config, self._arbiter = node, config.gripper, config.arbiter
        self._name = hand = config.of_driver(HAND)
        self._timeout_s = config.recovery.step_ns / SECOND
        self._switch = GripperSwitch(config.gripper)
        self._working: Procedure | None = None
        self._told: bool | None = None  # what was sent last
        self.closed = "there was no run yet"
        self.width_m: float | None = None
        self._stop = node.create_client(Trigger, f"{hand}/stop")
        if Move is not None:
            self._move = ActionClient(node, Move, f"{hand}/move")
            self._grasp = ActionClient(node, Grasp, f"{hand}/grasp")
        else:
            from control_msgs.action import GripperCommand

            self._kind = GripperCommand
            self._either = ActionClient(node, GripperCommand, f"{hand}/gripper_action")
        self._states = node.create_publisher(JointState, topics.GRIPPER, SENSOR)
        node.create_subscription(JointState, f"{hand}/joint_states", self._on_state, SENSOR)
        self._commands = node.create_subscription(JointState, topics.GRIPPER_COMMAND, self._on_command, COMMAND)

    def forget(self) -> None:
        """The wish under way ends, and what the gripper did since is not known: the next one counts as a change."""
        self._switch.forget()
        self._told = None
        if self._working is not None:
            self._working.cancel()

    def opened(self) -> bool:
        return self.width_m is not None and self.width_m >= self._config.open_above_m

    def to(self, opened: bool) -> Steps:
        """Stop what it does, then open or close it. RobotError and ServiceTimeout when that fails."""
        answer = yield from ask(self._node, self._stop, Trigger.Request(), self._timeout_s)
        if not answer.success:
            raise RobotError(f"{self._name}/stop", f"failed: {answer.message}", "is the hand initialised in Desk, and homed?")
        self._told = opened
        try:
            yield from self._goal(opened)
        except RobotError as error:
            if opened:
                raise
            self._node.health.counts["gripper.closed_on_nothing"] += 1  # a grasp without an object fails, and is closed
            self._node.get_logger().debug(str(error))

    def _goal(self, opened: bool) -> Steps:
        config, node = self._config, self._node
        width = config.open_m if opened else 0.0
        if Move is None:
            goal: Any = self._kind.Goal()
            goal.command.position, goal.command.max_effort = width / 2, config.force_n
            yield from achieve(node, self._either, goal, MOTION_S, f"{self._name}/gripper_action")
        elif opened or not config.grasp:
            yield from achieve(node, self._move, Move.Goal(width=width, speed=config.speed_m_s), MOTION_S, f"{self._name}/move")
        else:
            goal = Grasp.Goal(width=width, speed=config.speed_m_s, force=config.force_n)
            goal.epsilon.inner = goal.epsilon.outer = config.open_m  # whatever is between the fingers will do
            yield from achieve(node, self._grasp, goal, MOTION_S, f"{self._name}/grasp")

    def _on_state(self, message: JointState) -> None:
        try:
            self.width_m = convert.width_of(message)
        except MessageError as error:
            self._node.refuse(f"{self._name}/joint_states", error)
            return
        self._states.publish(message)

    def _on_command(self, message: JointState) -> None:
        if self.closed:
            self._node.health.counts["gripper.unheeded"] += 1
            return
        try:
            require_sender(self._node, self._commands, self._arbiter)
            width = convert.width_of(message)
        except MessageError as error:
            self._node.refuse(topics.GRIPPER_COMMAND, error)
            return
        if self._switch.wish(width):
            self._start()

    def _start(self) -> None:
        """A newer wish ends the work on the last: ``stop`` comes before its goal."""
        wanted = self._switch.wanted
        if wanted is None or wanted is self._told:
            return
        if self._working is not None:
            self._working.cancel()
        self._node.health.counts["gripper.changes"] += 1
        self._working = Procedure(self.to(wanted), self._ended)

    def _ended(self, failure: str) -> None:
        if failure:
            self._told = None
            self._node.warn_rarely("gripper", f"gripper: {failure}")
        self._node.health.check("gripper", Level.ERROR if failure else Level.OK, failure)


