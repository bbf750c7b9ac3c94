"""Poses and rotations: unit quaternions xyzw and rotation vectors (rad), all in the base frame.

A turn ``v`` about axes of the base frame is applied from the left, q' = exp(v) q, as the simulator does with ``drz``;
the tip's position does not move with it. Translations are added in the base frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, cos, hypot, isfinite, sin

import numpy as np
import numpy.typing as npt

from irevla_ros.core.messages import MessageError
from irevla_ros.core.types import FloatArray

Vector = npt.NDArray[np.float64]

FARTHEST = 100.0  # m: no arm is larger, and squares stay far from overflow
UNIT_TOLERANCE = 1e-2  # norm error of a quaternion that is repaired rather than refused
POINTING_DOWN = (1.0, 0.0, 0.0, 0.0)  # xyzw: the hand of an arm on a table, z down, x forward


@dataclass(frozen=True)
class Pose:
    """Position [3] in metres and orientation as a unit quaternion xyzw [4], both in the base frame.

    A quaternion whose norm is off by at most 1 % is normalised; MessageError when further off, or when the position is not
    finite or beyond 100 m.
    """

    position: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        # Every node makes poses all the time, and for seven numbers plain floats are several times faster than NumPy.
        if len(self.position) != 3 or len(self.quaternion) != 4 or not all(map(isfinite, (*self.position, *self.quaternion))):
            raise MessageError(f"pose {self.position} {self.quaternion}", "3 + 4 finite numbers are required",
                               "check the robot's state estimate")  # fmt: skip
        if max(map(abs, self.position)) > FARTHEST:
            raise MessageError(f"position {self.position}", f"it lies within {FARTHEST:.0f} m of the base", "give metres")
        norm = hypot(*self.quaternion)
        if abs(norm - 1.0) > UNIT_TOLERANCE:
            raise MessageError(f"quaternion {self.quaternion} of norm {norm:.4g}", "an orientation has norm 1",
                               "publish a unit quaternion in the order x, y, z, w")  # fmt: skip
        if abs(norm - 1.0) > 1e-12:
            x, y, z, w = self.quaternion
            object.__setattr__(self, "quaternion", (x / norm, y / norm, z / norm, w / norm))

    @classmethod
    def of(cls, position: npt.ArrayLike, quaternion: npt.ArrayLike) -> Pose:
        """From anything array-like; MessageError for another number of values."""
        p, q = np.asarray(position, np.float64).ravel(), np.asarray(quaternion, np.float64).ravel()
        if p.shape != (3,) or q.shape != (4,):
            raise MessageError(f"a pose of {p.size} + {q.size} numbers", "3 + 4 finite numbers are required",
                               "give position x y z and quaternion x y z w")  # fmt: skip
        px, py, pz = p.tolist()
        qx, qy, qz, qw = q.tolist()
        return cls((px, py, pz), (qx, qy, qz, qw))

    @property
    def p(self) -> Vector:
        """Position, float64 [3]."""
        return np.asarray(self.position, np.float64)

    @property
    def q(self) -> Vector:
        """Quaternion xyzw, float64 [4]."""
        return np.asarray(self.quaternion, np.float64)


def multiply(a: Vector, b: Vector) -> Vector:
    """The rotation b, then the rotation a (both about base axes): Hamilton product a b, xyzw [4]."""
    ax, ay, az, aw = a.tolist()  # plain floats: for four numbers NumPy is slower by far
    bx, by, bz, bw = b.tolist()
    return np.array([aw * bx + bw * ax + ay * bz - az * by, aw * by + bw * ay + az * bx - ax * bz,
                     aw * bz + bw * az + ax * by - ay * bx, aw * bw - ax * bx - ay * by - az * bz])  # fmt: skip


def inverse(q: Vector) -> Vector:
    """Of a unit quaternion [4]."""
    x, y, z, w = q.tolist()
    return np.array([-x, -y, -z, w])


def exp(rotvec: Vector) -> Vector:
    """Rotation vector [3] (rad) -> unit quaternion [4]."""
    x, y, z = rotvec.tolist()
    angle = hypot(x, y, z)
    scale = sin(angle / 2) / angle if angle > 1e-8 else 0.5 - angle * angle / 48
    return unit(np.array([x * scale, y * scale, z * scale, cos(angle / 2)]))


def log(q: Vector, shortest: bool = True) -> Vector:
    """Unit quaternion [4] -> rotation vector [3] of angle 0 to pi; up to 2 pi, by the sign of q, if not ``shortest``."""
    x, y, z, w = q.tolist()
    if shortest and w < 0:
        x, y, z, w = -x, -y, -z, -w
    sine = hypot(x, y, z)
    scale = 2.0 * atan2(sine, w) / sine if sine >= 1e-12 else 2.0
    return np.array([x * scale, y * scale, z * scale])


def unit(q: Vector) -> Vector:
    return np.asarray(q / np.linalg.norm(q))


def angle_between(a: Vector, b: Vector) -> float:
    """The angle (rad, 0 to pi) of the turn from b to a."""
    return float(np.linalg.norm(log(multiply(a, inverse(b)))))


def yaw(q: Vector) -> float:
    """Turn of the hand's x axis about the vertical (rad), as in the simulator: 0 when it points along the base's x."""
    x, y, z, w = q
    return float(np.arctan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z)))


def raw_proprio(pose: Pose, gripper_width: float) -> FloatArray:
    """Raw values in the order of ``ProprioSpec``, float32 [6]: x, y, z (m), cos yaw, sin yaw, gripper width (m)."""
    turn = yaw(pose.q)
    return np.array([*pose.position, np.cos(turn), np.sin(turn), gripper_width], np.float32)

