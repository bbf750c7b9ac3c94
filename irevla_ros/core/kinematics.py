"""Forward kinematics and Jacobian of the Franka arms, which share their geometry, and their joint limits.

Source: Franka's published Denavit-Hartenberg parameters (Craig's convention) and joint position limits, "Robot and interface
specifications" of the Panda (FER) and of the Franka Research 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

import numpy as np
import numpy.typing as npt

from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose, Vector

Matrix = npt.NDArray[np.float64]

DOF = 7
HAND_TCP_M = 0.1034  # from the flange along its z to the point between the finger tips of Franka's hand
# a (m), alpha (rad), d (m) of each joint, then of the flange.
_QUARTER = np.pi / 2
_DH = (
    (0.0, 0.0, 0.333), (0.0, -_QUARTER, 0.0), (0.0, _QUARTER, 0.316), (0.0825, _QUARTER, 0.0), (-0.0825, -_QUARTER, 0.384),
    (0.0, _QUARTER, 0.0), (0.088, _QUARTER, 0.0), (0.0, 0.0, 0.107),
)  # fmt: skip
_COS, _SIN = (turn([alpha for _, alpha, _ in _DH]) for turn in (np.cos, np.sin))
_LINKS = np.array([[[0, 0, 0, a], [0, 0, -np.sin(alpha), -d * np.sin(alpha)], [0, 0, np.cos(alpha), d * np.cos(alpha)],
                    [0, 0, 0, 1]] for a, alpha, d in _DH])  # fmt: skip
_HAND_TURN = -np.pi / 4  # of the hand about the flange's z
_JOINT = re.compile(r"(?!.*finger).*joint([1-7])")


class Arm(str, Enum):
    PANDA = "panda"
    FR3 = "fr3"

    @property
    def lowest(self) -> Vector:
        """Joint limits [7], rad."""
        return _LIMITS[self][0]

    @property
    def highest(self) -> Vector:
        return _LIMITS[self][1]


_LIMITS = {
    Arm.PANDA: (np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
                np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])),
    Arm.FR3: (np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]),
              np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159])),
}  # fmt: skip


def arm_joints(names: Sequence[str], positions: Sequence[float]) -> Vector:
    """Positions [7] (rad) of ``<anything>joint1`` to ``joint7`` in that order, whatever else (fingers) is named with them.

    MessageError unless each is there once and finite."""
    if len(names) != len(positions):
        raise MessageError(f"{len(names)} joint names, {len(positions)} positions", "one for each", "check the sender")
    found = {int(match[1]): float(positions[index]) for index, name in enumerate(names) if (match := _JOINT.fullmatch(name))}
    if sorted(found) != list(range(1, DOF + 1)) or not np.isfinite(list(found.values())).all():
        raise MessageError(f"joints {list(names)[:9]}", "joint1 to joint7, all finite", "listen to the arm's joint_states")
    return np.array([found[number] for number in range(1, DOF + 1)])


def forward(joints: Vector, tool_m: float = HAND_TCP_M) -> Pose:
    """The pose of the tool in the base frame for joints [7] (rad): the hand's orientation, ``tool_m`` beyond the flange."""
    frames = _frames(joints, tool_m)
    return Pose.of(frames[DOF, :3, 3], _quaternion(frames[DOF, :3, :3]))


def jacobian(joints: Vector, tool_m: float = HAND_TCP_M) -> Matrix:
    """[6, 7]: linear velocity of the tool (m/s) and angular velocity (rad/s), base frame, for each joint's rad/s."""
    frames = _frames(joints, tool_m)
    axes, arms = frames[:DOF, :3, 2], frames[DOF, :3, 3] - frames[:DOF, :3, 3]
    return np.vstack((np.cross(axes, arms).T, axes.T))


def smallest_singular_value(matrix: Matrix) -> float:
    """How far from singular a Jacobian is: what the joints' speed is multiplied with in the worst direction (1 m = 1 rad)."""
    return float(np.linalg.svd(matrix, compute_uv=False)[-1])


def _frames(joints: Vector, tool_m: float) -> Matrix:
    """Transforms [8, 4, 4] of the joints' frames and of the tool's."""
    angles = np.append(joints, _HAND_TURN)
    links = _LINKS.copy()
    links[:, 0, 0], links[:, 0, 1] = np.cos(angles), -np.sin(angles)
    turned = np.stack((np.sin(angles), np.cos(angles)), axis=-1)
    links[:, 1, :2], links[:, 2, :2] = turned * _COS[:, None], turned * _SIN[:, None]
    links[DOF, 2, 3] += tool_m
    for index in range(DOF):
        links[index + 1] = links[index] @ links[index + 1]
    return links


def _quaternion(rotation: Matrix) -> Vector:
    """xyzw of a rotation matrix [3, 3], by the largest component (Shepperd)."""
    m = rotation
    k = np.array([
        [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
        [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
        [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], np.trace(m)],
    ])  # fmt: skip
    row = (k + np.eye(4))[int(np.argmax(np.diag(k)))]  # 4 q_i q
    return np.asarray(row / np.linalg.norm(row))
