"""What the robot says of itself, and whether it is fresh enough to move the arm by: pose, joints, wrench."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy.typing as npt

from irevla_ros.core.alignment import Arrival, StampGuard
from irevla_ros.core.arbiter_config import ArbiterConfig
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.force import ForceGuard
from irevla_ros.core.human import within
from irevla_ros.core.kinematics import arm_joints
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose, Vector


class RobotState:
    """The newest of each stream. Malformed input voids what that stream said before; ``counts`` counts it."""

    def __init__(self, config: ArbiterConfig) -> None:
        self.pose: Pose | None = None
        self.joints: Vector | None = None
        self.force = ForceGuard()
        self.counts: Counter[str] = Counter()
        self._guards = {name: StampGuard(config.jump_ns) for name in ("pose", "joints", "wrench")}
        self._times = dict.fromkeys(self._guards, (-1, -1))  # stamp, wall time of arrival
        self._wrench_known = False

    def push_pose(self, position: npt.ArrayLike, quaternion: npt.ArrayLike, stamp_ns: int, wall_ns: int) -> bool:
        """m and xyzw, base frame. False when not used."""
        try:
            pose = Pose.of(position, quaternion)
        except (MessageError, TypeError, ValueError):
            self.counts["pose.rejected"] += 1
            self.pose = None
            return False
        if self._new("pose", stamp_ns, wall_ns):
            self.pose = pose
            return True
        return False

    def push_joints(self, names: Sequence[str], positions: Sequence[float], stamp_ns: int, wall_ns: int) -> None:
        """rad; see ``arm_joints``. The fingers alone are another stream that some drivers send on the same topic."""
        if names and all("finger" in name for name in names):
            return
        try:
            joints = arm_joints(names, positions)
        except (MessageError, TypeError, ValueError):
            self.counts["joints.rejected"] += 1
            self.joints = None
            return
        if self._new("joints", stamp_ns, wall_ns):
            self.joints = joints

    def push_wrench(
        self, force: npt.ArrayLike, torque: npt.ArrayLike, stamp_ns: int, wall_ns: int, config: ArbiterConfig
    ) -> None:
        """N and Nm."""
        in_order = self._new("wrench", stamp_ns, wall_ns)
        said = self.force.push(config.force, force, torque, wall_ns, in_order)
        self._wrench_known = said and (in_order or self._wrench_known)
        self.counts["wrench.rejected"] += not said

    @property
    def pose_ns(self) -> int:
        return self._times["pose"][0]

    @property
    def newest_pose_ns(self) -> int | None:
        """Also of one that was not used."""
        return self._guards["pose"].newest_ns

    @property
    def stamp_counts(self) -> dict[str, int]:
        return {f"{name}.{why}": n for name, guard in self._guards.items() for why, n in guard.counts.items()}

    def pose_problem(self, config: ArbiterConfig, now_ns: int, wall_ns: int) -> Hold | None:
        if self.pose is None:
            return Hold.POSE_MISSING
        return None if self._fresh("pose", config.pose_ns, config.ahead_ns, now_ns, wall_ns) else Hold.POSE_STALE

    def problem(self, config: ArbiterConfig, now_ns: int, wall_ns: int) -> Hold | None:
        """Why nobody may move the arm by what is known of it."""
        hold = self.pose_problem(config, now_ns, wall_ns)
        if hold is not None:
            return hold
        margins, force = config.margins, config.force
        if margins.arm is not None and not (
            self.joints is not None and self._fresh("joints", margins.fresh_ns, config.ahead_ns, now_ns, wall_ns)
        ):
            return Hold.JOINTS_STALE
        if force.watched and not (
            self._wrench_known and self._fresh("wrench", force.fresh_ns, config.ahead_ns, now_ns, wall_ns)
        ):
            return Hold.WRENCH_STALE
        return None

    def _new(self, name: str, stamp_ns: int, wall_ns: int) -> bool:
        if self._guards[name].check(stamp_ns) is not Arrival.NEW:
            return False
        self._times[name] = stamp_ns, wall_ns
        return True

    def _fresh(self, name: str, limit_ns: int, ahead_ns: int, now_ns: int, wall_ns: int) -> bool:
        stamp_ns, arrived_ns = self._times[name]
        return within(limit_ns, ahead_ns, stamp_ns, now_ns, arrived_ns, wall_ns)
