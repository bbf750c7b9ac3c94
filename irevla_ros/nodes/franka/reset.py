"""Taking the arm to an episode's start pose: home, then the pose that the episode's seed draws, each with verified arrival."""

from __future__ import annotations

from typing import Any

import numpy as np
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient

from irevla_ros.core.durations import MILLISECOND, SECOND
from irevla_ros.core.reset_motion import MotionBy, arrived, check_way, duration_s, start_joints
from irevla_ros.core.rotation import Vector
from irevla_ros.nodes.franka.controllers import Controllers
from irevla_ros.nodes.franka.gripper import Gripper
from irevla_ros.nodes.franka.procedure import LOOK_S, Procedure, RobotError, Steps, achieve, ask, pause, until
from irevla_ros.nodes.franka.recovery import Recovery
from irevla_ros.nodes.franka.state import ArmState
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import FrankaConfig
from irevla_ros.ros.errors import ServiceTimeout
from irevla_ros.ros.messages import DurationMsg, JointTrajectory, JointTrajectoryPoint

PTP = "action_server/ptp_motion"
ARRIVAL_S = 2.0  # from the end of the motion until the joints show it
STILL_RAD, STILL_NS = 0.003, 200 * MILLISECOND  # a joint that has moved less, for so long, stands


class Reset:
    def __init__(self, node: GraphNode, config: FrankaConfig, state: ArmState, controllers: Controllers, gripper: Gripper,
                 recovery: Recovery) -> None:  # fmt: skip
        self._node, self._config, self._motion, self._state = node, config, config.reset, state
        self._controllers, self._gripper, self._recovery = controllers, gripper, recovery
        self._by_trajectory = config.reset.by is MotionBy.TRAJECTORY
        name = f"{self._motion.trajectory}/follow_joint_trajectory" if self._by_trajectory else PTP
        self._name = config.of_driver(name)
        self._action = self._client()
        self._cancel = node.create_client(CancelGoal, f"{self._name}/_action/cancel_goal")
        self._sweep = None if config.dry_run else Procedure(self._stop_all(), lambda _: None)

    def _client(self) -> ActionClient | None:
        if self._by_trajectory:
            from control_msgs.action import FollowJointTrajectory

            self._goal = FollowJointTrajectory.Goal
            return ActionClient(self._node, FollowJointTrajectory, self._name)
        try:
            from franka_msgs.action import PTPMotion
        except ImportError:
            return None
        self._goal = PTPMotion.Goal
        return ActionClient(self._node, PTPMotion, self._name)

    def _stop_all(self) -> Steps:
        """A motion outlives the process that asked for it: whatever runs when this one begins is cancelled first, as soon as
        there is a server."""
        while True:
            try:
                answer = yield from ask(self._node, self._cancel, CancelGoal.Request(), ARRIVAL_S)
            except ServiceTimeout:
                continue
            if answer.goals_canceling:
                self._node.get_logger().warning(f"{self._name}: a motion from before this node began was cancelled")
            return

    def ready(self) -> Steps:
        """RobotError where it is not known whether a motion from before this node began is still under way."""
        end_ns = self._node.wall_ns() + self._config.settle_ns
        while self._sweep is not None and self._sweep.running:
            if self._node.wall_ns() >= end_ns:
                raise RobotError(f"action {self._name}", "its server does not answer, so a motion may be under way from before "
                                 "this node began", "start the robot's driver, or set reset.by")  # fmt: skip
            yield from pause(self._node, LOOK_S)

    def steps(self, seed: int) -> Steps:
        """Raises IrevlaError with what failed. The arm then stands where it stopped, and its controller may be inactive."""
        if self._action is None:
            raise RobotError("reset", "franka_msgs does not import, and ptp_motion is one of its actions",
                             "build franka_msgs (docs/franka.md), or set reset.by to trajectory")  # fmt: skip
        if self._state.problem is not None:
            raise self._state.problem
        goals = [np.asarray(self._motion.home), start_joints(self._motion, seed)]
        yield from until(self._node, self._state.fresh, ARRIVAL_S, "a state from the robot")
        yield from self._stand()
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
        yield from self._stand()

    def _stand(self) -> Steps:
        """Until the arm stands still, whoever moved it."""
        state, at, since_ns = self._state, np.full(7, np.inf), 0

        def still() -> bool:
            nonlocal at, since_ns
            if state.joints is None:
                return False
            if np.abs(state.joints - at).max() > STILL_RAD:
                at, since_ns = state.joints, state.joints_wall_ns
            return state.joints_wall_ns - since_ns >= STILL_NS

        yield from until(self._node, still, ARRIVAL_S, "an arm that stands still")

    def _move(self, goal: Vector) -> Steps:
        motion, state = self._motion, self._state
        since = self._node.wall_ns()
        yield from until(self._node, lambda: state.joints is not None and state.joints_wall_ns > since, ARRIVAL_S,
                         "the robot's joint states")  # fmt: skip
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
        return self._goal(trajectory=JointTrajectory(joint_names=self._config.joint_names, points=[point]))
