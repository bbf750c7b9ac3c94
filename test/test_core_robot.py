"""The core of the franka node: faults and budgets, the gripper's switch, start poses, servo twists, and the checks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError, IrevlaError
from irevla_ros.core.gripper import GripperConfig, GripperSwitch
from irevla_ros.core.health import Level
from irevla_ros.core.inverse_kinematics import solve
from irevla_ros.core.kinematics import Arm, forward
from irevla_ros.core.reset_motion import ResetMotionConfig, arrived, check_way, duration_s, start_joints
from irevla_ros.core.robot_checks import (
    Finding,
    RobotCheckConfig,
    clock_agrees,
    frames_agree,
    one_publisher,
    problems,
    qos_agrees,
)
from irevla_ros.core.robot_fault import RecoveryBudget, RecoveryConfig, RobotMode, fault_of
from irevla_ros.core.rotation import POINTING_DOWN, Pose, angle_between, exp, multiply
from irevla_ros.core.servo import twist_towards
from irevla_ros.nodes.parameters.franka import FrankaConfig

S = 1_000_000_000
DOWN = Pose.of([0.45, 0.0, 0.2], POINTING_DOWN)


class TestFault:
    def test_an_arm_that_moves_has_none(self) -> None:
        assert fault_of(RobotMode.MOVE, (), "active", S // 100, S // 2) is None

    @pytest.mark.parametrize(
        ("mode", "errors", "hardware", "silent_ns", "what"),
        [
            (RobotMode.REFLEX, ("cartesian_reflex",), "active", 0, "reflex (cartesian_reflex)"),
            (RobotMode.MOVE, ("joint_velocity_violation",), "active", 0, "errors: joint_velocity_violation"),
            # Humble repeats the last state for ever; Jazzy says nothing any more.
            (RobotMode.MOVE, (), "unconfigured", 0, "the robot's hardware component is unconfigured"),
            (None, (), None, S, "no state from the robot for 1.0 s"),
        ],
    )
    def test_each_way_in_which_it_shows(self, mode: int | None, errors: tuple[str, ...], hardware: str | None, silent_ns: int,
                                        what: str) -> None:  # fmt: skip
        fault = fault_of(mode, errors, hardware, silent_ns, S // 2)
        assert fault is not None
        assert fault.what == what
        assert not fault.by_hand

    def test_what_a_human_has_stopped_is_theirs(self) -> None:
        fault = fault_of(RobotMode.USER_STOPPED, ("cartesian_reflex",), "unconfigured", S, S // 2)
        assert fault is not None
        assert fault.by_hand


class TestNames:
    @pytest.mark.parametrize(("driver", "name"), [("", "x/y"), ("/", "/x/y"), ("/robot", "/robot/x/y"), ("left", "left/x/y")])
    def test_of_a_driver_here_or_elsewhere(self, driver: str, name: str) -> None:
        assert FrankaConfig(driver=driver).of_driver("x/y") == name

    def test_the_names_of_franka_description(self) -> None:
        alone, left = FrankaConfig(), FrankaConfig(arm_prefix="left", robot_type="fer")
        assert alone.joint_names == [f"fr3_joint{number}" for number in range(1, 8)]
        assert (alone.tip_frame, alone.hardware) == ("fr3_hand_tcp", "FrankaHardwareInterface")
        assert left.joint_names == [f"left_fer_joint{number}" for number in range(1, 8)]
        assert (left.tip_frame, left.hardware) == ("left_fer_hand_tcp", "left_FrankaHardwareInterface")
        assert FrankaConfig(arm_prefix="left", tip="tool").tip_frame == "tool"

    @pytest.mark.parametrize("wrong", [{"robot_type": ""}, {"robot_type": "fr3/"}, {"arm_prefix": "left arm"}])
    def test_what_names_cannot_begin_with_is_refused(self, wrong: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="they begin names: letters, digits and _"):
            FrankaConfig(**wrong)

    @pytest.mark.parametrize("driver", ["/robot/", "a//b", "1st", "ro bot", "~"])
    def test_a_namespace_that_is_none_is_refused(self, driver: str) -> None:
        with pytest.raises(ConfigError, match="a namespace, absolute or within this node's"):
            FrankaConfig(driver=driver)


class TestBudget:
    def test_so_many_in_an_episode(self) -> None:
        budget = RecoveryBudget(RecoveryConfig(per_episode=2, in_a_row=5))
        for _ in range(2):
            assert budget.refusal("e1") == ""
            budget.spend("e1")
        assert budget.refusal("e1") == "this episode has had 2 recoveries already"
        assert budget.refusal("e2") == ""

    def test_so_many_episodes_in_a_row_until_one_goes_well_or_somebody_looks(self) -> None:
        budget = RecoveryBudget(RecoveryConfig(per_episode=2, in_a_row=2))
        budget.spend("e1")
        budget.ended("e1")  # with a fault: no end of the row
        budget.spend("e2")
        assert budget.refusal("e3") == "there was a fault in 2 episodes in a row"
        budget.ended("e3")
        assert budget.refusal("e4") == ""
        budget.spend("e4")
        budget.spend("e5")
        assert budget.refusal("e6")
        budget.forgive()
        assert budget.refusal("e6") == ""
        assert budget.total == 4

    def test_none_where_it_is_not_wanted(self) -> None:
        assert RecoveryBudget(RecoveryConfig(automatic=False)).refusal("e1") == "recovery.automatic is false"


class TestGripper:
    def test_only_a_change_counts_and_the_band_keeps(self) -> None:
        switch = GripperSwitch(GripperConfig())
        heard = [switch.wish(width) for width in (0.04, 0.08, 0.08, 0.045, 0.031, 0.03, 0.049, 0.0, 0.05)]
        assert heard == [False, True, False, False, False, True, False, False, True]
        assert switch.wanted is True
        switch.forget()
        assert switch.wish(0.08)

    @given(st.lists(st.floats(0.031, 0.049)))
    def test_noise_within_the_band_never_moves_it(self, widths: list[float]) -> None:
        switch = GripperSwitch(GripperConfig())
        switch.wish(0.0)
        assert not any(switch.wish(width) for width in widths)

    def test_a_band_the_wrong_way_round_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"0\.06, 0\.05, 0\.08: they rise"):
            GripperConfig(close_below_m=0.06)


class TestResetMotion:
    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**31))
    def test_start_poses_lie_in_their_box_and_are_the_seeds(self, seed: int) -> None:
        config = ResetMotionConfig()
        q = start_joints(config, seed)
        pose = forward(q)
        assert (pose.p >= np.array(config.start_low) - 1e-3).all()
        assert (pose.p <= np.array(config.start_high) + 1e-3).all()
        assert angle_between(pose.q, np.asarray(POINTING_DOWN)) <= config.start_turn_rad + 5e-3
        assert (q > Arm.FR3.lowest).all()
        assert (q < Arm.FR3.highest).all()
        assert (start_joints(config, seed) == q).all()

    def test_a_box_out_of_reach_is_said(self) -> None:
        with pytest.raises(ConfigError, match="out of the arm's reach"):
            start_joints(ResetMotionConfig(start_low=(1.5, 0, 0.2), start_high=(1.5, 0, 0.2)), 0)

    def test_the_way_may_not_lead_through_the_table(self) -> None:
        config, home = ResetMotionConfig(), ResetMotionConfig().home
        check_way(config, home, start_joints(config, 3))
        low = solve(Pose.of([0.5, 0.0, -0.03], POINTING_DOWN), home)
        assert low is not None
        with pytest.raises(IrevlaError, match="the way to the reset position leads the tip to"):
            check_way(config, home, low)

    def test_duration_and_arrival(self) -> None:
        config = ResetMotionConfig(velocity_rad_s=0.5)
        assert duration_s(config, [0.0] * 7, [0, 0, 0, 1.0, 0, 0, 0]) == pytest.approx(3.0)  # 1.5 x 1 rad / 0.5 rad/s
        assert arrived(config, [0.009] * 7, [0.0] * 7)
        assert not arrived(config, [0.0] * 6 + [0.011], [0.0] * 7)

    @pytest.mark.parametrize("change", [{"home": (0.0,) * 6}, {"home": (9.0,) * 7}, {"velocity_rad_s": 3.0}, {"low": (1,) * 3}])
    def test_what_cannot_be_is_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match=r"reset"):
            ResetMotionConfig(**change)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.floats(0.35, 0.6), st.floats(-0.25, 0.25), st.floats(0.05, 0.4)), st.floats(-0.8, 0.8))
def test_inverse_kinematics_reach_the_pose(position: tuple[float, float, float], turn: float) -> None:
    pose = Pose.of(position, multiply(exp(np.array([0.0, 0.0, turn])), np.asarray(POINTING_DOWN)))
    q = solve(pose, ResetMotionConfig().home)
    assert q is not None
    found = forward(q)
    assert np.linalg.norm(found.p - pose.p) < 1e-3
    assert angle_between(found.q, pose.q) < 5e-3


class TestServo:
    def test_in_proportion_up_to_the_limit(self) -> None:
        near = Pose.of(DOWN.p + [0.01, 0, 0], multiply(exp(np.array([0, 0, 0.1])), DOWN.q))
        linear, angular = twist_towards(near, DOWN, 4.0, 0.2, 0.8)
        assert linear == pytest.approx([0.04, 0, 0])
        assert angular == pytest.approx([0, 0, 0.4], abs=1e-9)
        linear, _ = twist_towards(Pose.of(DOWN.p + [0.3, 0.4, 0], DOWN.q), DOWN, 4.0, 0.2, 0.8)
        assert linear == pytest.approx([0.12, 0.16, 0])


class TestChecks:
    config = RobotCheckConfig()

    def test_frames(self) -> None:
        def level(tf: Pose | None, driver: Pose | None = DOWN) -> Level:
            return frames_agree(self.config, driver, tf, "base", "fr3_hand_tcp").level

        assert level(DOWN) is Level.OK
        assert level(Pose.of(DOWN.p + [0, 0, 0.004], DOWN.q)) is Level.OK
        assert level(Pose.of(DOWN.p + [0, 0, 0.006], DOWN.q)) is Level.ERROR
        assert level(Pose.of(DOWN.p, multiply(exp(np.array([0, 0, 0.03])), DOWN.q))) is Level.ERROR
        assert level(None) is level(DOWN, None) is Level.ERROR

    def test_publishers(self) -> None:
        assert one_publisher("/t", ["/a"], "/a").level is Level.OK
        found = str(one_publisher("/t", ["/a", "/b"], "/a"))
        assert found == "publishers of /t: also published by /b; stop it: only /a commands the arm"
        assert "published by /b, not by /a" in str(one_publisher("/t", ["/b"], "/a"))
        assert "also published by /a, 2 times" in str(one_publisher("/t", ["/a", "/a"], "/a"))
        assert one_publisher("/t", [], "/a").level is Level.ERROR

    def test_clocks(self) -> None:
        assert clock_agrees(self.config, [0.3, 0.002, 0.05]).level is Level.OK
        assert clock_agrees(self.config, [0.3, 0.021]).level is Level.ERROR
        assert clock_agrees(self.config, [0.3, -0.05]).level is Level.ERROR
        assert clock_agrees(self.config, []).level is Level.ERROR

    def test_problems_are_the_errors_alone(self) -> None:
        findings = [Finding("a", Level.OK, "fine"), Finding("b", Level.WARN, "so so", "look"), qos_agrees("/t", ["x to y: no"])]
        assert problems(findings) == "QoS of /t: x to y: no; no message gets through: change the QoS of that node"
        assert problems(findings[:2]) == ""
