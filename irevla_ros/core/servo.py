"""From a pose that is to be reached to the velocity with which a servo gets there."""

from __future__ import annotations

import numpy as np

from irevla_ros.core.rotation import Pose, Vector, inverse, log, multiply


def twist_towards(target: Pose, measured: Pose, gain_hz: float, linear_m_s: float,
                  angular_rad_s: float) -> tuple[Vector, Vector]:  # fmt: skip
    """Linear [3] (m/s) and angular [3] (rad/s) velocity in the base frame, in proportion to what is left of the way and at most
    ``linear_m_s`` and ``angular_rad_s`` long."""
    move = gain_hz * (target.p - measured.p)
    turn = gain_hz * log(multiply(target.q, inverse(measured.q)))
    return _at_most(move, linear_m_s), _at_most(turn, angular_rad_s)


def _at_most(v: Vector, longest: float) -> Vector:
    length = float(np.linalg.norm(v))
    return v if length <= longest else v * (longest / length)
