"""A fake Franka graph on rclpy: franka_ros2's and crisp_controllers' names, types, QoS and quirks around a simulated arm.

`python test/franka_fake.py --ros-args -r __ns:=/left -p distro:=humble`. What is served, and how it behaves, is read from the
sources of franka_ros2 (branches humble and jazzy), crisp_controllers and MoveIt Servo; docs/franka.md lists it. Beside the
robot's own: the services ``fake/reflex`` (a collision), ``fake/user_stop`` (press or release), ``fake/scene`` (put the things
of the episode's task and seed on the table), and the topics of a camera and of ``sim/state``.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from franka_actions import ActionNode, GripperNode, JointTrajectory
from franka_arm import FakeArm
from franka_drivers import Broadcaster, ControllerManager, Crisp, Servo
from franka_robot import Robot
from irevla_ros.core.episode_state import EpisodeState
from irevla_ros.core.graph_messages import SimState
from irevla_ros.nodes.convert import header, image_message
from irevla_ros.ros.qos import EVENT, LATCHED, SENSOR

FINGERS = ["fr3_finger_joint1", "fr3_finger_joint2"]
PHYSICS_HZ, STATE_HZ, JOINT_HZ, TF_HZ, CAMERA_HZ = 60.0, 100.0, 30.0, 20.0, 10.0


class World(Node):
    """Physics, camera, and the hands of whoever stands beside the table. Parameters: see the constructor."""

    def __init__(self) -> None:
        super().__init__("fake_world")

        def parameter(name: str, default: Any) -> Any:
            return self.declare_parameter(name, default).value

        self.arm = FakeArm(parameter("suite", "demo"))
        distro, force, shows = parameter("distro", "jazzy"), parameter("reflex_n", 1000.0), parameter("fault_shows", True)
        self.fake_hardware = parameter("fake_hardware", False)
        prefix = parameter("arm_prefix", "")
        self.robot = Robot(self.arm, distro, force, shows, self.fake_hardware, prefix and f"{prefix}_")
        self.frame = parameter("frame", "base")
        self.rubbish = parameter("rubbish", "")  # the part of the state that is NaN: pose or joints, or now and then the joints
        self.tcp_off_m = parameter("tcp_off_m", 0.0)  # what Desk's end effector is off TF's
        for name in ("clock_off_s", "push_n"):  # these may be changed while it runs; the second is a force downwards
            self.declare_parameter(name, 0.0)
        self.hand_hangs = parameter("hand_hangs", False)  # its actions never end
        self.state_hz = parameter("state_hz", STATE_HZ)
        self._state: EpisodeState | None = None
        self._shown = [float(angle) for angle in self.arm.joints()]
        self._images = self.create_publisher(Image, "camera/front/image_raw", SENSOR)
        self._infos = self.create_publisher(CameraInfo, "camera/front/camera_info", SENSOR)
        self._judged = self.create_publisher(String, "sim/state", EVENT)
        self._joints = self.create_publisher(JointState, "joint_states", 10)
        self._driver_joints = self.create_publisher(JointState, "franka/joint_states", 10)
        self._tf = self.create_publisher(TFMessage, "/tf", 100)
        self.create_subscription(String, "episode/state", self._on_state, LATCHED)
        self.create_service(Trigger, "fake/reflex", self._reflex)
        self.create_service(Trigger, "fake/user_stop", self._user_stop)
        self.create_service(Trigger, "fake/scene", self._scene)
        self.create_timer(1 / PHYSICS_HZ, self._step)
        self.create_timer(1 / JOINT_HZ, self._show_joints)
        self.create_timer(1 / TF_HZ, self._show_transform)
        self.create_timer(1 / parameter("camera_hz", CAMERA_HZ), self._show)

    def now_ns(self) -> int:
        """As the robot's host has it."""
        return self.get_clock().now().nanoseconds + round(1e9 * self.get_parameter("clock_off_s").value)

    def _step(self) -> None:
        self.arm.step(self.get_clock().now().nanoseconds / 1e9)
        self.robot.watch()

    def _show_joints(self) -> None:
        """joint_state_broadcaster, which repeats the last ones, newly stamped, on hardware that has failed (Humble); and
        joint_state_publisher, which does so whatever happens to the other."""
        arm = JointState(header=header(self.now_ns()), name=self.robot.joints, position=self._shown)
        if self.robot.controllers["joint_state_broadcaster"].active:
            if self.robot.hardware == "active":
                arm.position = self._shown = self.arm.joints().tolist()
            self._driver_joints.publish(arm)
        fingers = [self.arm.width() / 2] * 2
        self._joints.publish(JointState(header=arm.header, name=[*arm.name, *FINGERS], position=[*self._shown, *fingers]))

    def _show_transform(self) -> None:
        """robot_state_publisher."""
        tip = self.arm.tip()
        message = TransformStamped(header=header(self.now_ns(), "base"), child_frame_id=self.robot.tip)
        at, turn = message.transform.translation, message.transform.rotation
        at.x, at.y, at.z = tip.position
        turn.x, turn.y, turn.z, turn.w = tip.quaternion
        self._tf.publish(TFMessage(transforms=[message]))

    def _show(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        judged = self.arm.judged
        self._judged.publish(String(data=SimState(now_ns, judged["task"], judged["success"], judged["failure"]).to_json()))
        self._images.publish(image_message(self.arm.image(), now_ns, "front"))
        self._infos.publish(CameraInfo(header=header(now_ns, "front"), height=64, width=64, distortion_model="plumb_bob"))

    def _on_state(self, message: String) -> None:
        self._state = EpisodeState.from_json(message.data)

    def _scene(self, _: Any, response: Any) -> Any:
        if self._state is not None and self._state.task:
            self.arm.set_scene(self._state.task, self._state.seed)
            response.success, response.message = True, f"{self._state.task} {self._state.seed}"
        return response

    def _reflex(self, _: Any, response: Any) -> Any:
        self.robot.reflex("cartesian_reflex")
        response.success = True
        return response

    def _user_stop(self, _: Any, response: Any) -> Any:
        response.success, response.message = True, self.robot.user_stop()
        return response


BEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def main() -> None:
    rclpy.init()
    world = World()
    quick: list[Node] = [world, ControllerManager(world.robot), Crisp(world.robot, world.arm), Servo(world.robot, world.arm)]
    blocking: list[Node] = [GripperNode(world.arm, world.hand_hangs), JointTrajectory(world.robot, world.arm)]
    if not world.fake_hardware:
        quick.append(Broadcaster(world, BEST))
        blocking.append(ActionNode(world.robot, world.arm))
    first, second = SingleThreadedExecutor(), MultiThreadedExecutor(8)
    for executor, nodes in ((first, quick), (second, blocking)):
        for node in nodes:
            executor.add_node(node)
    threading.Thread(target=_spin, args=(second,), daemon=True).start()
    print("fake franka ready", flush=True)
    _spin(first)
    rclpy.try_shutdown()


def _spin(executor: Any) -> None:
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()


if __name__ == "__main__":
    np.set_printoptions(precision=3)
    main()
