from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.limits import Clip, Limits
from irevla_ros.core.rotation import POINTING_DOWN, Pose, inverse, multiply
from irevla_ros.core.workspace import Workspace

LOW, HIGH = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SLOPE = (0.6, 0.0, 0.8, 0.7)  # 0.6 x + 0.8 z <= 0.7


def test_a_plane_by_hand() -> None:
    room = Workspace(LOW, HIGH, SLOPE)
    assert room.contains(np.array([0.5, 0.5, 0.5])) and not room.contains(np.array([0.9, 0.5, 0.9]))
    np.testing.assert_allclose(room.nearest(np.array([0.8, 0.5, 0.65])), [0.62, 0.5, 0.41])  # 0.3 beyond, back along n
    np.testing.assert_allclose(room.nearest(np.array([0.5, 2.0, 0.5])), [0.5, 1.0, 0.5])
    np.testing.assert_allclose(room.reach(np.array([0.5, 0.5, 0.2]), np.array([0.5, 0.5, 0.7])), [0.5, 0.5, 0.5])


def test_a_step_slides_along_the_plane_and_says_so() -> None:
    limits = Limits(planes=(0.0, 1.0, 0.0, 0.1))  # y <= 0.1
    here = Pose((0.5, 0.09, 0.2), POINTING_DOWN)
    target, clips = limits.advance(here, here, np.array([0.02, 0.03, 0.0]), np.zeros(3), 0.1)
    np.testing.assert_allclose(target.position, [0.52, 0.10, 0.2])
    assert clips == (Clip.BOX,)
    assert limits.start(Pose((0.5, 0.16, 0.2), POINTING_DOWN)) == Pose((0.5, 0.1, 0.2), POINTING_DOWN)
    assert limits.start(Pose((0.5, 0.18, 0.2), POINTING_DOWN)) is None


def test_the_tool_axis_stays_in_its_cone_whatever_the_yaw() -> None:
    limits = Limits(tilt_rad=0.2, step_rad=1.0, leash_rad=2.0, speed_rad_s=10.0)
    here = Pose((0.5, 0.0, 0.2), POINTING_DOWN)
    target, clips = limits.advance(here, here, np.zeros(3), np.array([0.5, 0.0, 0.0]), 0.1)
    assert clips == (Clip.TURN,)
    down = multiply(multiply(target.q, np.array([0.0, 0.0, 1.0, 0.0])), inverse(target.q))[:3]
    assert np.arccos(-down[2]) == pytest.approx(0.2)
    target, clips = limits.advance(here, here, np.zeros(3), np.array([0.0, 0.0, 0.9]), 0.1)
    assert clips == ()  # a spin about the tool axis is no tilt


@settings(max_examples=300)
@given(st.floats(0.05, 1.0), st.floats(0.1, 3.0), st.tuples(*[st.floats(-3, 3)] * 3))
def test_no_orientation_is_let_through_beyond_turn_and_tilt(tilt: float, turn: float, wish: Any) -> None:
    limits = Limits(tilt_rad=tilt, turn_rad=turn, step_rad=7.0, leash_rad=3.2, speed_rad_s=70.0, acceleration_rad_s2=400.0)
    here = Pose((0.5, 0.0, 0.2), POINTING_DOWN)
    target, _ = limits.advance(here, here, np.zeros(3), np.array(wish), 1.0)
    down = multiply(multiply(target.q, np.array([0.0, 0.0, 1.0, 0.0])), inverse(target.q))[:3]
    assert np.arccos(np.clip(-down[2], -1, 1)) <= tilt + 1e-6
    away = multiply(target.q, inverse(np.array(POINTING_DOWN)))
    assert 2 * np.arccos(min(1.0, abs(away[3]))) <= turn + 1e-6


normals = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array).filter(lambda n: np.linalg.norm(n) > 0.1)
places = st.tuples(*[st.floats(-1, 2)] * 3).map(np.array)


@settings(max_examples=300)
@given(st.lists(st.tuples(normals, st.floats(0.02, 0.5)), max_size=5), places, places)
def test_what_is_reached_is_allowed(cuts: Any, wish: Any, other: Any) -> None:
    middle = np.array([0.5, 0.5, 0.5])
    planes = [number for n, room in cuts for number in (*(n / np.linalg.norm(n)), (n / np.linalg.norm(n)) @ middle + room)]
    room = Workspace(LOW, HIGH, planes)
    first = room.reach(middle, room.nearest(wish))
    assert room.contains(first)
    assert room.contains(room.reach(first, other))
    if room.contains(wish):
        np.testing.assert_allclose(room.reach(middle, wish), wish, atol=1e-8)


@pytest.mark.parametrize(
    ("planes", "message"),
    [((0.0, 0.0, 1.0), "four finite numbers each, nx ny nz d: allowed is n . p <= d"),
     ((0.0, 0.0, 1.0, float("nan")), "four finite numbers each"),
     ((0.0, 0.0, 2.0, 0.4), r"workspace plane \(0.0, 0.0, 2.0, 0.4\): its normal has length 1"),
     ((0.0, 0.0, 1.0, -0.1), "they leave some room; check the signs"),
     ((1.0, 0.0, 0.0, 0.3, -1.0, 0.0, 0.0, -0.6), "they leave some room")],
)  # fmt: skip
def test_bad_planes(planes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Workspace(LOW, HIGH, planes)
