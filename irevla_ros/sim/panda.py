"""The Panda arm: fast-to-draw model, damped inverse kinematics with joint limits, and the gripper."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irevla_ros.core.types import FloatArray

Vector = npt.NDArray[np.float64]

ARM = tuple(range(7))
FINGERS = (9, 10)
BASE_LINKS = (-1, 0, 1, 2, 3)  # panda_link0 to panda_link4: above and behind what the front camera sees
TIP = 11  # panda_grasptarget: the point between the finger tips
HOME = np.array([0.0, 0.02, 0.0, -2.35, 0.0, 2.37, 0.785])
LOWER = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
MARGIN = 0.05  # rad kept from every joint limit
DAMPING = 0.05
POSTURE_GAIN = 0.1  # pull of the redundant degree of freedom towards HOME
ARM_FORCE = 87.0  # N m
FINGER_FORCE = 25.0  # N
FINGER_OPEN = 0.04  # m per finger


def load_model(client: Any) -> int:
    """Load PyBullet's Panda with its collision meshes drawn instead of the visual ones: looks alike, 10x faster."""
    import pybullet_data

    source = Path(pybullet_data.getDataPath()) / "franka_panda"
    text = (source / "panda.urdf").read_text()
    text = re.sub(r"package://meshes/visual/(\w+)\.obj", r"package://meshes/collision/\1.obj", text)
    text = text.replace("package://meshes", str(source / "meshes"))
    with tempfile.TemporaryDirectory() as folder:
        urdf = Path(folder) / "panda.urdf"
        urdf.write_text(text)
        body: int = client.loadURDF(str(urdf), useFixedBase=True, flags=client.URDF_ENABLE_CACHED_GRAPHICS_SHAPES)
    return body


class Panda:
    """One arm in one physics client. Positions in metres in the base frame, angles in radians."""

    def __init__(self, client: Any) -> None:
        self._p = client
        self.id = load_model(client)
        for link in range(-1, 6):  # only wrist, hand and fingers can touch the scene
            client.setCollisionFilterGroupMask(self.id, link, 0, 0)
        for finger in FINGERS:
            client.changeDynamics(self.id, finger, lateralFriction=1.5, spinningFriction=0.01)
        self.yaw = 0.0

    def reset(self, position: Vector, yaw: float, gripper: float) -> None:
        """Put the tip at ``position`` [3], pointing down, turned by ``yaw``; ``gripper`` -1 closed to +1 open."""
        q = HOME.copy()
        self._set_joints(q)
        self.yaw = yaw
        for _ in range(8):
            q = self._solve(q, position)
            self._set_joints(q)
        opening = FINGER_OPEN * (gripper + 1) / 2
        for finger in FINGERS:
            self._p.resetJointState(self.id, finger, opening, 0.0)
        self._command(q, gripper)

    def move(self, position: Vector, yaw: float, gripper: float) -> None:
        """Set joint targets so that the tip goes to ``position`` and ``yaw``; the physics then runs."""
        self.yaw = yaw
        q = np.array([state[0] for state in self._p.getJointStates(self.id, ARM)])
        self._command(self._solve(q, position), gripper)

    def tip(self) -> tuple[Vector, Vector]:
        """Measured tip position [3] and orientation quaternion xyzw [4]."""
        state = self._p.getLinkState(self.id, TIP, computeForwardKinematics=True)
        return np.array(state[4]), np.array(state[5])

    def joints(self) -> list[float]:
        """Measured positions [9] of ``ARM`` (rad) and ``FINGERS`` (m)."""
        return [float(state[0]) for state in self._p.getJointStates(self.id, ARM + FINGERS)]

    def gripper_width(self) -> float:
        """Distance between the finger tips, 0 to 0.08 m."""
        return float(sum(state[0] for state in self._p.getJointStates(self.id, FINGERS)))

    def measured_yaw(self) -> float:
        """Turn of the hand about the vertical, 0 at HOME."""
        rotation = np.array(self._p.getMatrixFromQuaternion(self.tip()[1])).reshape(3, 3)
        return float(np.arctan2(rotation[1, 0], rotation[0, 0]))

    def proprio(self) -> FloatArray:
        """Raw values in the order of ``ProprioSpec``: x, y, z, cos yaw, sin yaw, gripper width."""
        position, quaternion = self.tip()
        rotation = self._p.getMatrixFromQuaternion(quaternion)
        yaw = np.arctan2(rotation[3], rotation[0])
        return np.array([*position, np.cos(yaw), np.sin(yaw), self.gripper_width()], np.float32)

    def _solve(self, q: Vector, position: Vector) -> Vector:
        """One damped least-squares step towards the target pose from joints ``q`` [7], within the joint limits.

        Source: Buss, "Introduction to inverse kinematics with Jacobian transpose, pseudoinverse and damped least
        squares methods" (2004), with a null-space pull towards HOME. One step per tick suffices: the next one starts
        from the measured pose, so its second-order error does not accumulate.
        """
        tip, quaternion = self.tip()
        rotation = np.array(self._p.getMatrixFromQuaternion(quaternion)).reshape(3, 3)
        wanted = _pointing_down(self.yaw)
        # Rotation error from the skew part of the relative rotation: right direction, good to 90 degrees.
        skew = wanted @ rotation.T
        turn = 0.5 * np.array([skew[2, 1] - skew[1, 2], skew[0, 2] - skew[2, 0], skew[1, 0] - skew[0, 1]])
        fingers = [0.0, 0.0]
        linear, angular = self._p.calculateJacobian(
            self.id, TIP, [0.0, 0.0, 0.0], [*q, *fingers], [0.0] * 9, [0.0] * 9
        )
        jacobian = np.vstack((np.array(linear)[:, :7], np.array(angular)[:, :7]))
        gram = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        error = np.concatenate((position - tip, turn))
        posture = POSTURE_GAIN * (HOME - q)
        delta = jacobian.T @ np.linalg.solve(gram, error - jacobian @ posture) + posture
        return np.clip(q + delta, LOWER + MARGIN, UPPER - MARGIN)

    def _set_joints(self, q: Vector) -> None:
        for joint, value in zip(ARM, q, strict=True):
            self._p.resetJointState(self.id, joint, value, 0.0)

    def _command(self, q: Vector, gripper: float) -> None:
        opening = FINGER_OPEN * (float(np.clip(gripper, -1, 1)) + 1) / 2
        self._p.setJointMotorControlArray(
            self.id,
            ARM + FINGERS,
            self._p.POSITION_CONTROL,
            targetPositions=[*q, opening, opening],
            forces=[ARM_FORCE] * 7 + [FINGER_FORCE] * 2,
            positionGains=[0.15] * 7 + [0.1] * 2,
            velocityGains=[1.0] * 9,
        )


def _pointing_down(yaw: float) -> Vector:
    """Rotation matrix of a hand that points down, turned by ``yaw`` about the vertical."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
