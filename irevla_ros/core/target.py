"""Where the arm is sent: each step, cut by the limits, and the stream that leads there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irevla_ros.core.arbiter_config import ArbiterConfig, Refused
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.human import MOVES, TURNS
from irevla_ros.core.limits import Base, Clip
from irevla_ros.core.margins import Threat, threatened
from irevla_ros.core.robot_state import RobotState
from irevla_ros.core.rotation import Pose, inverse, log, multiply
from irevla_ros.core.shaper import PoseShaper
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import FloatArray

LONGEST_PAUSE = 2  # control periods: what a step may make up for of the time since the last one
_THREATS = {Threat.JOINT_LIMIT: Hold.JOINT_LIMIT, Threat.SINGULARITY: Hold.SINGULARITY}


@dataclass(frozen=True)
class Taken:
    """A step as it was taken: what it came to, normalised float32 [A], and which limits cut it."""

    commanded: FloatArray
    clips: tuple[Clip, ...]


class Target:
    """``pose``: where the last step leads, None before ``start``; ``gripper``: -1 closed, +1 open, None before its first
    command; ``stepped_wall_ns``: when the last step was taken."""

    def __init__(self, spec: ActionSpec, config: ArbiterConfig) -> None:
        unknown = [name for name in spec.names if name not in (*MOVES, *TURNS, "gripper")]
        if unknown:
            raise ConfigError(f"action dimension {unknown[0]!r}", f"the arbiter moves {', '.join(MOVES + TURNS)}, gripper",
                              "rename it, or drive it elsewhere")  # fmt: skip
        self._spec, self._config = spec, config
        self.pose: Pose | None = None
        self.gripper: int | None = None
        self.stepped_wall_ns: int | None = None
        self._shaper: PoseShaper | None = None
        self._gripper_wall_ns = 0  # of its last change

    @property
    def moving(self) -> bool:
        """Whether ``stream`` has more to give, be it only to come to rest."""
        return self._shaper is not None and self._shaper.moving

    def tune(self, config: ArbiterConfig) -> None:
        self._config = config
        if self._shaper is not None:
            self._shaper.limit(config.limits.speed_m_s, config.limits.speed_rad_s)

    def start(self, measured: Pose) -> None:
        """Begin at the measured pose, in lock step at the allowed one nearest to it. From outside of the limits the stream
        leads in at its own rates: it never is further outside than the arm stood, as the distance from a convex set is convex,
        too.

        Raises Refused before the last motion has come to rest, or when the arm stands further outside than one step."""
        if self.moving:
            raise Refused("engage: the last motion has not come to rest", "one motion ends before the next begins", "wait")
        config, limits = self._config, self._config.limits
        self.pose = limits.start(measured)
        if self.pose is None:
            raise Refused(f"engage at {measured.position} {measured.quaternion}",
                          f"the arm must stand within a step of the box {limits.box_low} to {limits.box_high}, its "
                          f"{len(limits.planes) // 4} planes, {limits.turn_rad} rad around home and a tilt of "
                          f"{limits.tilt_rad} rad", "move it there by hand or widen the limits")  # fmt: skip
        if config.servo_ns:  # at a leap of the first target a stiff controller would leap, too
            self.pose = measured
            self._shaper = PoseShaper(limits.moving, limits.turning, limits.home, config.servo_ns, measured)

    def end(self) -> None:
        """Brake; ``stream`` goes on until the arm stands."""
        self.brake()
        self.pose = None

    def step(self, robot: RobotState, executed: FloatArray, grip: bool, wall_ns: int) -> Taken | Hold:
        """Move on by ``executed``, normalised, within [-1, 1]; a Hold says why not. grip: also by its gripper."""
        config, limits, before, measured = self._config, self._config.limits, self.pose, robot.pose
        assert before is not None and measured is not None
        if not limits.follows(before, measured):
            return Hold.DISPLACED
        physical = dict(zip(self._spec.names, self._spec.to_physical(executed).astype(np.float64), strict=True))
        move, turn = (np.array([physical.get(name, 0.0) for name in names]) for names in (MOVES, TURNS))
        target, clips = limits.advance(before, measured, move, turn, self._elapsed_s(wall_ns))
        if config.margins.arm is not None and robot.joints is not None:
            threat = threatened(config.margins, robot.joints, measured, target)
            if threat is not None:
                return _THREATS[threat]
        self.pose, self.stepped_wall_ns = target, wall_ns
        if self._shaper is not None:
            self._shaper.aim(target, config.period_ns)
        if grip and "gripper" in physical:
            clips += self._grip(float(executed[self._spec.names.index("gripper")]), wall_ns)

        moved = target.p - (measured.p if limits.base is Base.MEASURED else before.p)
        turned = log(multiply(target.q, inverse(before.q)))
        done = dict(zip(MOVES + TURNS, [*moved, *turned], strict=True)) | {"gripper": float(self.gripper or 0)}
        return Taken(self._spec.to_normalised(np.array([done[name] for name in self._spec.names], np.float32)), clips)

    def brake(self) -> None:
        """The next step starts from where the arm comes to rest."""
        if self._shaper is not None and self.pose is not None:
            self.pose = self._shaper.brake()

    def stream(self) -> Pose | None:
        """Once a servo period: the next pose to send, None while the target stands still."""
        return self._shaper.step() if self._shaper is not None and self._shaper.moving else None

    def _elapsed_s(self, wall_ns: int) -> float:
        """What speed limits allow a step to use: wall time since the last one, but no more than a short pause of it."""
        period_ns = self._config.period_ns
        if self.stepped_wall_ns is None or not self._config.servo_ns:
            return period_ns * 1e-9
        return max(0, min(wall_ns - self.stepped_wall_ns, LONGEST_PAUSE * period_ns)) * 1e-9

    def _grip(self, action: float, wall_ns: int) -> tuple[Clip, ...]:
        wanted = self._config.limits.gripper(action, self.gripper)
        if wanted == self.gripper:
            return ()
        if self.gripper is not None and 0 <= wall_ns - self._gripper_wall_ns < self._config.limits.gripper_hold_ns:
            return (Clip.GRIPPER,)
        self.gripper, self._gripper_wall_ns = wanted, wall_ns
        return ()
