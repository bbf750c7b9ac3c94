"""Joint angles of the Franka arm for a pose of its tip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from irevla_ros.core.kinematics import Arm, forward, jacobian
from irevla_ros.core.rotation import Pose, Vector, inverse, log, multiply

DAMPING = 0.02
POSTURE = 0.05  # pull of the redundant degree of freedom towards where the search began
STEPS = 200
STEP_RAD = 0.3  # of the fastest joint
CLOSE_M, CLOSE_RAD = 5e-4, 2e-3


def solve(pose: Pose, begin: npt.ArrayLike, arm: Arm = Arm.FR3, margin: float = 0.05) -> Vector | None:
    """Joint angles [7] (rad) for a pose, near ``begin``, at least ``margin`` from every joint limit; None where none are found.

    Damped least squares (Buss 2004), with a pull towards ``begin`` in the null space.
    """
    lower, upper = arm.lowest + margin, arm.highest - margin
    first = np.asarray(begin, np.float64)
    found = np.clip(first, lower, upper)
    for _ in range(STEPS):
        now = forward(found)
        error = np.concatenate((pose.p - now.p, log(multiply(pose.q, inverse(now.q)))))
        if np.linalg.norm(error[:3]) < CLOSE_M and np.linalg.norm(error[3:]) < CLOSE_RAD:
            return found
        j = jacobian(found)
        posture = POSTURE * (first - found)
        step = j.T @ np.linalg.solve(j @ j.T + DAMPING**2 * np.eye(6), error - j @ posture) + posture
        found = np.clip(found + step * min(1.0, STEP_RAD / max(float(np.abs(step).max()), 1e-9)), lower, upper)
    return None
