"""Between two decisions: a target that moves with bounded speed, acceleration and jerk, and never leaves a convex set.

A reference goes straight to the goal at a limited speed; the output is a moving average over a moving average of it. An
average of points of a convex set lies in the set, so that the output never leaves the workspace, whatever the goals are and
whenever they change; and there is no overshoot to be planned for. With windows of T1 and T2 the speed is that of the
reference, V at most, the acceleration at most 2 V / T1 and the jerk at most 4 V / (T1 T2): any change of goal, reversal
included. The price is that it stops in T1 + T2, twice as long as the shortest stop within those bounds.

Rotations are averaged as rotation vectors from the home orientation: allowed ones form a convex set there, too, and the
angular velocity is never more than the vector's rate (equal to it for a turn about one axis). The bounds on second and third
derivative are those of the rotation vector.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.rotation import Pose, Vector, exp, inverse, log, multiply, unit

SLOWEST_STOP_S = 3.0
ROUNDING = 1e-12


@dataclass(frozen=True)
class Rates:
    """Per second, of the length of the vector: speed (m/s or rad/s), acceleration, jerk. ConfigError unless they stop within
    three seconds."""

    speed: float
    acceleration: float
    jerk: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(rate) and rate > 0 for rate in (self.speed, self.acceleration, self.jerk)):
            raise ConfigError(f"speed, acceleration and jerk limits {self.speed}, {self.acceleration}, {self.jerk}",
                              "all are positive", "give metres or radians per second, s^2, s^3")  # fmt: skip
        if self.stop_s > SLOWEST_STOP_S:
            raise ConfigError(f"speed, acceleration and jerk limits {self.speed}, {self.acceleration}, {self.jerk}",
                              f"they stop the target within {SLOWEST_STOP_S:.0f} s, not {self.stop_s:.1f} s",
                              "lower the speed, or raise acceleration or jerk")  # fmt: skip

    @property
    def stop_s(self) -> float:
        """How long it takes to stop, at most, but for rounding up to whole servo periods."""
        return 2 * self.speed / self.acceleration + 2 * self.acceleration / self.jerk


class Shaper:
    """One vector [3], advanced by ``step`` once a servo period. At rest at ``start`` in the beginning."""

    def __init__(self, rates: Rates, period_s: float, start: Vector) -> None:
        self._period_s = period_s
        self._speed = rates.speed * period_s  # a period
        first = _window(2 * rates.speed, rates.acceleration * period_s)
        second = _window(2 * min(rates.acceleration, 2 * rates.speed / (first * period_s)), rates.jerk * period_s)
        self._goal = self._reference = start
        self._pace = 0.0
        self._references = deque([start] * first, maxlen=first)
        self._averages = deque([start] * second, maxlen=second)
        self._still = first + second  # steps since the reference moved

    @property
    def rest(self) -> Vector:
        """Where it comes to rest when it is told to brake."""
        return self._reference

    @property
    def arrived(self) -> bool:
        """Whether the reference is at the goal; the output may be on its way."""
        return self._reference is self._goal

    @property
    def moving(self) -> bool:
        """Whether the next step differs from the last one."""
        return not self.arrived or self._still < len(self._references) + len(self._averages) - 2

    def limit(self, speed: float) -> None:
        """No faster than ``speed`` a second, from now on."""
        self._speed = min(self._speed, speed * self._period_s)

    def aim(self, goal: Vector, duration_s: float) -> None:
        """Have the reference there in ``duration_s``, or as soon as its speed allows."""
        self._goal = goal
        periods = max(1, round(duration_s / self._period_s))
        self._pace = float(np.linalg.norm(goal - self._reference)) / periods
        self._still = 0

    def brake(self) -> None:
        """Come to rest, as fast as the limits allow."""
        self._goal = self._reference

    def step(self) -> Vector:
        """The next output."""
        if self.arrived:
            self._still += 1
        else:
            way = self._goal - self._reference
            left, allowed = float(np.linalg.norm(way)), min(self._speed, self._pace)
            self._reference = self._goal if left <= allowed * (1 + ROUNDING) else self._reference + way * (allowed / left)
            self._still = 0
        self._references.append(self._reference)
        self._averages.append(_mean(self._references))
        return _mean(self._averages)


class PoseShaper:
    """A pose: position, and orientation as the rotation vector from ``home`` (quaternion xyzw)."""

    def __init__(self, move: Rates, turn: Rates, home: tuple[float, ...], period_ns: int, start: Pose) -> None:
        self._home = np.asarray(home, np.float64)
        period_s = period_ns / SECOND
        self._goal = start
        self._position = Shaper(move, period_s, start.p)
        self._rotation = Shaper(turn, period_s, self._vector(start))

    @property
    def moving(self) -> bool:
        """Whether the next step differs from the last one."""
        return self._position.moving or self._rotation.moving

    @property
    def rest(self) -> Pose:
        """Where it comes to rest when it is told to brake."""
        if self._position.arrived and self._rotation.arrived:
            return self._goal  # to the last digit
        return self._pose(self._position.rest, self._rotation.rest)

    def limit(self, move_speed: float, turn_speed: float) -> None:
        self._position.limit(move_speed)
        self._rotation.limit(turn_speed)

    def aim(self, goal: Pose, duration_ns: int) -> None:
        self._goal = goal
        self._position.aim(goal.p, duration_ns / SECOND)
        self._rotation.aim(self._vector(goal), duration_ns / SECOND)

    def brake(self) -> Pose:
        """Come to rest; says where."""
        self._goal = self.rest
        self._position.brake()
        self._rotation.brake()
        return self._goal

    def step(self) -> Pose:
        return self._pose(self._position.step(), self._rotation.step())

    def _vector(self, pose: Pose) -> Vector:
        return log(multiply(pose.q, inverse(self._home)))

    def _pose(self, position: Vector, rotation: Vector) -> Pose:
        return Pose.of(position, unit(multiply(exp(rotation), self._home)))


def _window(change: float, allowed: float) -> int:
    """Periods over which ``change`` is spread so that no period sees more than ``allowed``."""
    return max(1, math.ceil(change / allowed - 1e-9))


def _mean(points: deque[Vector]) -> Vector:
    return np.asarray(np.add.reduce(list(points)) / len(points))
