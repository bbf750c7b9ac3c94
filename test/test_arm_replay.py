"""A recorded episode once more on an arm: what is given to the arbiter, and when it is given up; then the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import ArbiterConfig
from irevla_ros.core.arm_replay import ArmReplay, ReplayLimits, ReplayPlan
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.errors import DataError
from irevla_ros.core.limits import Limits
from irevla_ros.core.rotation import POINTING_DOWN, Pose, exp, multiply
from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.core.types import ControlSource, Episode
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from operator_toys import Collection, begin, collecting, drive, on_terminal, see
from spool_toys import toy_episode

MS = 1_000_000
PERIOD = 100 * MS
START = Pose((0.45, 0.0, 0.2), POINTING_DOWN)
LIMITS = ReplayLimits()
Act = Callable[[Arbiter, int], object]


def recorded(moves: list[tuple[float, ...]]) -> Episode:
    """An episode that began at START; each step's motion in m and rad, with the gripper; the arm came where it was sent."""
    toy, spec, state = toy_episode(steps=len(moves), cameras={}), ActionSpec(), ProprioSpec()
    given = np.array(moves, np.float32)
    tips = START.p + np.vstack([np.zeros(3), np.cumsum(given[:, :3], axis=0)])
    raw = np.hstack([tips, np.tile([1.0, 0.0, 0.08], (len(tips), 1))])
    return replace(toy, proprio=state.to_normalised(raw), commanded=spec.to_normalised(given))


def played(replay: ArmReplay, steps: int, then: dict[int, Act] | None = None) -> Arbiter:
    """The real arbiter with an arm that is where its target is; ``then``: frame -> what happens before it."""
    arbiter = Arbiter(ActionSpec(), ArbiterConfig(limits=Limits(gripper_hold_ns=0)))
    pose, now = START, 0
    arbiter.pose(pose.position, pose.quaternion, now, now)
    arbiter.engage(ControlSource.SCRIPT, now, now, "e1")
    replay.told(arbiter.tick(now, now))
    for frame in range(1, steps + 1):
        now = frame * PERIOD
        arbiter.pose(pose.position, pose.quaternion, now, now)
        arbiter.observe(now)
        if then and frame in then:
            then[frame](arbiter, now)
        action = replay.due(now, now)
        if action is not None:
            arbiter.offer(ControlSource.SCRIPT, ActionChunk(now, ActionSpec().names, action[None], PERIOD), now, now)
        step = arbiter.tick(now, now)
        replay.told(step)
        replay.look(now)
        pose = step.target or pose
    return arbiter


MOVES = [(0.02, 0.0, 0.0, 0.0, 1.0), (0.0, 0.03, 0.0, 0.1, 1.0), (0.0, 0.0, -0.04, 0.0, -1.0)]


def test_the_target_goes_where_it_went_and_the_gripper_with_it() -> None:
    replay = ArmReplay(ReplayPlan(recorded(MOVES), 10.0), LIMITS)
    arbiter = played(replay, 4)
    assert (replay.done, replay.failure) == (True, "")
    assert arbiter.target.pose is not None and arbiter.target.gripper == -1
    assert arbiter.target.pose.p == pytest.approx([0.47, 0.03, 0.16], abs=1e-6)


def test_each_action_is_given_once_the_one_before_was_taken() -> None:
    replay = ArmReplay(ReplayPlan(recorded(MOVES), 10.0), LIMITS)
    assert replay.due(0, 0) is None  # nobody is engaged
    arbiter = Arbiter(ActionSpec())
    arbiter.pose(START.position, START.quaternion, 0, 0)
    arbiter.engage(ControlSource.SCRIPT, 0, 0, "e1")
    replay.told(arbiter.tick(0, 0))
    first = replay.due(PERIOD, PERIOD)
    assert first is not None and first[0] == pytest.approx(0.5)
    assert replay.due(2 * PERIOD, 2 * PERIOD) is None


def test_a_start_that_is_a_little_off_is_made_up_for_and_one_far_off_is_refused() -> None:
    plan = ReplayPlan(recorded(MOVES), 10.0)
    assert plan.too_far(Pose((0.47, 0.0, 0.2), POINTING_DOWN), LIMITS) == ""
    assert plan.action(0, Pose((0.46, 0.0, 0.2), POINTING_DOWN))[0] == pytest.approx(0.25)
    said = plan.too_far(Pose((0.45, 0.12, 0.2), POINTING_DOWN), LIMITS)
    assert said == "the arm stands 12.0 cm and 0.00 rad from where the episode began (at most 3 cm and 0.15 rad)"
    turned = Pose.of(START.p, multiply(exp(np.array([0.0, 0.0, 0.5])), np.asarray(POINTING_DOWN)))
    assert "0.50 rad" in plan.too_far(turned, LIMITS)


@pytest.mark.parametrize(("act", "why"), [
    (lambda arbiter, now: arbiter.stop(), "stopped by the operator after 1 of 3 steps"),
    (lambda arbiter, now: arbiter.human(True, (0.1, 0, 0), (0, 0, 0), None, now, now),
     "a human took the arm after 1 of 3 steps"),
])  # fmt: skip
def test_it_is_given_up_when_somebody_stops_the_arm_or_takes_it(act: Act, why: str) -> None:
    replay = ArmReplay(ReplayPlan(recorded(MOVES), 10.0), LIMITS)
    played(replay, 5, {2: act})
    assert replay.failure == why


def test_an_arm_that_is_held_for_a_second_does_not_go_on_when_the_hold_ends() -> None:
    replay = ArmReplay(ReplayPlan(recorded(MOVES), 10.0), LIMITS)
    played(replay, 1)
    replay.due(2 * PERIOD, 2 * PERIOD)
    replay.look(12 * PERIOD)
    assert replay.failure == ""
    replay.look(13 * PERIOD)
    assert replay.failure.startswith("no step in 1 s: ")
    assert replay.due(14 * PERIOD, 14 * PERIOD) is None


def test_limits_that_keep_the_target_behind_end_it() -> None:
    replay = ArmReplay(ReplayPlan(recorded([(0.0, 0.04, 0.0, 0.0, 1.0)] * 12), 10.0), LIMITS)
    played(replay, 12)  # the workspace ends at y = 0.32
    assert replay.failure == "the target is 8.0 cm behind the recorded one, cut by box after 10 of 12 steps"


def test_what_no_arm_can_repeat_is_refused() -> None:
    with pytest.raises(DataError, match="at 10 Hz: this arm takes .* at 5 Hz"):
        ReplayPlan(recorded(MOVES), 5.0)
    lost = recorded([(0.04, 0.0, 0.0, 0.0, 1.0)] * 8)
    with pytest.raises(DataError, match="its commands lead 3[0-9] cm away from where the arm was"):
        ReplayPlan(replace(lost, proprio=np.tile(lost.proprio[:1], (9, 1))), 10.0)


@pytest.mark.timeout(300)
def test_an_episode_driven_by_hand_is_replayed_stopped_and_refused_by_the_command(tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    run, quiet = tmp_path / "by-hand", ("-p", "view:port:=0")
    with collecting("--run", str(run), "--tasks", "press-red", *quiet) as desk:
        begin(desk)
        drive(desk, 25)
        desk.press("n")
        see(desk, r"last +by-hand-000001 .* failure")
        assert desk.stop() == 130
    spool = run / "practice"
    recorded = SpoolReader(spool).read("by-hand-000001")
    patient = "replay:stall_s:=5.0", "arbiter:command_s:=1.0", "arbiter:chunk_age_s:=1.5", "arbiter:pose_s:=1.0"
    words = ["episodes", "replay", str(spool), "by-hand-000001", "--on", "collect", "--run", str(tmp_path / "again"), *quiet,
             *(word for one in patient for word in ("-p", one))]  # fmt: skip

    def ready(desk: Collection) -> None:
        see(desk, "next +press-red")
        see(desk, "none is running")
        desk.press("t")
        see(desk, "READY +again-")
        desk.press("cg")

    with on_terminal(words) as desk:
        ready(desk)
        see(desk, rf"the last ended: replayed all {len(recorded)} steps, the tip at most \d\.\d cm")
        ready(desk)
        see(desk, r"RUN +again-000002 .* [1-9]\d* steps, script")
        desk.press("h")
        see(desk, "the last ended: replay given up: stopped by the operator after ")
        desk.press(".")
        see(desk, "may move the arm again")
        ready(desk)
        see(desk, r"RUN +again-000003 .* [1-9]\d* steps, script")
        desk.press("w")
        see(desk, "the last ended: replay given up: a human took the arm after ")
        assert desk.stop() == 130
    aside = recorded.proprio + np.array([0.12 / ProprioSpec().scale[0], 0, 0, 0, 0, 0], np.float32)
    Spool(spool).write_episode(replace(recorded, proprio=aside, meta=replace(recorded.meta, episode_id="elsewhere")))
    with on_terminal([word if word != "by-hand-000001" else "elsewhere" for word in words]) as desk:
        see(desk, "none is running")
        desk.press("t")
        see(desk, "the last ended: not replayed: the arm stands 12.0 cm and 0.00 rad from where the episode began")
        assert desk.stop() == 130
    again = SpoolReader(tmp_path / "again" / "practice").read("again-000001")
    assert set(again.source) == {ControlSource.SCRIPT} and len(again) == len(recorded)
    moved = again.proprio[-1, :3] - recorded.proprio[-1, :3]
    assert np.abs(moved * ProprioSpec().scale[:3]).max() < 0.02  # a step is 1.5 cm long, and stands between two pictures
