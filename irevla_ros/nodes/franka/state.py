"""What the arm is doing, from whatever its driver publishes, passed on to the graph at a rate that Python bears.

``<broadcaster>/robot_state`` has it all, a thousand times a second; read are the newest few. Without franka_msgs pose, joints
and wrench come from the broadcaster's best-effort topics, and faults show in the hardware component alone. Under fake hardware
there is no broadcaster: the pose is computed from joint_state_broadcaster's joints. All of them may go on with new stamps when
the robot is gone (Humble), so nothing is passed on but while the hardware component is active.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.serialization import deserialize_message

from irevla_ros.core.durations import SECOND
from irevla_ros.core.health import Level
from irevla_ros.core.kinematics import arm_joints, forward
from irevla_ros.core.messages import MessageError
from irevla_ros.core.robot_fault import Fault, fault_of
from irevla_ros.core.rotation import Pose, Vector
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.franka.controllers import Controllers
from irevla_ros.nodes.franka.silence import Silence
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import FrankaConfig
from irevla_ros.ros import HistoryPolicy, QoSProfile, ReliabilityPolicy
from irevla_ros.ros.messages import JointState, PoseStamped, WrenchStamped
from irevla_ros.ros.qos import SENSOR

try:
    from franka_msgs.msg import FrankaRobotState
except ImportError:
    FrankaRobotState = None
HAS_FRANKA_MSGS = FrankaRobotState is not None

JOINTS = "franka/joint_states"  # of joint_state_broadcaster: joint_states are joint_state_publisher's, which never falls silent
NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
AGES = 50


class ArmState:
    """The newest of everything, None where nothing came or it was wrong: pose (base frame), joints [7] (rad), mode, errors, and
    ``last_errors``, those that aborted the last motion.

    ``silence``: since a state of any kind came last. ``ages_s``: of the last states, this
    host's time at arrival minus their stamp. ``source``: which topic gives the pose; ``problem``: why the newest is not taken.
    ``speaks``: pass it on to the graph.
    """

    def __init__(self, node: GraphNode, config: FrankaConfig, controllers: Controllers, speaks: bool = True) -> None:
        self._node, self._config, self._controllers = node, config, controllers
        self.pose: Pose | None = None
        self.joints: Vector | None = None
        self.joints_wall_ns = -1
        self.mode: int | None = None
        self.errors: tuple[str, ...] = ()
        self.last_errors: tuple[str, ...] = ()
        self.silence = Silence(node)
        self.ages_s: deque[float] = deque(maxlen=AGES)
        self.source = ""
        self.problem: MessageError | None = None
        self._error_names = tuple(FrankaRobotState().current_errors.get_fields_and_field_types()) if FrankaRobotState else ()
        self._poses = node.create_publisher(PoseStamped, topics.POSE, SENSOR) if speaks else None
        self._wrenches = node.create_publisher(WrenchStamped, topics.WRENCH, SENSOR) if speaks else None
        self._joint_states = node.create_publisher(JointState, topics.JOINTS, SENSOR) if speaks else None
        name = config.of_driver(config.broadcaster)
        if FrankaRobotState is not None:
            self._read(FrankaRobotState, f"{name}/robot_state", self._on_state)
        else:
            self._read(PoseStamped, f"{name}/current_pose", self._on_pose)
            self._read(JointState, f"{name}/measured_joint_states", self._on_joints)
            self._read(WrenchStamped, f"{name}/external_wrench_in_base_frame", self._on_wrench)
        self._read(JointState, config.of_driver(JOINTS), self._on_joints_alone)

    def _read(self, kind: Any, topic: str, take: Callable[[Any], object]) -> None:
        """Take the newest message of a topic, ``state_hz`` times a second at most; the rest is not even decoded."""
        period_ns, last = round(SECOND / self._config.state_hz), [0]

        def received(raw: bytes) -> None:
            wall_ns = self._node.wall_ns()
            if wall_ns - last[0] < 0.9 * period_ns:
                return
            last[0] = wall_ns
            self._take(topic, take, deserialize_message(raw, kind))

        native: Any = self._node
        native.create_subscription(kind, topic, received, NEWEST, raw=True)

    def _take(self, topic: str, take: Callable[[Any], object], message: Any) -> None:
        try:
            take(message)
        except MessageError as error:
            self._node.refuse(topic, error)

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_state(self, state: Any) -> None:
        """Whatever is wrong with one part of it, the others count, mode and errors first of all."""
        self._heard(state.header)
        self.mode = state.robot_mode
        self.errors, self.last_errors = (tuple(name for name in self._error_names if getattr(errors, name))
                                         for errors in (state.current_errors, state.last_motion_errors))  # fmt: skip
        for part, take in ((state.o_f_ext_hat_k, self._on_wrench), (state.measured_joint_state, self._on_joints),
                           (state.o_t_ee, self._on_pose)):  # fmt: skip
            part.header.stamp = state.header.stamp
            self._take(f"{self._config.broadcaster}/robot_state", take, part)

    def _on_wrench(self, message: WrenchStamped) -> None:
        self._pass_on(self._wrenches, message)

    def _on_pose(self, message: PoseStamped) -> None:
        self._heard(message.header)
        frame, self.pose = message.header.frame_id, None
        try:
            if frame != self._config.frame:
                raise MessageError(f"the robot's pose is in frame {frame[:40]!r}", f"it is {self._config.frame!r}",
                                   "set the parameter `frame` of franka, arbiter and teleop to it")  # fmt: skip
            self._say(convert.pose_of(message), message.header, self._config.broadcaster)
        except MessageError as error:
            self.problem = error
            raise

    def _on_joints(self, message: JointState) -> None:
        self.joints = None
        self.joints, self.joints_wall_ns = arm_joints(message.name, message.position), self._node.wall_ns()
        self._pass_on(self._joint_states, message)

    def _on_joints_alone(self, message: JointState) -> None:
        """Where the driver has no state broadcaster; if it has one, its silence means something."""
        if self._controllers.hardware == "active" and self._config.broadcaster not in self._controllers.states:
            self._on_joints(message)
            assert self.joints is not None
            self._heard(message.header)
            self._say(forward(self.joints), message.header, JOINTS)

    def _heard(self, header: Any) -> None:
        self.silence.heard()
        stamp_ns = convert.stamp_of(header)
        self.ages_s.append((self._node.now_ns() - stamp_ns) / SECOND)
        self._node.seen(stamp_ns)

    def _say(self, pose: Pose, header: Any, source: str) -> None:
        self.pose, self.source, self.problem = pose, source, None
        self._pass_on(self._poses, convert.pose_message(pose, convert.stamp_of(header), self._config.frame))

    def _pass_on(self, publisher: Any, message: Any) -> None:
        if publisher is not None and self._controllers.hardware == "active":
            publisher.publish(message)

    # ---- questions -----------------------------------------------------------------------------------------------

    def said(self) -> bool:
        """Whether a state of any kind came a moment ago, right or wrong."""
        return self.silence.lasts_ns() <= self._config.silent_ns

    def fresh(self) -> bool:
        return self.pose is not None and self.said()

    def fault(self) -> Fault | None:
        mode, errors = (self.mode, self.errors) if self.said() else (None, ())
        return fault_of(mode, errors, self._controllers.hardware, self.silence.lasts_ns(), self._config.silent_ns)

    def update_health(self) -> None:
        if self.problem is not None:
            self._node.health.check("state", Level.ERROR, str(self.problem))
        elif not self.fresh():
            self._node.health.check("state", Level.STALE, f"nothing for {self.silence.lasts_ns() / SECOND:.1f} s")
        elif FrankaRobotState is None:
            self._node.health.check("state", Level.WARN, "franka_msgs does not import: reflexes are seen late")
        else:
            self._node.health.check("state", Level.OK, f"from {self.source}")
