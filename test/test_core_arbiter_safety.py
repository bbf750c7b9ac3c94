"""What stops the arm, what lets it go on, and how smoothly it changes hands: by hand-made situations."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from irevla_ros.core.arbiter_config import ArbiterConfig, HandBack, Refused
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.force import ForceConfig, ForceGuard
from irevla_ros.core.kinematics import Arm, forward
from irevla_ros.core.limits import Clip, Limits
from irevla_ros.core.margins import MarginConfig
from irevla_ros.core.tuning import riskier
from irevla_ros.sim.panda import HOME
from test_core_arbiter import FORWARD, HUMAN, MS, POLICY, Bench

NAMES = [f"fr3_joint{number}" for number in range(1, 8)]
DT = 0.02


class Servo(Bench):
    """An arm that goes where the stream says, servo period by servo period; ``path`` is where it was sent."""

    def __init__(self, config: ArbiterConfig = ArbiterConfig()) -> None:
        self.path: list[Any] = []
        self.wrench: Any = (0.0, 0.0, 0.0)
        self.joints: Any = HOME
        super().__init__(config)
        self.lives(0.1)

    def lives(self, seconds: float, *, policy: Any = None, human: Any = None) -> Servo:
        for _ in range(round(seconds / DT)):
            self.now, self.wall = self.now + 20 * MS, self.wall + 20 * MS
            self.pose()
            self.arbiter.wrench(self.wrench, (0, 0, 0), self.now, self.wall)
            self.arbiter.joints(NAMES, self.joints, self.now, self.wall)
            if human is not None:
                self.human(*human)
            if self.now // MS % 100 == 0:
                self.arbiter.observe(self.now)
                if policy is not None:
                    self.chunk(policy)
                self.last = self.arbiter.tick(self.now, self.wall)
            elif not self.arbiter.human_held:
                self.last = self.arbiter.tick(self.now, self.wall)
            sent = self.arbiter.stream(self.now, self.wall)
            if sent is not None:
                self.position, self.quaternion = sent.position, sent.quaternion
            self.path.append(self.position)
        return self

    @property
    def fastest(self) -> float:
        return float(np.linalg.norm(np.diff(self.path[-2:], axis=0)) / DT)


# ---- who drives, and how it changes ----------------------------------------------------------------------------------


def test_from_policy_to_human_and_back_acceleration_and_jerk_stay_within_their_limits() -> None:
    """Full speed one way, the human full speed the other way, then the policy again: the worst there is."""
    bench = Servo(ArbiterConfig(hand_back=HandBack.FRESH)).engage()
    bench.lives(0.6, policy=FORWARD)
    assert bench.fastest == pytest.approx(0.4, rel=0.01)
    bench.lives(0.8, policy=FORWARD, human=(-0.4, 0.0, 0.0))
    assert bench.last.source is HUMAN
    bench.arbiter.human(False, (0, 0, 0), (0, 0, 0), None, bench.now + 1, bench.wall)
    bench.lives(0.48, policy=FORWARD)
    assert bench.last.hold is Hold.LATCHED and bench.fastest == 0.0
    bench.lives(0.8, policy=FORWARD)
    assert bench.arbiter.engaged is POLICY and bench.fastest == pytest.approx(0.4, rel=0.01)
    limits = bench.arbiter.config.limits
    x = np.array(bench.path)
    speeds, accelerations, jerks = (np.linalg.norm(np.diff(x, n, axis=0), axis=1).max() / DT**n for n in (1, 2, 3))
    assert speeds <= limits.speed_m_s * (1 + 1e-6)
    assert 0.4 * limits.acceleration_m_s2 < accelerations <= limits.acceleration_m_s2 * (1 + 1e-6)
    assert 0.1 * limits.jerk_m_s3 < jerks <= limits.jerk_m_s3 * (1 + 1e-6)


def test_the_human_wins_within_one_servo_period() -> None:
    bench = Servo().engage()
    bench.lives(0.5, policy=FORWARD)
    rest = bench.arbiter.tick(bench.now, bench.wall).target
    assert rest is not None
    bench.human(0.0, 0.0, 0.0)
    bench.lives(0.02, policy=FORWARD)
    assert bench.arbiter.counts["takeovers"] == 1
    target = bench.arbiter.target.pose
    assert target is not None and target.position[0] < rest.position[0]  # no longer goes there


# ---- what stops it ---------------------------------------------------------------------------------------------------


def test_a_force_is_latched_and_resumed_by_the_operator_once_it_is_gone() -> None:
    bench = Servo(ArbiterConfig(force=ForceConfig(True, force_n=20.0, debounce_ns=40 * MS))).engage()
    bench.lives(0.3, policy=FORWARD)
    bench.wrench = (0.0, 15.0, 15.0)  # 21 N
    bench.lives(0.04, policy=FORWARD)
    assert bench.last.hold is not Hold.FORCE  # for 20 ms
    bench.lives(0.02, policy=FORWARD)
    assert (bench.last.hold, bench.arbiter.fault) == (Hold.FORCE, Hold.FORCE)
    with pytest.raises(Refused, match=r"resume: external force above its limit \(21.2 N, 0.0 Nm\): nothing presses on the arm"):
        bench.arbiter.resume(bench.wall)
    bench.wrench = (0.0, 0.0, 0.0)
    bench.lives(1.0, policy=FORWARD)
    assert bench.last.hold is Hold.FORCE and bench.fastest == 0.0
    with pytest.raises(Refused, match="engage: external force above its limit"):
        bench.engage()
    bench.arbiter.resume(bench.wall)
    bench.lives(0.2, policy=FORWARD)
    assert bench.last.hold is not Hold.FORCE and bench.fastest > 0


def test_a_force_that_is_gone_again_by_the_next_tick_is_latched() -> None:
    bench = Servo(ArbiterConfig(force=ForceConfig(True, force_n=20.0, debounce_ns=20 * MS))).engage()
    bench.lives(0.3, policy=FORWARD)
    for ms, force in ((1, 30.0), (22, 30.0), (23, 0.0)):
        bench.arbiter.wrench((force, 0, 0), (0, 0, 0), bench.now + ms * MS, bench.wall + ms * MS)
    assert bench.arbiter.fault is Hold.FORCE


def test_a_force_says_no_to_other_motions_and_is_latched_while_there_is_one() -> None:
    bench = Servo(ArbiterConfig(force=ForceConfig(True, force_n=20.0, debounce_ns=20 * MS)))
    arbiter = bench.arbiter
    assert arbiter.objection(bench.wall, moving=True) is None
    bench.wrench = (30.0, 0.0, 0.0)
    bench.lives(0.06)
    assert (arbiter.objection(bench.wall, moving=False), arbiter.fault) == (Hold.FORCE, None)
    # A driver that dies of a collision says that force last: it is not to forbid its own recovery for ever.
    assert arbiter.objection(bench.wall + 201 * MS, moving=False) is None
    assert (arbiter.objection(bench.wall, moving=True), arbiter.fault) == (Hold.FORCE, Hold.FORCE)
    bench.wrench = (0.0, 0.0, 0.0)
    bench.lives(0.06)
    assert arbiter.objection(bench.wall, moving=True) is Hold.FORCE
    arbiter.resume(bench.wall)
    assert arbiter.objection(bench.wall, moving=True) is None
    arbiter.stop()
    assert arbiter.objection(bench.wall, moving=False) is Hold.STOPPED


@pytest.mark.parametrize("off", [(0.0, 0.0, -0.019), (-0.015, 0.0, 0.0)])
def test_from_outside_of_the_box_the_stream_leads_in_without_a_leap(off: tuple[float, float, float]) -> None:
    limits = Limits(box_low=(0.30, -0.25, 0.05), box_high=(0.60, 0.25, 0.35), step_m=0.02, step_rad=0.1, speed_m_s=0.25,
                    speed_rad_s=1.2, acceleration_m_s2=2.5, acceleration_rad_s2=10.0, jerk_m_s3=50.0, jerk_rad_s3=200.0,
                    leash_m=0.08, leash_rad=0.45)  # fmt: skip
    bench = Servo(ArbiterConfig(limits))
    bench.position = tuple(np.array([0.30, 0.0, 0.05]) + off)
    measured = np.array(bench.position)
    bench.lives(0.1).engage()
    bench.path.clear()
    bench.lives(0.5)
    np.testing.assert_allclose(bench.path, [measured] * len(bench.path), atol=1e-12)  # nobody has wanted anything yet
    bench.lives(2.0, policy=(0.0, 0.0, 0.0, 0.0, 1.0))
    path = np.array([measured, *bench.path])
    moved = np.diff(path, axis=0)
    assert np.linalg.norm(moved, axis=1).max() <= 0.25 * DT + 1e-9
    assert np.linalg.norm(np.diff(moved, axis=0), axis=1).max() <= 2.5 * DT * DT + 1e-9
    outside = np.maximum(np.array(limits.box_low) - path, 0.0).sum(axis=1)
    assert (np.diff(outside) <= 1e-9).all() and outside[-1] < 1e-6


def test_a_short_knock_is_none() -> None:
    guard, config = ForceGuard(), ForceConfig(True, force_n=20.0, torque_nm=5.0, debounce_ns=30 * MS)
    for wall, force, torque, pressed in ((0, 50, 0, False), (20, 50, 0, False), (29, 10, 0, False), (40, 0, 6, False),
                                         (69, 0, 6, False), (70, 0, 6, True), (80, 0, 5, False)):  # fmt: skip
        guard.push(config, (force, 0, 0), (0, torque, 0), wall * MS)
        assert guard.pressed(config, wall * MS) == pressed
    assert not guard.push(config, (math.nan, 0, 0), (0, 0, 0), 90 * MS) and not guard.push(config, (1, 0), (0, 0, 0), 90 * MS)
    guard.push(config, (50, 0, 0), (0, 0, 0), 100 * MS)
    guard.push(config, (0, 0, 0), (0, 0, 0), 120 * MS, in_order=False)  # an old one does not tell that it is gone
    assert guard.pressed(config, 130 * MS)


@pytest.mark.parametrize("wrench", [None, (math.nan, 0, 0), (math.inf, 0, 0), (0, 0)])
def test_without_a_wrench_that_can_be_read_nothing_moves(wrench: Any) -> None:
    bench = Servo(ArbiterConfig(force=ForceConfig(True))).engage()
    bench.lives(0.3, policy=FORWARD)
    assert bench.last.hold is not Hold.WRENCH_STALE
    if wrench is None:
        bench.arbiter.wrench = lambda *_: None  # type: ignore[method-assign]
    bench.wrench = wrench
    bench.lives(0.24, policy=FORWARD)
    assert bench.last.hold is Hold.WRENCH_STALE
    bench.lives(0.3, policy=FORWARD)
    assert bench.fastest == 0.0
    with pytest.raises(Refused, match="engage: wrench missing or too old"):
        bench.engage()


def test_a_motion_towards_a_joint_limit_is_stopped_and_one_back_is_not() -> None:
    bench = Servo(ArbiterConfig(margins=MarginConfig(Arm.PANDA, joint_rad=0.2)))
    bench.joints = HOME.copy()
    bench.joints[6] = Arm.PANDA.highest[6] - 0.21
    bench.position, bench.quaternion = (0.5, 0.0, 0.2), forward(np.array([*HOME[:6], 0.785])).quaternion
    bench.lives(0.1).engage()
    bench.lives(0.2, policy=(0, 0, 0, -1.0, 1))  # about the base's z downwards is the hand's own turn, the other way round
    assert bench.last.hold is Hold.JOINT_LIMIT
    bench.lives(0.2, policy=(0, 0, 0, 1.0, 1))
    assert bench.last.hold is not Hold.JOINT_LIMIT and bench.arbiter.counts["hold.joint_limit"] > 0
    assert bench.arbiter.fault is None


@pytest.mark.parametrize("joints", [[math.nan] * 7, [0.0] * 6])
def test_without_joint_states_nothing_moves_where_they_are_watched(joints: Any) -> None:
    bench = Servo(ArbiterConfig(margins=MarginConfig(Arm.FR3))).engage()
    bench.joints = joints
    bench.lives(0.2, policy=FORWARD)
    assert bench.last.hold is Hold.JOINTS_STALE
    with pytest.raises(Refused, match="engage: joint states missing or too old"):
        bench.engage()


def test_the_fingers_alone_are_no_joint_states() -> None:
    bench = Servo(ArbiterConfig(margins=MarginConfig(Arm.FR3))).engage()
    bench.arbiter.joints(["fr3_finger_joint1", "fr3_finger_joint2"], [0.0, 0.0], bench.now + 1, bench.wall)
    assert bench.chunk() and bench.tick().hold is not Hold.JOINTS_STALE


def hold(bench: Servo, held: bool = True, age_ms: int = 0) -> None:
    bench.arbiter.deadman(held, bench.now - age_ms * MS, bench.now, bench.wall)


def test_the_deadman_must_be_held_and_was_let_go_by_silence() -> None:
    bench = Servo(ArbiterConfig(deadman_ns=200 * MS))
    with pytest.raises(Refused, match="engage: the deadman was let go: the operator holds the deadman; hold it, then resume"):
        bench.engage()
    assert bench.arbiter.fault is None
    hold(bench)
    bench.engage()
    bench.lives(0.2, policy=FORWARD)
    assert bench.arbiter.fault is None
    bench.lives(0.02, policy=FORWARD)
    assert bench.last.hold is Hold.DEADMAN
    hold(bench)
    bench.lives(0.1, policy=FORWARD)
    assert bench.last.hold is Hold.DEADMAN
    bench.arbiter.resume(bench.wall)
    hold(bench, False)
    bench.lives(0.02)
    assert bench.last.hold is Hold.DEADMAN
    with pytest.raises(Refused, match="resume: the deadman was let go"):
        bench.arbiter.resume(bench.wall)


@pytest.mark.parametrize("silence", [0, 300 * MS])
def test_a_deadman_that_is_held_again_before_the_next_tick_was_let_go(silence: int) -> None:
    bench = Servo(ArbiterConfig(deadman_ns=200 * MS))
    hold(bench)
    bench.engage()
    if not silence:
        hold(bench, False)
    bench.arbiter.deadman(True, bench.now + silence + 1, bench.now + silence + 1, bench.wall + silence + 1)
    assert bench.arbiter.fault is Hold.DEADMAN


def test_a_press_counts_from_when_it_was_and_not_from_when_it_was_heard_of() -> None:
    """Words that wait in a queue come one after the other once somebody reads them; by then the hand may be off."""
    bench = Servo(ArbiterConfig(deadman_ns=200 * MS))
    hold(bench, age_ms=120)
    bench.engage()
    bench.lives(0.08, policy=FORWARD)  # until 200 ms after the press
    assert bench.arbiter.fault is None
    hold(bench, age_ms=201)
    bench.lives(0.02, policy=FORWARD)
    assert bench.last.hold is Hold.DEADMAN
    assert bench.arbiter.counts["deadman.late"] == 1


def test_no_press_undoes_a_later_release_and_none_comes_from_the_future() -> None:
    bench = Servo(ArbiterConfig(deadman_ns=200 * MS))
    hold(bench, False, age_ms=50)
    for age_ms in (150, 50, -51):
        hold(bench, age_ms=age_ms)
        with pytest.raises(Refused, match="the deadman was let go"):
            bench.engage()
    hold(bench, age_ms=49)
    bench.engage()


def test_a_release_counts_however_late_and_a_clock_that_went_back_does_not_bar_the_hand_for_long() -> None:
    bench = Servo(ArbiterConfig(deadman_ns=200 * MS))
    hold(bench)
    bench.engage()
    hold(bench, False, age_ms=10_000)
    assert bench.arbiter.fault is Hold.DEADMAN
    hold(bench, False, age_ms=-10_000)  # stamped before the clock went back
    bench.now, bench.wall = bench.now + 20 * MS, bench.wall + 20 * MS
    hold(bench)
    bench.arbiter.resume(bench.wall)


def test_a_stop_lasts_until_it_is_resumed_over_episodes_too() -> None:
    bench = Servo().engage()
    bench.lives(0.3, policy=FORWARD)
    bench.arbiter.stop()
    bench.lives(0.5, policy=FORWARD)
    assert bench.last.hold is Hold.STOPPED and bench.fastest == 0.0
    bench.arbiter.disengage()
    with pytest.raises(Refused, match="engage: stopped by the operator"):
        bench.engage(episode="e2")
    bench.arbiter.resume(bench.wall)
    bench.engage(episode="e2")


def test_braking_is_recorded_and_the_next_step_starts_where_it_ends() -> None:
    bench = Servo().engage()
    bench.lives(0.3, policy=FORWARD)
    bench.lives(0.3)  # silence
    assert bench.last.hold is Hold.SILENT and bench.last.target is not None
    assert bench.last.target.position == pytest.approx(bench.path[-1], abs=1e-12)
    rest = bench.last.target
    bench.chunk()
    step = bench.tick()
    assert step.acted and step.target is not None and step.commanded[0] == pytest.approx(1.0)
    assert step.target.position[0] - rest.position[0] == pytest.approx(0.04)


@pytest.mark.parametrize("why", [Hold.REJECTED, Hold.DISPLACED, Hold.POSE_MISSING])
def test_a_hold_in_the_middle_of_a_step_does_not_end_the_step(why: Hold) -> None:
    bench = Servo().engage()
    bench.lives(0.5, policy=FORWARD)
    goal = bench.arbiter.target.pose
    if why is Hold.REJECTED:
        bench.arbiter.reject(POLICY)
    elif why is Hold.DISPLACED:
        bench.position = (0.4, 0.25, 0.2)
        bench.now += 2 * MS
        bench.pose()
        bench.chunk()
    else:
        bench.arbiter.pose((math.nan, 0, 0), (1, 0, 0, 0), bench.now + 1, bench.wall)
    bench.wall += 50 * MS
    held = bench.arbiter.tick(bench.now + 3, bench.wall)
    assert held.hold is why and held.target is not None and goal is not None
    assert 0.01 < goal.position[0] - held.target.position[0] < 0.04


def test_between_two_steps_of_the_human_the_stream_brakes_by_itself() -> None:
    """The camera gives the time of the human's steps: it may be dead."""
    bench = Servo().engage()
    bench.lives(0.3, human=(0.4, 0.0, 0.0))
    goal = bench.arbiter.target.pose
    bench.arbiter.pose((math.nan, 0, 0), (1, 0, 0, 0), bench.now + 1, bench.wall)
    bench.arbiter.stream(bench.now + 1, bench.wall)
    rest = bench.arbiter.target.pose
    assert goal is not None and rest is not None and 0.01 < goal.position[0] - rest.position[0] < 0.04


def test_the_gripper_changes_no_more_often_than_allowed() -> None:
    bench = Servo(ArbiterConfig(Limits(gripper_hold_ns=300 * MS))).engage()
    seen, clipped = [], []
    for number in range(8):
        bench.chunk((0, 0, 0, 0, 1 if number % 2 else -1))
        step = bench.tick()
        assert step.acted
        seen.append(step.gripper)
        clipped.append(Clip.GRIPPER in step.clips)
        assert step.commanded[4] == step.gripper
        bench.passes()
    assert seen == [-1, -1, -1, 1, 1, 1, -1, -1]
    assert clipped == [False, True, False, False, True, False, False, True]


# ---- live tuning -----------------------------------------------------------------------------------------------------


def test_while_engaged_limits_only_become_safer() -> None:
    bench = Servo().engage()
    config = bench.arbiter.config

    def tuned(**changes: Any) -> ArbiterConfig:
        return replace(config, limits=replace(config.limits, **changes))

    for wrong, why in (({"step_m": 0.08}, "limits.step_m may only become lower, from 0.07"),
                       ({"box_low": (0.3, -0.33, 0.02)}, "limits.box_low may only become higher"),
                       ({"gripper_hold_ns": 0}, "limits.gripper_hold_ns may only become higher"),
                       ({"jerk_m_s3": 200.0}, "limits.jerk_m_s3 stays 1400.0")):  # fmt: skip
        with pytest.raises(Refused, match=why):
            bench.arbiter.tune(tuned(**wrong))
    with pytest.raises(Refused, match="pose_ns stays"):
        bench.arbiter.tune(replace(config, pose_ns=1))
    bench.arbiter.tune(tuned(step_m=0.01, speed_m_s=0.05, planes=(0.0, 0.0, 1.0, 0.3)))
    bench.lives(1.0, policy=FORWARD)
    assert bench.fastest <= 0.05 + 1e-9
    bench.arbiter.disengage()
    bench.lives(0.5)
    bench.arbiter.tune(config)


def test_nearer_and_more_planes_are_safer() -> None:
    one, two = Limits(planes=(0.0, 0.0, 1.0, 0.3)), Limits(planes=(0.0, 1.0, 0.0, 0.2, 0.0, 0.0, 1.0, 0.25))
    assert riskier(one, two) == "" and riskier(Limits(), one) == ""
    assert riskier(two, one).startswith("planes may only become with more planes, or nearer ones")


def test_bad_safety_settings() -> None:
    for values, message in (({"force_n": 0.0}, "force limits 0.0 N, 10.0 Nm: both are positive"),
                            ({"fresh_ns": 0}, "debounce 0.02 s, fresh 0.0 s")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            ForceConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="servo period 200.0 ms: from 1 ms to the control period, 100.0 ms"):
        ArbiterConfig(servo_ns=200 * MS)
