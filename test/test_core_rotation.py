from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import (
    POINTING_DOWN,
    Pose,
    angle_between,
    exp,
    inverse,
    log,
    multiply,
    raw_proprio,
    unit,
    yaw,
)
from irevla_ros.sim.panda import _pointing_down

angles = st.floats(-math.pi + 1e-6, math.pi - 1e-6)
vectors = st.tuples(*[st.floats(-1.8, 1.8)] * 3).map(np.array)  # norm below pi
quaternions = (
    st.tuples(*[st.floats(-1, 1)] * 4).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1).map(unit)
)


def matrix(q: np.ndarray) -> np.ndarray:
    """By rotating the base vectors: v' = q v q*."""
    columns = [multiply(multiply(q, np.array([*e, 0.0])), inverse(q))[:3] for e in np.eye(3)]
    return np.stack(columns, axis=1)


def test_a_quarter_turn_about_z_by_hand() -> None:
    q = exp(np.array([0.0, 0.0, math.pi / 2]))
    np.testing.assert_allclose(q, [0, 0, math.sqrt(0.5), math.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(matrix(q) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_the_left_factor_turns_second_about_base_axes() -> None:
    about_x, about_z = exp(np.array([math.pi / 2, 0, 0])), exp(np.array([0, 0, math.pi / 2]))
    # y goes to z by the turn about x, which the turn about the base's z leaves alone.
    np.testing.assert_allclose(matrix(multiply(about_z, about_x)) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    # The other order: y goes to -x first, which the turn about x leaves alone.
    np.testing.assert_allclose(matrix(multiply(about_x, about_z)) @ [0, 1, 0], [-1, 0, 0], atol=1e-12)


@given(angles, angles)
def test_a_turn_about_the_vertical_is_what_the_simulator_does(start: float, turn: float) -> None:
    q = multiply(exp(np.array([0.0, 0.0, start])), np.array(POINTING_DOWN))
    np.testing.assert_allclose(matrix(q), _pointing_down(start), atol=1e-9)
    turned = multiply(exp(np.array([0.0, 0.0, turn])), q)
    np.testing.assert_allclose(matrix(turned), _pointing_down(start + turn), atol=1e-9)
    assert abs(np.exp(1j * yaw(q)) - np.exp(1j * start)) < 1e-9


@given(vectors)
def test_log_undoes_exp(v: np.ndarray) -> None:
    if np.linalg.norm(v) < math.pi - 1e-3:
        np.testing.assert_allclose(log(exp(v)), v, atol=1e-7)
    assert abs(np.linalg.norm(exp(v)) - 1) < 1e-12


@given(quaternions, quaternions)
def test_composition_is_that_of_matrices(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(matrix(multiply(a, b)), matrix(a) @ matrix(b), atol=1e-9)
    np.testing.assert_allclose(matrix(multiply(a, inverse(a))), np.eye(3), atol=1e-9)


def test_the_angle_between_is_the_shorter_one() -> None:
    a, b = exp(np.array([0.0, 0.0, 3.0])), exp(np.array([0.0, 0.0, -3.0]))
    assert angle_between(a, b) == pytest.approx(2 * math.pi - 6)
    assert angle_between(a, -a) == pytest.approx(0.0, abs=1e-9)


def test_proprioception_in_the_order_of_its_spec() -> None:
    pose = Pose.of([0.5, -0.1, 0.2], multiply(exp(np.array([0.0, 0.0, math.pi / 3])), np.array(POINTING_DOWN)))
    np.testing.assert_allclose(raw_proprio(pose, 0.08), [0.5, -0.1, 0.2, 0.5, math.sqrt(0.75), 0.08], atol=1e-6)


@given(quaternions, st.floats(0.995, 1.005))
def test_a_quaternion_almost_of_norm_one_is_normalised(q: np.ndarray, scale: float) -> None:
    assert abs(np.linalg.norm(Pose.of([0, 0, 0], q * scale).q) - 1) < 1e-12


@pytest.mark.parametrize(
    ("position", "quaternion", "message"),
    [
        ([0, 0, math.nan], POINTING_DOWN, r"3 \+ 4 finite numbers are required"),
        ([0, 0, 0], [math.inf, 0, 0, 0], r"3 \+ 4 finite numbers are required"),
        ([0, 0, 1e300], POINTING_DOWN, "it lies within 100 m of the base; give metres"),
        ([0, 0], POINTING_DOWN, r"a pose of 2 \+ 4 numbers"),
        ([0, 0, 0], [0, 0, 0, 0], "of norm 0: an orientation has norm 1"),
        ([0, 0, 0], [1e200, 0, 0, 0], "an orientation has norm 1"),
        ([0, 0, 0], [1, 1, 0, 0], "of norm 1.414: an orientation has norm 1"),
    ],
)
def test_what_is_no_pose_is_refused(position: list[float], quaternion: list[float], message: str) -> None:
    with pytest.raises(MessageError, match=message):
        Pose.of(position, quaternion)
