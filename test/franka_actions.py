"""The nodes of the fake Franka that work for a while: franka_hardware's, the trajectory controller's and the hand's actions."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from control_msgs.action import FollowJointTrajectory, GripperCommand
from franka_msgs.action import ErrorRecovery, Grasp, Homing, Move, PTPMotion
from franka_msgs.msg import TargetStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from franka_arm import FakeArm
from franka_robot import TRAJECTORY, Robot
from irevla_ros.nodes.convert import header

STANDS_S = 0.4  # a gripper that has not moved for so long is where it can get


class BlockingServer(Node):
    """Actions as rclcpp's of franka_ros2: every goal is accepted, and its thread blocks until it is done."""

    def serve(self, kind: Any, name: str, execute: Any, on_cancel: Any = lambda: None) -> None:
        def cancel(_: Any) -> CancelResponse:
            on_cancel()
            return CancelResponse.ACCEPT

        ActionServer(self, kind, name, execute, goal_callback=lambda _: GoalResponse.ACCEPT, cancel_callback=cancel,
                     callback_group=self._group)  # fmt: skip

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._group = ReentrantCallbackGroup()


class ActionNode(BlockingServer):
    """action_server of franka_hardware. After one motion was cancelled it aborts every other until the driver is started again:
    ``running_`` of its ptp_motion_handler is never set back (humble 2.5, jazzy 3.4)."""

    def __init__(self, robot: Robot, arm: FakeArm) -> None:
        super().__init__("action_server")
        self._robot, self._arm, self._cancelled = robot, arm, threading.Event()
        self.serve(ErrorRecovery, "~/error_recovery", self._recover)
        self.serve(PTPMotion, "~/ptp_motion", self._ptp, self._cancelled.set)

    def _recover(self, goal: Any) -> Any:
        time.sleep(0.3)
        goal.succeed() if self._robot.recover() else goal.abort()
        return ErrorRecovery.Result()

    def _ptp(self, goal: Any) -> Any:
        """Joint motion by the control box, which must not be under another's control."""
        robot, wanted = self._robot, np.array(goal.request.goal_joint_configuration)
        result = PTPMotion.Result()
        result.target_status.status = TargetStatus.ABORTED
        if self._cancelled.is_set():
            result.error_message = "No motion found with the given motion ID. Might be already finished or aborted."
        elif robot.commanding() or not robot.moves():
            result.error_message = "libfranka: Move command rejected: command not possible in the current mode"
        else:
            self._arm.joints_to(wanted, float(min(goal.request.maximum_joint_velocities)))
            while robot.moves() and not self._cancelled.is_set():
                if np.abs(self._arm.joints() - wanted).max() <= goal.request.goal_tolerance:
                    result.target_status.status = TargetStatus.TARGET_REACHED
                    goal.succeed()
                    return result
                time.sleep(0.01)
            self._arm.stop()
            result.error_message = "cancelled" if self._cancelled.is_set() else "motion aborted by reflex"
        goal.abort()
        return result


class JointTrajectory(BlockingServer):
    """fr3_arm_controller's action."""

    def __init__(self, robot: Robot, arm: FakeArm) -> None:
        super().__init__(TRAJECTORY)
        self._robot, self._arm = robot, arm
        self.serve(FollowJointTrajectory, "~/follow_joint_trajectory", self._follow)

    def _follow(self, goal: Any) -> Any:
        robot, result = self._robot, FollowJointTrajectory.Result()
        if robot.controllers[TRAJECTORY].active and robot.moves() and goal.request.trajectory.joint_names == robot.joints:
            point = goal.request.trajectory.points[-1]
            wanted = np.array(point.positions)
            seconds = point.time_from_start.sec + point.time_from_start.nanosec / 1e9
            self._arm.joints_to(wanted, float(np.abs(wanted - self._arm.joints()).max()) / seconds)
            end = time.monotonic() + seconds + 1.0
            while robot.moves() and time.monotonic() < end:
                if np.abs(self._arm.joints() - wanted).max() < 0.01:
                    goal.succeed()
                    return result
                if goal.is_cancel_requested:
                    self._arm.stop()
                    goal.canceled()
                    return result
                time.sleep(0.01)
        result.error_code, result.error_string = -1, "controller is not active"
        goal.abort()
        return result


class GripperNode(BlockingServer):
    """franka_gripper: one command at a time, the next waits; ``stop`` ends the one under way. ``goals`` counts them. hangs:
    they never end, whatever is asked."""

    def __init__(self, arm: FakeArm, hangs: bool = False) -> None:
        super().__init__("franka_gripper")
        self._arm, self._hangs, self._busy, self._stopped = arm, hangs, threading.Lock(), threading.Event()
        self.goals = 0
        self.create_service(Trigger, "~/stop", self._stop, callback_group=self._group)
        self.serve(Homing, "~/homing", lambda goal: self._run(goal, Homing.Result(), 0.08, 0.1), self._stopped.set)
        self.serve(Move, "~/move", self._move, self._stopped.set)
        self.serve(Grasp, "~/grasp", self._grasp, self._stopped.set)
        self.serve(GripperCommand, "~/gripper_action", self._command, self._stopped.set)
        self._states = self.create_publisher(JointState, "~/joint_states", 1)
        self.create_timer(1 / 15, self._show)

    def _show(self) -> None:
        half = self._arm.width() / 2
        names, stamped = ["fr3_finger_joint1", "fr3_finger_joint2"], header(self.get_clock().now().nanoseconds)
        self._states.publish(JointState(header=stamped, name=names, position=[half, half]))

    def _stop(self, _: Any, response: Any) -> Any:
        self._stopped.set()
        self._arm.grip(self._arm.width(), 0.0)
        response.success = True
        return response

    def _move(self, goal: Any) -> Any:
        return self._run(goal, Move.Result(), goal.request.width, goal.request.speed)

    def _grasp(self, goal: Any) -> Any:
        asked = goal.request
        reached = (asked.width - asked.epsilon.inner, asked.width + asked.epsilon.outer)
        return self._run(goal, Grasp.Result(), asked.width, asked.speed, reached)

    def _command(self, goal: Any) -> Any:
        result = GripperCommand.Result()
        self._run(goal, result, 2 * goal.request.command.position, 0.1)
        return result

    def _run(self, goal: Any, result: Any, width: float, speed: float, reached: tuple[float, float] | None = None) -> Any:
        self.goals += 1
        with self._busy:
            self._stopped.clear()
            self._arm.grip(width, speed)
            before, moved_at = self._arm.width(), time.monotonic()
            while self._hangs:
                time.sleep(1.0)
            while time.monotonic() - moved_at < STANDS_S and not self._stopped.is_set():
                time.sleep(0.02)
                if abs(self._arm.width() - before) > 1e-3:
                    before, moved_at = self._arm.width(), time.monotonic()
            low, high = reached or (width - 0.004, width + 0.004)
            good = low <= self._arm.width() <= high and not self._stopped.is_set()
        if hasattr(result, "success"):
            result.success = good
        goal.succeed() if good else goal.abort()
        return result
