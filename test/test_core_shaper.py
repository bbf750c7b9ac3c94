from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import irevla_ros
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.limits import Limits
from irevla_ros.core.rotation import POINTING_DOWN, Pose, angle_between, exp, multiply, unit
from irevla_ros.core.shaper import PoseShaper, Rates, Shaper

DT = 0.02
ORIGIN = np.zeros(3)


def outputs(shaper: Shaper, steps: int) -> Any:
    return np.array([shaper.step() for _ in range(steps)])


def test_one_step_by_hand() -> None:
    """Windows of 2 V / (A dt) = 3 and 2 A / (J dt) = 2 periods: three averages of a reference that needs two periods."""
    shaper = Shaper(Rates(1.0, 2.0 / 0.06, 2 * 2.0 / 0.06 / 0.04), DT, ORIGIN)
    shaper.aim(np.array([0.03, 0.0, 0.0]), 0.04)
    # The reference: 0.015, 0.03, 0.03, ...; averaged over three: 0.005, 0.015, 0.025, 0.03; over two:
    assert outputs(shaper, 6)[:, 0] == pytest.approx([0.0025, 0.01, 0.02, 0.0275, 0.03, 0.03])
    assert not shaper.moving


def test_a_steady_goal_is_followed_at_its_own_speed_and_late() -> None:
    shaper = Shaper(Rates(0.5, 5.0, 100.0), DT, ORIGIN)  # windows 10 and 5: 0.13 s late
    made = []
    for number in range(1, 11):
        shaper.aim(np.array([0.02 * number, 0.0, 0.0]), 0.1)
        made.extend(outputs(shaper, 5))
    speeds = np.diff(np.array(made)[:, 0]) / DT
    assert speeds[15:] == pytest.approx(0.2)  # no ripple from one step to the next
    assert made[-1][0] == pytest.approx(0.2 - 0.2 * DT * (9 + 4) / 2)


def test_braking_comes_to_rest_where_it_said_and_in_the_time_it_said() -> None:
    rates = Rates(0.5, 5.0, 100.0)
    shaper = Shaper(rates, DT, ORIGIN)
    shaper.aim(np.array([1.0, 0.0, 0.0]), 0.0)
    outputs(shaper, 30)
    shaper.brake()
    rest = shaper.rest
    assert rest[0] == pytest.approx(0.3)  # 30 periods at full speed
    made = outputs(shaper, round(rates.stop_s / DT))
    assert made[-1] == pytest.approx(rest) and (np.diff(made[:, 0]) >= -1e-12).all()
    assert not shaper.moving


def franka() -> Limits:
    """As shipped for the real arm."""
    file = Path(irevla_ros.__file__).parent / "config" / "parameters" / "franka.yaml"
    arbiter = yaml.safe_load(file.read_text())["/**/arbiter"]["ros__parameters"]
    rates = ("speed_m_s", "speed_rad_s", "acceleration_m_s2", "acceleration_rad_s2", "jerk_m_s3", "jerk_rad_s3")
    return Limits(**{name: arbiter[f"limits.{name}"] for name in rates})


@pytest.mark.parametrize("limits", [Limits(), franka()], ids=["default", "franka"])
def test_after_the_last_step_of_a_policy_that_died_the_target_stands_within_200_ms(limits: Limits) -> None:
    """At full speed in position and orientation, with a step every 100 ms."""
    start = Pose.of(np.zeros(3), np.asarray(POINTING_DOWN))
    shaper = PoseShaper(limits.moving, limits.turning, POINTING_DOWN, round(DT * 1e9), start)
    for number in range(1, 11):
        turned = multiply(exp(np.array([0.0, 0.0, 0.1 * number * limits.speed_rad_s])), np.asarray(POINTING_DOWN))
        shaper.aim(Pose.of(np.array([0.1 * number * limits.speed_m_s, 0.0, 0.0]), turned), 100_000_000)
        made = [shaper.step() for _ in range(5)]
    made += [shaper.step() for _ in range(5)]
    assert not shaper.moving  # ten periods after the last step
    assert made[-1].p[0] == pytest.approx(limits.speed_m_s) and np.linalg.norm(made[4].p - made[3].p) > 0.01 * limits.speed_m_s


def test_a_lower_speed_counts_at_once() -> None:
    shaper = Shaper(Rates(0.5, 5.0, 100.0), DT, ORIGIN)
    shaper.aim(np.array([1.0, 0.0, 0.0]), 0.0)
    outputs(shaper, 30)
    shaper.limit(0.1)
    shaper.limit(0.4)  # never faster again
    assert np.diff(outputs(shaper, 40)[:, 0])[-1] / DT == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("rates", "message"),
    [((0.0, 1.0, 1.0), "all are positive"), ((1.0, float("nan"), 1.0), "all are positive"),
     ((1.0, float("inf"), 1.0), "all are positive"),
     ((1.0, 0.5, 10.0), "they stop the target within 3 s, not 4.1 s; lower the speed, or raise acceleration or jerk")],
)  # fmt: skip
def test_bad_rates(rates: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rates(*rates)


points = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)
sizes = st.builds(Rates, st.floats(0.05, 1.0), st.floats(2.0, 20.0), st.floats(40.0, 1000.0))


@settings(max_examples=300)
@given(sizes, st.lists(st.tuples(points, st.integers(1, 12), st.floats(0, 0.3), st.booleans()), min_size=1, max_size=12))
def test_whatever_the_goals_are_rates_and_the_hull_of_the_goals_hold(rates: Rates, goals: Any) -> None:
    shaper, made = Shaper(rates, DT, ORIGIN), [ORIGIN] * 4
    for goal, steps, duration, brake in goals:
        shaper.aim(goal, duration)
        if brake:
            shaper.brake()
        made.extend(outputs(shaper, steps))
    for order, limit in ((1, rates.speed), (2, rates.acceleration), (3, rates.jerk)):
        assert np.linalg.norm(np.diff(made, order, axis=0), axis=1).max() / DT**order <= limit * (1 + 1e-9) + 1e-12 / DT**order
    corners = np.array([ORIGIN, *(goal for goal, *_ in goals)])
    assert (np.array(made) >= corners.min(0) - 1e-12).all() and (np.array(made) <= corners.max(0) + 1e-12).all()


@settings(max_examples=100)
@given(st.lists(st.tuples(*[st.floats(-0.9, 0.9)] * 3).map(np.array), min_size=1, max_size=6))
def test_angular_velocity_is_never_above_the_limit_and_orientations_stay_among_the_goals(turns: Any) -> None:
    rates = Rates(1.0, 10.0, 200.0)
    home = unit(np.array([0.9, 0.1, -0.2, 0.3]))
    start = Pose.of((0.5, 0.0, 0.2), home)
    shaper = PoseShaper(rates, rates, tuple(home), 20_000_000, start)
    made = [start]
    for turn in turns:
        shaper.aim(Pose.of((0.5, 0.0, 0.2), multiply(exp(turn), home)), 100_000_000)
        made.extend(shaper.step() for _ in range(5))
    largest = max(np.linalg.norm(turn) for turn in turns)
    for before, after in pairwise(made):
        assert angle_between(after.q, before.q) <= rates.speed * DT + 1e-9
        assert angle_between(after.q, home) <= largest + 1e-9


def test_a_pose_that_has_arrived_is_the_goal_to_the_last_digit() -> None:
    start = Pose((0.5, 0.0, 0.2), POINTING_DOWN)
    shaper = PoseShaper(Rates(0.5, 5.0, 100.0), Rates(1.0, 10.0, 200.0), POINTING_DOWN, 20_000_000, start)
    goal = Pose.of((0.52, 0.01, 0.2), multiply(exp(np.array([0.0, 0.0, 0.1])), np.array(POINTING_DOWN)))
    shaper.aim(goal, 100_000_000)
    assert shaper.moving
    steps = 0
    while shaper.moving:
        shaper.step()
        steps += 1
    assert shaper.rest is goal and shaper.brake() is goal
    assert steps == 5 + 9 + 4  # the reference's periods, and what the windows of 10 and 5 are late
