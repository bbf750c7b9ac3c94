"""The gate between arbiter and arm: targets of the arbiter alone, and only while a run is on and nothing is wrong.

The arbiter publishes ``arbiter/target_pose``; what goes through is published on the topic that the arm's controller listens to,
of which this node is the only publisher: crisp_controllers ignore a topic of two. When this process dies, nothing is commanded
any more, as when the arbiter does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from irevla_ros.core.durations import SECOND
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose
from irevla_ros.core.servo import twist_towards
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.franka.state import ArmState
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import Commands, FrankaConfig
from irevla_ros.ros.messages import PoseStamped, TwistStamped
from irevla_ros.ros.qos import COMMAND

SERVO = "servo_node/delta_twist_cmds"


class Command(ABC):
    """What an arm's controller is told. ``topic``: where; ``hold``: that it is to stay where it is; ``halt``: that the
    last target is not to be followed any longer."""

    topic: str

    @abstractmethod
    def follow(self, target: Pose, stamp_ns: int) -> None: ...

    @abstractmethod
    def hold(self, measured: Pose, stamp_ns: int) -> None: ...

    @abstractmethod
    def halt(self) -> None: ...


class CrispCommand(Command):
    """A pose, as it came: the controller goes on to the last one for ever."""

    def __init__(self, node: GraphNode, config: FrankaConfig) -> None:
        self._frame = config.frame
        self._target = node.create_publisher(PoseStamped, config.of_driver(topics.TARGET), COMMAND)
        self.topic = self._target.topic_name

    def follow(self, target: Pose, stamp_ns: int) -> None:
        self._target.publish(convert.pose_message(target, stamp_ns, self._frame))

    def hold(self, measured: Pose, stamp_ns: int) -> None:
        self.follow(measured, stamp_ns)

    def halt(self) -> None:
        """Its last target is within the limits; a measured pose need not be, and after a fault is not to be gone to."""


class ServoCommand(Command):
    """A twist towards the newest target, sent often and with fresh stamps as long as that is fresh; Servo stops without."""

    def __init__(self, node: GraphNode, config: FrankaConfig, state: ArmState) -> None:
        self._node, self._config, self._state = node, config, state
        self._twist = node.create_publisher(TwistStamped, config.of_driver(SERVO), COMMAND)
        self.topic = self._twist.topic_name
        self._target: Pose | None = None
        self._wall_ns = 0
        node.every(1.0 / config.servo.hz, self._tick)

    def follow(self, target: Pose, stamp_ns: int) -> None:
        self._target, self._wall_ns = target, self._node.wall_ns()
        self._tick()

    def hold(self, measured: Pose, stamp_ns: int) -> None:
        self.halt()

    def halt(self) -> None:
        if self._target is not None:
            self._target = None
            self._say(TwistStamped())

    def _tick(self) -> None:
        config, measured = self._config, self._state.pose
        fresh = self._node.wall_ns() - self._wall_ns <= config.target_ns and self._state.fresh()
        if self._target is None or measured is None or not fresh:
            return
        servo, message = config.servo, TwistStamped()
        move, turn = twist_towards(self._target, measured, servo.gain_hz, servo.linear_m_s, servo.angular_rad_s)
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z = move.tolist()
        angular.x, angular.y, angular.z = turn.tolist()
        self._say(message)

    def _say(self, message: TwistStamped) -> None:
        message.header = convert.header(self._node.now_ns(), self._config.frame)
        self._twist.publish(message)


def command_of(node: GraphNode, config: FrankaConfig, state: ArmState) -> Command:
    return ServoCommand(node, config, state) if config.command is Commands.SERVO else CrispCommand(node, config)


class Gate:
    """Passes on the arbiter's targets while ``closed`` says "": else it says why not (``close``)."""

    def __init__(self, node: GraphNode, config: FrankaConfig, command: Command) -> None:
        self._node, self._config, self._command = node, config, command
        self.closed = "there was no run yet"
        self._targets = node.create_subscription(PoseStamped, topics.TARGET_IN, self._on_target, COMMAND)

    def close(self, why: str) -> None:
        """"" opens it."""
        if why and not self.closed:
            self._command.halt()
        self.closed = why

    def _on_target(self, message: PoseStamped) -> None:
        try:
            self._check(message)
            pose = convert.pose_of(message)
        except MessageError as error:
            self._node.refuse(topics.TARGET_IN, error)
            return
        self._command.follow(pose, convert.stamp_of(message.header))

    def _check(self, message: PoseStamped) -> None:
        if self.closed:
            raise MessageError("a target", f"the arm is not commanded now: {self.closed}", "wait for the run")
        require_sender(self._node, self._targets, self._config.arbiter)
        require_alone(self._node, self._command.topic, self._node.get_name())
        if message.header.frame_id != self._config.frame:
            raise MessageError(f"target in frame {message.header.frame_id[:40]!r}", f"it is {self._config.frame!r}",
                               "set the parameter `frame` of franka and arbiter alike")  # fmt: skip
        age_ns = self._node.now_ns() - convert.stamp_of(message.header)
        if abs(age_ns) > self._config.oldest_ns:
            raise MessageError(f"a target of {age_ns / SECOND:.2f} s ago",
                               f"at most {self._config.oldest_ns / SECOND:g} s, either way",
                               "synchronise the clocks of both hosts")  # fmt: skip


def require_sender(node: GraphNode, subscription: Any, name: str) -> None:
    """``require_alone`` for what was heard. A subscription is matched with a new publisher, and may have heard it, before the
    graph lists it; Humble's rclpy cannot tell."""
    require_alone(node, subscription.topic_name, name)
    matched = getattr(subscription, "get_publisher_count", lambda: 1)()
    if matched > 1:
        raise MessageError(f"a command, with {matched} publishing {subscription.topic_name}", f"only {name} does",
                           "stop the others")  # fmt: skip


def require_alone(node: GraphNode, topic: str, name: str) -> None:
    """MessageError unless the node ``name`` of this namespace, and nobody else, publishes ``topic``."""
    native: Any = node
    publishers = [full_name(one) for one in native.get_publishers_info_by_topic(topic)]
    expected = f"{node.get_namespace().rstrip('/')}/{name}"
    if publishers != [expected]:
        raise MessageError(f"a command, with {', '.join(publishers) or 'nobody'} publishing {topic}",
                           f"only {expected} does", "stop the others")  # fmt: skip


def full_name(endpoint: Any) -> str:
    """Of the node that an endpoint belongs to."""
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
