from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.limits import Base, Clip, Limits
from irevla_ros.core.rotation import POINTING_DOWN, Pose, angle_between, exp, multiply, unit, yaw

HOME = np.array(POINTING_DOWN)
MIDDLE = (0.5, 0.0, 0.2)
STILL = np.zeros(3)


def pose(position: Any = MIDDLE, turn: Any = STILL) -> Pose:
    return Pose.of(position, multiply(exp(np.asarray(turn, np.float64)), HOME))


def test_a_step_within_all_limits_is_taken_as_it_is() -> None:
    target, clips = Limits().advance(pose(), pose(), np.array([0.03, -0.02, 0.01]), np.array([0, 0, 0.2]), 0.1)
    np.testing.assert_allclose(target.position, [0.53, -0.02, 0.21], atol=1e-12)
    assert yaw(target.q) == pytest.approx(0.2)
    assert clips == ()


def test_the_box_by_hand() -> None:
    target, clips = Limits().advance(pose((0.69, 0, 0.02)), pose((0.69, 0, 0.02)), np.array([0.04, 0, -0.04]), STILL, 0.1)
    np.testing.assert_allclose(target.position, [0.70, 0, 0.012])
    assert clips == (Clip.BOX,)


def test_the_step_limit_is_on_the_length_not_on_the_axes() -> None:
    target, clips = Limits(step_m=0.05, leash_m=0.2).advance(pose(), pose(), np.array([0.06, 0.08, 0]), STILL, 0.1)
    np.testing.assert_allclose(target.position, [0.53, 0.04, 0.2])  # 0.1 m shortened to 0.05
    assert clips == (Clip.STEP,)


def test_the_turn_of_a_step_is_limited() -> None:
    target, clips = Limits(step_rad=0.1).advance(pose(), pose(), STILL, np.array([0, 0, 0.25]), 0.1)
    assert yaw(target.q) == pytest.approx(0.1)
    assert clips == (Clip.STEP,)


def test_the_wrist_does_not_wind_up() -> None:
    target, clips = Limits().advance(pose(turn=[0, 0, 1.6]), pose(turn=[0, 0, 1.6]), STILL, np.array([0, 0, 0.25]), 0.1)
    assert yaw(target.q) == pytest.approx(1.7)  # as in the simulator
    assert clips == (Clip.TURN,)


def test_the_target_does_not_run_away_from_a_blocked_arm() -> None:
    limits, target = Limits(leash_m=0.1, leash_rad=0.6), pose()
    for _ in range(10):
        target, clips = limits.advance(target, pose(), np.array([0.04, 0, 0]), np.array([0, 0, 0.2]), 0.1)
    assert target.position[0] == pytest.approx(0.6)
    assert yaw(target.q) == pytest.approx(0.6)
    assert clips == (Clip.LEASH,)


def test_measured_base_starts_where_the_arm_is_and_commanded_base_where_it_should_be() -> None:
    target, sagged = pose((0.5, 0, 0.2)), pose((0.5, 0, 0.19))
    measured, _ = Limits(base=Base.MEASURED).advance(target, sagged, np.array([0.02, 0, 0]), STILL, 0.1)
    commanded, _ = Limits(base=Base.COMMANDED).advance(target, sagged, np.array([0.02, 0, 0]), STILL, 0.1)
    np.testing.assert_allclose(measured.position, [0.52, 0, 0.19])
    np.testing.assert_allclose(commanded.position, [0.52, 0, 0.20])


def test_an_arm_that_was_pushed_away_is_brought_back_in_steps() -> None:
    target, pushed = pose((0.68, 0, 0.2)), pose((0.30, 0, 0.2))
    moved, clips = Limits().advance(target, pushed, STILL, STILL, 0.1)
    assert np.linalg.norm(np.subtract(moved.position, target.position)) == pytest.approx(0.07)
    assert set(clips) == {Clip.LEASH, Clip.STEP}


def test_the_first_target_is_the_measured_pose_or_none() -> None:
    limits = Limits()
    assert limits.start(pose()) == pose()
    np.testing.assert_allclose(limits.start(pose((0.5, 0, 0.0))).position, [0.5, 0, 0.012])  # type: ignore[union-attr]
    assert limits.start(pose((0.5, 0, -0.07))) is None
    assert yaw(limits.start(pose(turn=[0, 0, 1.9])).q) == pytest.approx(1.7)  # type: ignore[union-attr]
    assert limits.start(pose(turn=[0, 0, 2.0])) is None


@pytest.mark.parametrize(
    ("band", "action", "now", "wanted"),
    [
        (0.0, 0.01, -1, 1), (0.0, 0.0, 1, -1),  # as the simulator: above 0 opens, else closes
        (0.2, 0.21, -1, 1), (0.2, 0.2, -1, -1), (0.2, -0.19, 1, 1), (0.2, -0.2, 1, -1), (0.2, 0.0, None, None),
    ],
)  # fmt: skip
def test_gripper_hysteresis(band: float, action: float, now: int | None, wanted: int | None) -> None:
    assert Limits(gripper_band=band).gripper(action, now) == wanted


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"box_low": (0.8, 0.0, 0.0)}, "low lies below high on each axis"),
        ({"box_high": (math.nan, 1.0, 1.0)}, "low lies below high on each axis"),
        ({"step_m": 0.0}, "all are positive and turn_rad is below pi"),
        ({"leash_rad": math.inf}, "all are positive and turn_rad is below pi"),
        ({"turn_rad": 3.2}, "all are positive and turn_rad is below pi"),
        ({"gripper_band": 1.0}, r"the band lies in \[0, 1\)"),
        ({"home": (1.0, 1.0, 0.0, 0.0)}, "a unit quaternion xyzw"),
    ],
)
def test_bad_limits(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Limits(**values)


lengths = st.floats(1e-3, 2.0)
moves = st.tuples(*[st.floats(-1e3, 1e3)] * 3).map(np.array)
turns = st.tuples(*[st.floats(-20, 20)] * 3).map(np.array)
rotations = st.tuples(*[st.floats(-1, 1)] * 4).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1).map(unit)
limits = st.builds(
    Limits,
    step_m=lengths, step_rad=lengths, leash_m=lengths, leash_rad=lengths, turn_rad=st.floats(0.05, 3.1),
    home=rotations.map(tuple), base=st.sampled_from(Base),
)  # fmt: skip


@settings(max_examples=500)
@given(
    limits,
    st.tuples(*[st.floats(0, 1)] * 3),
    st.lists(st.tuples(moves, turns, st.tuples(*[st.floats(-100, 100)] * 3), rotations), min_size=1, max_size=8),
)
def test_box_turn_and_step_hold_for_any_wish_and_any_measurement(limit: Limits, place: Any, wishes: Any) -> None:
    low, high = np.array(limit.box_low), np.array(limit.box_high)
    home = np.array(limit.home)
    target = Pose.of(low + np.array(place) * (high - low), home)
    for move, turn, position, rotation in wishes:
        following, _ = limit.advance(target, Pose.of(position, rotation), move, turn, 0.1)
        assert (following.p >= low).all() and (following.p <= high).all()
        assert np.linalg.norm(following.p - target.p) <= limit.step_m + 1e-9
        assert angle_between(following.q, target.q) <= limit.step_rad + 1e-6
        assert angle_between(following.q, home) <= limit.turn_rad + 1e-6
        assert abs(np.linalg.norm(following.q) - 1) < 1e-12
        target = following


@given(limits, st.tuples(*[st.floats(-2, 2)] * 3), rotations)
def test_the_first_target_is_allowed_and_near(limit: Limits, position: Any, rotation: Any) -> None:
    measured = Pose.of(position, rotation)
    target = limit.start(measured)
    if target is not None:
        assert (target.p >= limit.box_low).all() and (target.p <= limit.box_high).all()
        assert np.linalg.norm(target.p - measured.p) <= limit.step_m + 1e-9
        assert angle_between(target.q, measured.q) <= limit.step_rad + 1e-6
        assert angle_between(target.q, np.array(limit.home)) <= limit.turn_rad + 1e-6
