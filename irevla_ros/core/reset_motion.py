"""Where an arm begins an episode, and whether the way there in joint space is one that it may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError, IrevlaError
from irevla_ros.core.inverse_kinematics import solve
from irevla_ros.core.kinematics import Arm, forward
from irevla_ros.core.rotation import POINTING_DOWN, Pose, Vector, exp, multiply

_SAMPLES = 50


class MotionBy(str, Enum):
    """Who moves the arm to a joint target."""

    PTP = "ptp"  # action_server/ptp_motion of franka_hardware
    TRAJECTORY = "trajectory"  # follow_joint_trajectory of a joint trajectory controller; also under fake hardware


@dataclass(frozen=True)
class ResetMotionConfig:
    """home: joint angles [7] that every reset passes. The start pose is drawn by the episode's seed: the tip in the box
    start_low to start_high (m, base frame), pointing down, turned by at most start_turn_rad. low, high: the box that the tip
    may not leave on the way (m). velocity_rad_s: of the fastest joint; tolerance_rad: of the arrival, each joint; limit_ns: of
    wall time for each motion. trajectory: the controller of ``MotionBy.TRAJECTORY``. open_gripper: first, which drops what is
    held."""

    by: MotionBy = MotionBy.PTP
    home: tuple[float, ...] = (0.0, -0.2, 0.0, -2.35, 0.0, 2.15, 0.785)
    start_low: tuple[float, float, float] = (0.42, -0.03, 0.16)
    start_high: tuple[float, float, float] = (0.46, 0.03, 0.20)
    start_turn_rad: float = 0.2
    low: tuple[float, float, float] = (0.20, -0.40, 0.01)
    high: tuple[float, float, float] = (0.75, 0.40, 0.75)
    velocity_rad_s: float = 0.5
    tolerance_rad: float = 0.01
    limit_ns: int = 15 * SECOND
    trajectory: str = "fr3_arm_controller"
    open_gripper: bool = True

    def __post_init__(self) -> None:
        q = np.asarray(self.home, np.float64)
        if q.shape != (7,) or not ((Arm.FR3.lowest < q) & (q < Arm.FR3.highest)).all():
            raise ConfigError(f"reset.home = {list(self.home)}", "seven joint angles within the limits of the FR3",
                              "read them from joint_states with the arm where it is to begin")  # fmt: skip
        for name, low, high in (("start", self.start_low, self.start_high), ("way", self.low, self.high)):
            if not np.isfinite([*low, *high]).all() or (np.asarray(low) > np.asarray(high)).any():
                raise ConfigError(f"reset box of the {name}: {low} to {high}", "low does not lie above high on any axis",
                                  "give corners in metres, base frame")  # fmt: skip
        if not 0 < self.velocity_rad_s <= 2.0 or not 0 < self.tolerance_rad <= 0.1 or self.limit_ns <= 0:
            raise ConfigError(f"reset.velocity_rad_s, tolerance_rad, limit_s = {self.velocity_rad_s}, {self.tolerance_rad}, "
                              f"{self.limit_ns / SECOND}", "positive, at most 2 rad/s and 0.1 rad",
                              "give 0.5, 0.01 and 15.0")  # fmt: skip


def start_joints(config: ResetMotionConfig, seed: int) -> Vector:
    """Joint angles [7] of the start pose of ``seed``. Raises ConfigError where the arm does not reach it."""
    rng = np.random.default_rng(abs(seed))
    position = rng.uniform(config.start_low, config.start_high)
    turn = rng.uniform(-config.start_turn_rad, config.start_turn_rad)
    pose = Pose.of(position, multiply(exp(np.array([0.0, 0.0, turn])), np.asarray(POINTING_DOWN)))
    found = solve(pose, config.home)
    if found is None:
        raise ConfigError(f"start pose {np.round(position, 3).tolist()}, turned by {turn:.2f} rad", "out of the arm's reach",
                          "narrow reset.start_low, start_high and start_turn_rad")  # fmt: skip
    return found


def check_way(config: ResetMotionConfig, before: npt.ArrayLike, after: npt.ArrayLike) -> None:
    """IrevlaError where the tip would leave the box ``low`` to ``high`` on the straight line between joint angles [7]."""
    begin, end = np.asarray(before, np.float64), np.asarray(after, np.float64)
    for part in np.linspace(0.0, 1.0, _SAMPLES):
        tip = forward(begin + part * (end - begin)).p
        if (tip < config.low).any() or (tip > config.high).any():
            raise IrevlaError(f"the way to the reset position leads the tip to {np.round(tip, 3).tolist()}",
                              f"it stays within {config.low} and {config.high}",
                              "guide the arm by hand to a better place, or widen reset.low and reset.high")  # fmt: skip


def duration_s(config: ResetMotionConfig, before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """How long a trajectory between joint angles [7] is to take: a cubic's peak is 1.5 times its mean velocity."""
    farthest = float(np.abs(np.asarray(after, np.float64) - np.asarray(before, np.float64)).max())
    return max(0.5, 1.5 * farthest / config.velocity_rad_s)


def arrived(config: ResetMotionConfig, measured: Sequence[float], wanted: npt.ArrayLike) -> bool:
    """Whether every joint is where it is to be."""
    return bool((np.abs(np.asarray(measured) - np.asarray(wanted)) <= config.tolerance_rad).all())
