"""Taking the arm to an episode's start pose: home, then the pose that the episode's seed draws, each with verified arrival."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.action import ActionClient

from irevla_ros.core.durations import SECOND
from irevla_ros.core.reset_motion import MotionBy, arrived, check_way, duration_s, start_joints
from irevla_ros.core.rotation import Vector
from irevla_ros.nodes.franka.controllers import Controllers
from irevla_ros.nodes.franka.gripper import Gripper
from irevla_ros.nodes.franka.procedure import RobotError, Steps, achieve, until
from irevla_ros.nodes.franka.recovery import Recovery
from irevla_ros.nodes.franka.state import ArmState
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import FrankaConfig
from irevla_ros.ros.messages import DurationMsg, JointTrajectory, JointTrajectoryPoint

PTP = "action_server/ptp_motion"
ARRIVAL_S = 2.0  # from the end of the motion until the joints show it


class Reset:
    def __init__(self, node: GraphNode, config: FrankaConfig, state: ArmState, controllers: Controllers, gripper: Gripper,
                 recovery: Recovery) -> None:  # fmt: skip
        self._node, self._config, self._motion, self._state = node, config, config.reset, state
        self._controllers, self._gripper, self._recovery = controllers, gripper, recovery
        self._by_trajectory = config.reset.by is MotionBy.TRAJECTORY
        self._action = self._client()

    def _client(self) -> ActionClient | None:
        if self._by_trajectory:
            from control_msgs.action import FollowJointTrajectory

            self._goal = FollowJointTrajectory.Goal
            self._name = f"{self._motion.trajectory}/follow_joint_trajectory"
            return ActionClient(self._node, FollowJointTrajectory, self._name)
        try:
            from franka_msgs.action import PTPMotion
        except ImportError:
            return None
        self._goal, self._name = PTPMotion.Goal, PTP
        return ActionClient(self._node, PTPMotion, self._name)

    def steps(self, seed: int) -> Steps:
        """Raises IrevlaError with what failed. The arm then stands where it stopped, and its controller may be inactive."""
        if self._action is None:
            raise RobotError("reset", "franka_msgs does not import, and ptp_motion is one of its actions",
                             "build franka_msgs (docs/franka.md), or set reset.by to trajectory")  # fmt: skip
        if self._state.problem is not None:
            raise self._state.problem
        goals = [np.asarray(self._motion.home), start_joints(self._motion, seed)]
        yield from until(self._node, self._state.fresh, ARRIVAL_S, "a state from the robot")
        self._gripper.forget()
        if self._motion.open_gripper:
            try:
                yield from self._gripper.to(True)
            except RobotError as error:  # something is in its way here: above the table there will be room
                self._node.warn_rarely("opening", f"{error}: again at home")
        follower = [self._config.controller] if self._config.controller else []
        mover = [self._motion.trajectory] if self._by_trajectory else []
        yield from self._controllers.switch(activate=mover, deactivate=follower)
        yield from self._move(goals[0])
        if self._motion.open_gripper and not self._gripper.opened():
            yield from self._gripper.to(True)
        yield from self._move(goals[1])
        yield from self._controllers.switch(deactivate=mover)
        yield from self._recovery.follow_again()

    def _move(self, goal: Vector) -> Steps:
        motion, state = self._motion, self._state
        since = self._node.wall_ns()
        yield from until(self._node, lambda: state.joints_wall_ns > since, ARRIVAL_S, "the robot's joint states")
        assert state.joints is not None
        check_way(motion, state.joints, goal)
        if not arrived(motion, state.joints.tolist(), goal):
            assert self._action is not None
            request = self._trajectory(state.joints, goal) if self._by_trajectory else self._ptp(goal)
            yield from achieve(self._node, self._action, request, motion.limit_ns / SECOND, self._name)
        since = self._node.wall_ns()

        def there() -> bool:
            return state.joints is not None and state.joints_wall_ns > since and arrived(motion, state.joints.tolist(), goal)

        yield from until(self._node, there, ARRIVAL_S, f"arrival within {motion.tolerance_rad} rad of the reset position")

    def _ptp(self, goal: Vector) -> Any:
        motion = self._motion
        return self._goal(goal_joint_configuration=goal.tolist(), maximum_joint_velocities=[motion.velocity_rad_s] * 7,
                          goal_tolerance=motion.tolerance_rad / 2)  # fmt: skip

    def _trajectory(self, before: Vector, goal: Vector) -> Any:
        seconds = duration_s(self._motion, before, goal)
        after = DurationMsg(sec=int(seconds), nanosec=int(seconds % 1 * SECOND))
        point = JointTrajectoryPoint(positions=goal.tolist(), velocities=[0.0] * 7, time_from_start=after)
        return self._goal(trajectory=JointTrajectory(joint_names=list(self._config.joint_names), points=[point]))
