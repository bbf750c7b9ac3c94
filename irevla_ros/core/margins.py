"""Room that the joints keep: from their limits, and from singular postures. From the joint states, for a Cartesian motion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from irevla_ros.core.durations import MILLISECOND, SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.kinematics import HAND_TCP_M, Arm, jacobian, smallest_singular_value
from irevla_ros.core.rotation import Pose, Vector, inverse, log, multiply
from irevla_ros.core.tuning import Safer, limit

DAMPING = 0.02  # of the inverse: near a singular posture the true joint speeds are larger, and the other margin acts
SMALLEST = 1e-6  # rad or singular value: less is no motion


@dataclass(frozen=True)
class MarginConfig:
    """arm: whose joints, None where they are not watched; joint_rad: kept from each joint limit; singular: kept smallest
    singular value of the Jacobian; fresh_ns: of joint states; tool_m: from the flange to the tip, along the flange's z."""

    arm: Arm | None = None
    joint_rad: float = limit(0.10, Safer.HIGHER)
    singular: float = limit(0.04, Safer.HIGHER)
    fresh_ns: int = 200 * MILLISECOND
    tool_m: float = HAND_TCP_M

    def __post_init__(self) -> None:
        numbers = (self.joint_rad, self.singular, self.tool_m)
        if not all(math.isfinite(number) and number >= 0 for number in numbers) or self.fresh_ns <= 0:
            raise ConfigError(f"margins {numbers}, fresh_s {self.fresh_ns / SECOND}", "finite, not negative; the time positive",
                              "give 0.1 rad, 0.04, 0.1034 m, 0.2 s")  # fmt: skip


class Threat(str, Enum):
    """What a motion takes from."""

    JOINT_LIMIT = "joint limit"
    SINGULARITY = "singularity"


def threatened(config: MarginConfig, joints: Vector, here: Pose, target: Pose) -> Threat | None:
    """Which margin the way from ``here``, the pose at ``joints`` [7], to ``target`` takes from, where that margin is, or would
    be, too small; None for a motion that keeps or gains room. ``config.arm`` is set.

    By the least motion of the joints that does it; what the controller does with the redundant one is its own."""
    matrix = jacobian(joints, config.tool_m)
    way = np.concatenate((target.p - here.p, log(multiply(target.q, inverse(here.q)))))
    following = joints + matrix.T @ np.linalg.solve(matrix @ matrix.T + DAMPING**2 * np.eye(6), way)
    before, after = rooms(config, joints), rooms(config, following)
    if ((after < config.joint_rad) & (after < before - SMALLEST)).any():
        return Threat.JOINT_LIMIT
    left = smallest_singular_value(jacobian(following, config.tool_m))
    if left < config.singular and left < smallest_singular_value(matrix) - SMALLEST:
        return Threat.SINGULARITY
    return None


def rooms(config: MarginConfig, joints: Vector) -> Vector:
    """How far each joint [7] is from the nearer of its limits, rad."""
    assert config.arm is not None
    return np.minimum(joints - config.arm.lowest, config.arm.highest - joints)
