"""What the arbiter hears of the arm and of the human, from ROS to its core."""

from __future__ import annotations

from collections.abc import Callable

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.messages import MessageError
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import JointState, Joy, PoseStamped, TwistStamped, WrenchStamped
from irevla_ros.ros.qos import COMMAND, SENSOR

OPEN_M, CLOSED_M = 0.08, 0.0


class RobotInputs:
    """Pose, and where the core watches them joints, wrench and deadman. ``pose_ns``: stamp of the newest pose in use, after
    which ``on_pose`` is called."""

    def __init__(self, node: GraphNode, core: Arbiter, frame: str, on_pose: Callable[[], object]) -> None:
        self._node, self._core, self._frame, self._on_pose = node, core, frame, on_pose
        self.pose_ns = -1
        node.create_subscription(PoseStamped, topics.POSE, self._pose, topics.observation_qos(node.lock_step))
        if core.config.margins.arm is not None:
            node.create_subscription(JointState, topics.JOINTS, self._joints, SENSOR)
        if core.config.force.watched:
            node.create_subscription(WrenchStamped, topics.WRENCH, self._wrench, SENSOR)
        if core.config.deadman_ns:
            node.create_subscription(Joy, topics.DEADMAN, self._deadman, SENSOR)

    def _pose(self, message: PoseStamped) -> None:
        if message.header.frame_id != self._frame:
            self._node.refuse(topics.POSE, MessageError(f"pose in frame {message.header.frame_id[:40]!r}",
                                                        f"it is {self._frame!r}", "set `frame`, or transform it"))  # fmt: skip
            return
        at, turn, stamp_ns = message.pose.position, message.pose.orientation, convert.stamp_of(message.header)
        self._node.seen(stamp_ns)
        if self._core.pose((at.x, at.y, at.z), (turn.x, turn.y, turn.z, turn.w), stamp_ns, self._node.wall_ns()):
            self.pose_ns = stamp_ns
            self._on_pose()

    def _joints(self, message: JointState) -> None:
        stamp_ns = convert.stamp_of(message.header)
        self._core.joints(list(message.name), list(message.position), stamp_ns, self._node.wall_ns())

    def _wrench(self, message: WrenchStamped) -> None:
        force, torque = message.wrench.force, message.wrench.torque
        self._core.wrench((force.x, force.y, force.z), (torque.x, torque.y, torque.z), convert.stamp_of(message.header),
                          self._node.wall_ns())  # fmt: skip

    def _deadman(self, message: Joy) -> None:
        held, stamp_ns = list(message.buttons[:1]) == [1], convert.stamp_of(message.header)
        self._core.deadman(held, stamp_ns, self._node.now_ns(), self._node.wall_ns())


class HumanInputs:
    """The teleoperation node's twist and gripper wish."""

    def __init__(self, node: GraphNode, core: Arbiter, frame: str) -> None:
        self._node, self._core, self._frame = node, core, frame
        self.grip: float | None = None  # -1 close to +1 open, None as it is
        self._released_ns = -1
        node.create_subscription(TwistStamped, topics.TWIST, self._twist, COMMAND)
        node.create_subscription(JointState, topics.TELEOP_GRIPPER, self._gripper, COMMAND)

    def _twist(self, message: TwistStamped) -> None:
        frame, twist = message.header.frame_id, message.twist
        deadman = frame != topics.RELEASED
        if not deadman:
            self.grip, self._released_ns = None, convert.stamp_of(message.header)
        linear: tuple[float, ...] = (twist.linear.x, twist.linear.y, twist.linear.z)
        if deadman and frame != self._frame:
            self._node.refuse(topics.TWIST, MessageError(f"twist in frame {frame[:40]!r}", f"it is {self._frame!r}",
                                                         "the arm holds while it is sent; transform it"))  # fmt: skip
            linear = ()  # the human is there all the same
        angular = twist.angular.x, twist.angular.y, twist.angular.z
        self._core.human(deadman, linear, angular, self.grip, convert.stamp_of(message.header), self._node.wall_ns())

    def _gripper(self, message: JointState) -> None:
        if convert.stamp_of(message.header) <= self._released_ns:
            return  # overtaken by the release, which ended that wish
        try:
            self.grip = 1.0 if convert.width_of(message) > (OPEN_M + CLOSED_M) / 2 else -1.0
        except MessageError as error:
            self._node.refuse(topics.TELEOP_GRIPPER, error)
