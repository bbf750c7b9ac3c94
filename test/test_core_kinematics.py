from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.kinematics import Arm, arm_joints, forward, jacobian, smallest_singular_value
from irevla_ros.core.margins import MarginConfig, Threat, rooms, threatened
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose, exp, inverse, log, multiply
from irevla_ros.core.spec import ActionSpec
from irevla_ros.sim.panda import HOME, TIP
from irevla_ros.sim.world import World

ZERO = np.zeros(7)
GRASPTARGET_M = 0.105  # of PyBullet's model: from the flange to its tip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World(16, ActionSpec())
    yield made
    made.close()


def test_the_arm_stretched_up_by_hand() -> None:
    """Joints 0: 0.333 + 0.316 + 0.384 up, then 0.088 forward and 0.107 + 0.1034 down; the hand is turned by -45 degrees."""
    pose = forward(ZERO)
    np.testing.assert_allclose(pose.position, [0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - 0.1034], atol=1e-12)
    np.testing.assert_allclose(pose.quaternion, [np.cos(np.pi / 8), np.sin(np.pi / 8), 0, 0], atol=1e-12)


def test_the_first_joint_by_hand() -> None:
    """It turns all of the arm about the vertical through the base."""
    turned = forward(np.array([np.pi / 2, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(turned.position, [0.0, 0.088, forward(ZERO).position[2]], atol=1e-12)
    np.testing.assert_allclose(jacobian(ZERO)[:, 0], [0, 0.088, 0, 0, 0, 1], atol=1e-12)


def test_stretched_up_the_arm_is_singular() -> None:
    assert smallest_singular_value(jacobian(ZERO)) == pytest.approx(0.0, abs=1e-12)
    assert smallest_singular_value(jacobian(HOME)) > 0.2


@pytest.mark.parametrize("seed", range(20))
def test_it_is_pybullets_panda(world: World, seed: int) -> None:
    joints = np.random.default_rng(seed).uniform(Arm.PANDA.lowest, Arm.PANDA.highest)
    for joint, value in enumerate(joints):
        world.p.resetJointState(world.arm.id, joint, value)
    position, quaternion = world.arm.tip()
    pose = forward(joints, GRASPTARGET_M)
    np.testing.assert_allclose(pose.p, position, atol=1e-6)
    assert abs(pose.q @ quaternion) == pytest.approx(1.0, abs=1e-6)
    linear, angular = world.p.calculateJacobian(world.arm.id, TIP, [0.0] * 3, [*joints, 0, 0], [0.0] * 9, [0.0] * 9)
    np.testing.assert_allclose(jacobian(joints, GRASPTARGET_M), np.vstack((linear, angular))[:, :7], atol=1e-6)


@given(st.integers(0, 10_000))
def test_the_jacobian_is_the_derivative(seed: int) -> None:
    rng = np.random.default_rng(seed)
    joints, change = rng.uniform(-2, 2, 7), rng.normal(0, 1, 7) * 1e-6
    before, after = forward(joints), forward(joints + change)
    moved = np.concatenate((after.p - before.p, log(multiply(after.q, inverse(before.q)))))
    np.testing.assert_allclose(moved, jacobian(joints) @ change, atol=1e-11)


def test_joints_are_found_by_name() -> None:
    names = ["fr3_finger_joint1", *(f"fr3_joint{n}" for n in (3, 1, 2, 7, 6, 5, 4)), "fr3_finger_joint2"]
    np.testing.assert_allclose(arm_joints(names, [9, 3, 1, 2, 7, 6, 5, 4, 9]), [1, 2, 3, 4, 5, 6, 7])
    for wrong in (names[:-2], [*names[:-1], "fr3_joint8"], []):
        if wrong[:-1] != names[:-1]:
            with pytest.raises(MessageError, match="joint1 to joint7, all finite"):
                arm_joints(wrong, [0.0] * len(wrong))
    with pytest.raises(MessageError, match="9 joint names, 1 positions: one for each"):
        arm_joints(names, [0.0])
    with pytest.raises(MessageError, match="all finite"):
        arm_joints(names, [0.0] * 4 + [np.nan] * 5)


def moved(pose: Pose, by: Any, turn: Any = (0, 0, 0)) -> Pose:
    return Pose.of(pose.p + by, multiply(exp(np.array(turn, np.float64)), pose.q))


def test_a_motion_towards_a_joint_limit_is_a_threat_and_one_away_from_it_is_not() -> None:
    config, joints = MarginConfig(Arm.PANDA, joint_rad=0.1), HOME.copy()
    joints[6] = Arm.PANDA.highest[6] - 0.12
    assert rooms(config, joints)[6] == pytest.approx(0.12)
    here = forward(joints, config.tool_m)
    spin = multiply(here.q, np.array([0.0, 0.0, 1.0, 0.0]))  # the tool axis in the base frame, about which joint 7 turns
    axis = multiply(spin, inverse(here.q))[:3]
    assert threatened(config, joints, here, moved(here, 0.0, 0.01 * axis)) is None  # 0.11 are left
    assert threatened(config, joints, here, moved(here, 0.0, 0.05 * axis)) is Threat.JOINT_LIMIT
    assert threatened(config, joints, here, moved(here, 0.0, -0.05 * axis)) is None
    joints[6] = Arm.PANDA.highest[6] - 0.05  # it stands too near already
    here = forward(joints, config.tool_m)
    assert threatened(config, joints, here, moved(here, 0.0, 0.01 * axis)) is Threat.JOINT_LIMIT
    assert threatened(config, joints, here, moved(here, 0.0, -0.01 * axis)) is None
    assert threatened(config, joints, here, here) is None


def test_a_motion_towards_the_stretched_arm_is_a_threat_and_one_back_is_not() -> None:
    config = MarginConfig(Arm.PANDA, joint_rad=0.0, singular=0.1)
    joints = np.array([0.0, 0.6, 0.0, -1.1, 0.0, 1.8, 0.785])
    assert 0.08 < smallest_singular_value(jacobian(joints)) < 0.1
    here = forward(joints, config.tool_m)
    outwards = np.array([here.p[0], 0.0, here.p[2] - 0.333]) / np.linalg.norm([here.p[0], here.p[2] - 0.333])
    assert threatened(config, joints, here, moved(here, 0.02 * outwards)) is Threat.SINGULARITY
    assert threatened(config, joints, here, moved(here, -0.02 * outwards)) is None


def test_the_two_arms_have_limits_of_their_own() -> None:
    joints = HOME.copy()
    joints[5] = 3.8  # beyond the Panda's, within the FR3's
    assert rooms(MarginConfig(Arm.PANDA), joints)[5] == pytest.approx(-0.0475)
    assert rooms(MarginConfig(Arm.FR3), joints)[5] == pytest.approx(0.7169)


def test_bad_margins() -> None:
    with pytest.raises(ConfigError, match="finite, not negative; the time positive"):
        MarginConfig(joint_rad=-0.1)
