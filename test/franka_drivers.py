"""The nodes of the fake Franka that answer at once: what franka_ros2, crisp_controllers and MoveIt Servo publish and serve."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from controller_manager_msgs.msg import ControllerState, HardwareComponentState
from controller_manager_msgs.srv import (
    ListControllers,
    ListHardwareComponents,
    SetHardwareComponentState,
    SwitchController,
)
from franka_msgs.msg import FrankaRobotState
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState

from franka_arm import FakeArm
from franka_robot import CRISP, TRAJECTORY, Robot
from irevla_ros.core.rotation import Pose
from irevla_ros.nodes.convert import header, pose_message, pose_of, stamp_of

EMA = 0.1  # crisp's filter.target_pose, each millisecond
CLIP_M = 0.1  # crisp's task.error_clip
SERVO_S = 0.1  # incoming_command_timeout
SERVO_HZ = CRISP_HZ = 60.0


class ControllerManager(Node):
    def __init__(self, robot: Robot) -> None:
        super().__init__("controller_manager")
        self._robot = robot
        self.create_service(ListControllers, "~/list_controllers", self._controllers)
        self.create_service(ListHardwareComponents, "~/list_hardware_components", self._components)
        self.create_service(SwitchController, "~/switch_controller", self._switch)
        self.create_service(SetHardwareComponentState, "~/set_hardware_component_state", self._set)

    def _controllers(self, _: Any, response: Any) -> Any:
        response.controller = [ControllerState(name=name, type=one.type, state="active" if one.active else "inactive")
                               for name, one in self._robot.controllers.items()]  # fmt: skip
        return response

    def _components(self, _: Any, response: Any) -> Any:
        component = HardwareComponentState(name=self._robot.component, type="system")
        component.state.label = self._robot.hardware
        component.state.id = {"active": 3, "unconfigured": 1}[self._robot.hardware]
        response.component = [component]
        return response

    def _switch(self, request: Any, response: Any) -> Any:
        response.ok = self._robot.switch(list(request.activate_controllers), list(request.deactivate_controllers))
        return response

    def _set(self, request: Any, response: Any) -> Any:
        response.ok = request.name == self._robot.component and request.target_state.label == "active"
        response.ok = response.ok and self._robot.activate_hardware()
        response.state.label = self._robot.hardware
        return response


class Broadcaster(Node):
    """franka_robot_state_broadcaster. Inactive, it is silent; on hardware that has failed it repeats its last state with new
    stamps (Humble)."""

    def __init__(self, world: Any, best_effort: Any) -> None:
        super().__init__("franka_robot_state_broadcaster")
        self._world, self._robot, self._arm = world, world.robot, world.arm
        self._states = self.create_publisher(FrankaRobotState, "~/robot_state", 10)
        self._poses = self.create_publisher(PoseStamped, "~/current_pose", best_effort)
        self._joints = self.create_publisher(JointState, "~/measured_joint_states", best_effort)
        self._wrenches = self.create_publisher(WrenchStamped, "~/external_wrench_in_base_frame", best_effort)
        self._last = FrankaRobotState()
        self.create_timer(1 / world.state_hz, self._tick)

    def _tick(self) -> None:
        robot = self._robot
        if not robot.controllers["franka_robot_state_broadcaster"].active:
            return
        if robot.hardware == "active":
            self._last = self._read()
        state = self._last
        state.header = header(self._world.now_ns(), self._world.frame)
        for part in (state.o_t_ee, state.measured_joint_state, state.o_f_ext_hat_k):
            part.header = state.header
        self._states.publish(state)
        self._poses.publish(state.o_t_ee)
        self._joints.publish(state.measured_joint_state)
        self._wrenches.publish(state.o_f_ext_hat_k)

    def _read(self) -> Any:
        state, arm = FrankaRobotState(), self._arm
        mode, errors = self._robot.seen()
        state.robot_mode = int(mode)
        for name in errors:
            setattr(state.current_errors, name, True)
        for name in self._robot.last_errors:
            setattr(state.last_motion_errors, name, True)
        position, velocity = arm.joints().tolist(), arm.velocities().tolist()
        state.measured_joint_state = JointState(name=self._robot.joints, position=position, velocity=velocity)
        tip, rubbish = arm.tip(), self._world.rubbish
        if rubbish == "joints" or (rubbish == "now and then" and random.random() < 0.5):
            state.measured_joint_state.position = [float("nan")] * 7
        state.o_t_ee = pose_message(Pose.of(tip.p + [0, 0, self._world.tcp_off_m], tip.quaternion), 0, self._world.frame)
        if rubbish == "pose":
            state.o_t_ee.pose.position.x = float("nan")
        force = state.o_f_ext_hat_k.wrench.force
        force.x, force.y, force.z = map(float, arm.force() - [0, 0, self._world.get_parameter("push_n").value])
        state.control_command_success_rate = 1.0
        return state


class Crisp(Node):
    """crisp_controllers' CartesianController: it looks at neither stamp nor frame, ignores a topic that two publish on, goes to
    its last target for ever, and on activation stays where it is, unless a target came while it was inactive: that one it takes
    up then."""

    def __init__(self, robot: Robot, arm: FakeArm) -> None:
        super().__init__(CRISP)
        self._robot, self._arm = robot, arm
        self._new: Pose | None = None
        self._target: Pose | None = None
        self._filtered: Pose | None = None
        self.ignored = 0
        self.create_subscription(PoseStamped, "target_pose", self._on_target, 1)
        self.create_timer(1 / CRISP_HZ, self._update)

    def _on_target(self, message: PoseStamped) -> None:
        if len(self.get_publishers_info_by_topic("target_pose")) > 1:
            self.ignored += 1
            text = "Ignoring target_pose message due to multiple publishers detected!"
            self.get_logger().warning(text, throttle_duration_sec=1)
            return
        self._new = pose_of(message)

    def _update(self) -> None:
        robot, arm = self._robot, self._arm
        if CRISP in robot.activated:
            robot.activated.remove(CRISP)
            self._target = self._filtered = arm.tip()
        if not robot.controllers[CRISP].active or not robot.moves():
            return
        if self._new is not None:
            self._target, self._new = self._new, None
        assert self._target is not None and self._filtered is not None
        keep = (1 - EMA) ** (1000 / CRISP_HZ)
        self._filtered = Pose.of(keep * self._filtered.p + (1 - keep) * self._target.p, self._target.quaternion)
        here = arm.tip()
        arm.follow(Pose.of(here.p + np.clip(self._filtered.p - here.p, -CLIP_M, CLIP_M), self._filtered.quaternion))


class Servo(Node):
    """MoveIt Servo with command_in_type speed_units: commands older than 0.1 s are dropped, and the arm halts."""

    def __init__(self, robot: Robot, arm: FakeArm) -> None:
        super().__init__("servo_node")
        self._robot, self._arm = robot, arm
        self._newest: TwistStamped | None = None
        self.dropped = 0
        self.create_subscription(TwistStamped, "~/delta_twist_cmds", self._on_twist, 10)
        self.create_timer(1 / SERVO_HZ, self._update)

    def _on_twist(self, message: TwistStamped) -> None:
        self._newest = message

    def _update(self) -> None:
        message = self._newest
        if message is None or not self._robot.controllers[TRAJECTORY].active or not self._robot.moves():
            return
        if self.get_clock().now().nanoseconds - stamp_of(message.header) > SERVO_S * 1e9:
            self._newest = None
            self.dropped += 1
            self._arm.stop()
            return
        linear, angular = message.twist.linear, message.twist.angular
        self._arm.twist([linear.x, linear.y, linear.z], [angular.x, angular.y, angular.z])
