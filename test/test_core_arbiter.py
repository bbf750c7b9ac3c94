from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import ArbiterConfig, HandBack, Refused
from irevla_ros.core.arbiter_step import ArbiterStep, Hold
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.limits import Base, Clip, Limits
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import POINTING_DOWN, Pose, exp, multiply, yaw
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.world import SUBSTEPS

MS = 1_000_000
POLICY, HUMAN, SCRIPT = ControlSource.POLICY, ControlSource.HUMAN, ControlSource.SCRIPT
SPEC = ActionSpec()
FORWARD = (1.0, 0.0, 0.0, 0.0, 1.0)  # 4 cm along x, gripper open


class Bench:
    """An arbiter whose arm follows exactly. The graph's clock stands at 100 s when wall time is 0."""

    def __init__(self, config: ArbiterConfig = ArbiterConfig(), spec: ActionSpec = SPEC) -> None:
        self.arbiter, self.spec = Arbiter(spec, config), spec
        self.now, self.wall = 100_000 * MS, 0
        self.position: Any = (0.4, 0.0, 0.2)
        self.quaternion: Any = POINTING_DOWN
        self.pose()

    def pose(self) -> bool:
        return self.arbiter.pose(self.position, self.quaternion, self.now, self.wall)

    def passes(self, ms: float = 100, *, wall: float | None = None, pose: bool = True) -> Bench:
        elapsed = ms if wall is None else wall
        for _ in range(int(elapsed) // 20 if elapsed < 2000 else 0):
            self.arbiter.stream(self.now, self.wall)
        self.now += round(ms * MS)
        self.wall += round(elapsed * MS)
        if pose:
            self.pose()
        return self

    def chunk(self, *actions: Any, source: ControlSource = POLICY, age_ms: float = 0, names: Any = None) -> bool:
        made = ActionChunk(self.now - round(age_ms * MS), names or self.spec.names, np.array(actions or [FORWARD]), 100 * MS)
        return self.arbiter.offer(source, made, self.now, self.wall)

    def human(self, *linear: float, deadman: bool = True, gripper: float | None = None, turn: float = 0.0) -> bool:
        return self.arbiter.human(deadman, linear or (0, 0, 0), (0, 0, turn), gripper, self.now, self.wall)

    def engage(self, source: ControlSource = POLICY, episode: str = "e1") -> Bench:
        self.arbiter.engage(source, self.now, self.wall, episode)
        return self

    def tick(self) -> ArbiterStep:
        step = self.arbiter.tick(self.now, self.wall)
        if step.target is not None:
            self.position, self.quaternion = step.target.position, step.target.quaternion
        return step


def test_one_step_of_the_policy_by_hand() -> None:
    bench = Bench().engage()
    bench.chunk([0.5, -2.0, 0.25, 1.0, -0.7], age_ms=30)
    step = bench.tick()
    assert (step.source, step.hold, step.acts, step.episode_id) == (POLICY, None, 1, "e1")
    assert (step.stamp_ns, step.chunk_ns, step.chunk_index) == (bench.now - 30 * MS, bench.now - 30 * MS, 0)
    np.testing.assert_allclose(step.proposed, [0.5, -2.0, 0.25, 1.0, -0.7], atol=1e-7)
    np.testing.assert_allclose(step.executed, [0.5, -1.0, 0.25, 1.0, -0.7], atol=1e-7)
    np.testing.assert_allclose(step.commanded, [0.5, -1.0, 0.25, 1.0, -1.0], atol=1e-6)  # the gripper is closed, not a little
    assert step.target is not None
    np.testing.assert_allclose(step.target.position, [0.42, -0.04, 0.21], atol=1e-7)
    assert yaw(step.target.q) == pytest.approx(0.25)
    assert (step.gripper, step.clips) == (-1, (Clip.ACTION,))


def test_commanded_is_what_the_limits_left_of_it() -> None:
    bench = Bench(ArbiterConfig(Limits(step_m=0.02, step_rad=0.1, box_high=(0.7, 0.32, 0.205)))).engage()
    bench.chunk([0.0, 0.0, 1.0, 1.0, 1.0])
    step = bench.tick()
    assert step.clips == (Clip.BOX, Clip.STEP)
    np.testing.assert_allclose(step.executed, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(step.commanded, [0, 0, 0.125, 0.4, 1], atol=1e-6)  # 5 mm of 40, 0.1 rad of 0.25


def test_all_six_dimensions_turn_about_base_axes() -> None:
    spec = ActionSpec(("dx", "dy", "dz", "drx", "dry", "drz", "gripper"), (0.04,) * 3 + (0.25,) * 3 + (1.0,))
    bench = Bench(spec=spec)
    before = multiply(exp(np.array([0, 0, math.pi / 2])), np.array(POINTING_DOWN))
    bench.quaternion = tuple(before)
    bench.passes().engage()
    bench.chunk([0, 0, 0, 0.4, 0, 0, 0])
    step = bench.tick()
    assert step.target is not None
    np.testing.assert_allclose(step.target.q, multiply(exp(np.array([0.1, 0, 0])), before), atol=1e-9)
    np.testing.assert_allclose(step.commanded, [0, 0, 0, 0.4, 0, 0, 0], atol=1e-6)


def test_a_chunk_is_played_one_action_a_tick_on_the_observations_it_was_meant_for() -> None:
    bench = Bench().engage()
    bench.chunk([0.1, 0, 0, 0, 1], [0.2, 0, 0, 0, 1], [0.3, 0, 0, 0, 1])
    stamps = []
    for expected in (0.1, 0.2, 0.3):
        step = bench.tick()
        stamps.append(step.stamp_ns)
        assert step.executed[0] == pytest.approx(expected)
        bench.passes(97 if expected < 0.2 else 103, wall=60)
        bench.arbiter.observe(bench.now)
    assert np.diff(stamps).tolist() == [97 * MS, 103 * MS]
    assert bench.tick().hold is Hold.EXHAUSTED


def test_a_second_action_for_an_answered_observation_is_not_taken() -> None:
    bench = Bench().engage()
    bench.chunk(FORWARD, FORWARD)
    bench.tick()
    bench.passes()
    bench.arbiter.observe(bench.now)
    bench.tick()
    assert not bench.chunk(FORWARD)  # the slow answer to an observation that the chunk before has covered
    assert bench.arbiter.counts["policy.answered"] == 1


# ---- nothing on stale, missing or unengaged input --------------------------------------------------------------


def test_unengaged_nothing_is_commanded_whoever_wants() -> None:
    bench = Bench()
    bench.chunk()
    bench.chunk(source=SCRIPT)
    bench.human(0.1, 0, 0)
    step = bench.tick()
    assert (step.hold, step.target, step.gripper, step.acts) == (Hold.UNENGAGED, None, None, 0)


def test_engaging_needs_a_fresh_pose_within_reach_of_the_limits() -> None:
    bench = Bench()
    bench.passes(201, pose=False)
    with pytest.raises(Refused, match="engage: pose too old: the robot's state is fresh; check that"):
        bench.engage()
    bench.position = (0.9, 0, 0.2)
    bench.passes()
    with pytest.raises(Refused, match="the arm must stand within a step of the box"):
        bench.engage()
    with pytest.raises(Refused, match="engage: no pose"):
        Arbiter(SPEC).engage(POLICY, 0, 0)
    assert bench.tick().target is None


@pytest.mark.parametrize(
    ("now", "wall", "hold"),
    [
        (150, 150, None),
        (150, 201, Hold.POSE_STALE),  # the graph's clock is slow or stands still
        (201, 150, Hold.POSE_STALE),
        (-49, 150, Hold.CLOCK),
        (60_000, 150, Hold.POSE_STALE),
    ],
)
def test_the_pose_is_fresh_by_both_clocks_or_not_at_all(now: int, wall: int, hold: Hold | None) -> None:
    bench = Bench().engage()
    bench.tick()
    bench.passes(now, wall=wall, pose=False)
    bench.chunk()
    assert bench.tick().hold is hold


def test_a_pose_that_keeps_its_stamp_goes_stale_however_often_it_comes() -> None:
    bench = Bench().engage()
    for _ in range(5):
        bench.wall += 50 * MS
        bench.pose()
    bench.chunk()
    assert bench.tick().hold is Hold.POSE_STALE


def test_a_pose_queued_for_long_is_stale_on_arrival() -> None:
    bench = Bench().engage()
    bench.passes(300, pose=False)
    bench.arbiter.pose(bench.position, bench.quaternion, bench.now - 250 * MS, bench.wall)
    bench.chunk()
    assert bench.tick().hold is Hold.POSE_STALE


def test_the_arm_holds_200_ms_after_the_policy_fell_silent() -> None:
    bench = Bench().engage()
    bench.chunk(*[FORWARD] * 10)
    held = []
    for _ in range(6):
        held.append(bench.tick().hold)
        bench.passes(75)
    assert held == [None, None, None, Hold.SILENT, Hold.SILENT, Hold.SILENT]


def test_an_old_observation_moves_nothing_though_the_chunk_has_just_come() -> None:
    bench = Bench().engage()
    bench.chunk(age_ms=501)
    assert bench.tick().hold is Hold.OBSERVATION_STALE


def test_a_clock_that_jumps_back_makes_nothing_fresh() -> None:
    bench = Bench().engage()
    bench.chunk(*[FORWARD] * 3)
    bench.passes(10_000, wall=10_000, pose=False)
    assert bench.tick().hold is Hold.POSE_STALE
    bench.now -= 9_950 * MS  # the chunk looks 50 ms old again, and so does the pose
    assert bench.tick().hold is Hold.CLOCK
    bench.pose()
    step = bench.tick()
    assert step.hold is not None
    assert bench.arbiter.counts["clock_jumps"] == 1
    bench.passes(10)
    bench.chunk()
    assert bench.tick().acted  # and goes on with what is new


def test_a_wall_clock_that_goes_back_is_not_believed() -> None:
    bench = Bench().engage()
    bench.chunk()
    bench.wall -= 1
    assert bench.tick().hold is Hold.POSE_STALE
    bench.now += MS
    bench.pose()
    assert bench.tick().hold is Hold.SILENT


def test_while_holding_the_last_target_stays() -> None:
    bench = Bench().engage()
    bench.chunk()
    target = bench.tick().target
    bench.passes(10)
    for _ in range(3):
        bench.position = (0.6, 0.1, 0.1)  # pushed
        step = bench.passes(60).tick()
        assert (step.hold, step.target) == (Hold.EXHAUSTED, target)
        assert step.executed == step.commanded == step.proposed == (0, 0, 0, 0, 1)


@pytest.mark.parametrize("source", [POLICY, HUMAN])
def test_an_arm_that_was_carried_away_is_not_called_back(source: ControlSource) -> None:
    """A controller that was restarted there knows nothing of the last target: the next one would be a leap of 30 cm."""
    bench = Bench().engage(source)

    def step() -> ArbiterStep:
        bench.passes()
        bench.chunk() if source is POLICY else bench.human(0.1, 0.0, 0.0)
        return bench.tick()

    assert step().acted
    bench.passes(5000, pose=False)
    bench.position = (0.4, 0.3, 0.2)
    bench.passes()  # the first after so long starts the stream anew
    held = step()
    assert (held.hold, held.source) == (Hold.DISPLACED, None)
    bench.position = (0.4, 0.1, 0.2)  # within a leash (10 cm) and a step (7 cm): pushed, as in every day's work
    assert step().acted


def test_disengaging_forgets_the_chunk_and_the_target() -> None:
    bench = Bench().engage()
    bench.chunk(FORWARD, FORWARD)
    bench.tick()
    bench.arbiter.disengage()
    with pytest.raises(Refused, match="engage: the last motion has not come to rest"):
        bench.engage()
    assert bench.passes().tick().target is None
    bench.position = (0.6, 0.1, 0.1)  # moved by hand
    bench.passes(400).engage()
    step = bench.tick()
    assert step.hold is Hold.NO_CHUNK
    assert step.target is not None
    assert step.target.position == (0.6, 0.1, 0.1)


def test_ticking_faster_does_not_move_faster() -> None:
    bench = Bench().engage()
    acted = 0
    for i in range(100):
        bench.chunk()
        acted += bench.tick().acted
        bench.passes(10)
        assert i < 99 or bench.arbiter.counts["hold.too_soon"] == 80
    assert acted == 20  # one in 50 ms


# ---- malformed input -------------------------------------------------------------------------------------------


def test_a_chunk_for_another_arm_is_counted_and_voids_the_one_before() -> None:
    bench = Bench().engage()
    bench.chunk(FORWARD, FORWARD)
    bench.tick()
    bench.passes()
    assert not bench.chunk(FORWARD, names=("dy", "dx", "dz", "drz", "gripper"))
    assert bench.tick().hold is Hold.REJECTED
    assert bench.arbiter.counts["policy.rejected"] == 1
    bench.passes()
    bench.chunk()
    assert bench.tick().acted


def test_a_message_that_could_not_be_read_holds_until_a_good_one() -> None:
    bench = Bench().engage()
    bench.chunk(FORWARD, FORWARD)
    bench.arbiter.reject(POLICY)
    assert bench.tick().hold is Hold.REJECTED


@pytest.mark.parametrize("position", [(math.nan, 0, 0), (1, 2), ("a", 0, 0), (0, 0, 1e9), None])
def test_a_malformed_pose_holds_until_a_good_one(position: Any) -> None:
    bench = Bench().engage()
    bench.chunk(FORWARD, FORWARD)
    bench.now += MS
    assert not bench.arbiter.pose(position, POINTING_DOWN, bench.now, bench.wall)
    assert bench.tick().hold is Hold.POSE_MISSING
    assert bench.arbiter.counts["pose.rejected"] == 1
    bench.passes(10)
    assert bench.tick().acted


@pytest.mark.parametrize(
    ("linear", "angular", "gripper"),
    [
        ((math.nan, 0, 0), (0, 0, 0), None), ((0, 0, 0), (0, math.inf, 0), None), ((0, 0), (0, 0, 0), None),
        ((0, 0, 0, 0), (0, 0), None), ((0, 0, 0), (0, 0, 0), math.nan), ("abc", (0, 0, 0), None),
    ],
)  # fmt: skip
def test_a_malformed_twist_with_the_deadman_takes_over_and_holds(linear: Any, angular: Any, gripper: Any) -> None:
    bench = Bench().engage()
    bench.chunk(FORWARD, FORWARD)
    assert not bench.arbiter.human(True, linear, angular, gripper, bench.now, bench.wall)
    assert bench.tick().hold is Hold.REJECTED
    bench.passes()
    bench.human(0.1, 0, 0)
    assert bench.tick().source is HUMAN


def test_dimensions_that_it_cannot_move_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="action dimension 'joint1': the arbiter moves dx, dy, dz, drx, dry, drz, gripper"):
        Arbiter(ActionSpec(("dx", "joint1"), (1.0, 1.0)))
    with pytest.raises(ConfigError, match="arbiter durations"):
        ArbiterConfig(pose_ns=0)


# ---- the human -------------------------------------------------------------------------------------------------


def test_a_twist_is_one_control_period_of_motion() -> None:
    bench = Bench().engage(HUMAN)
    bench.arbiter.observe(bench.now - 5 * MS)
    bench.human(0.2, -0.1, 0.0, turn=0.5)
    step = bench.tick()
    assert (step.source, step.stamp_ns, step.chunk_ns) == (HUMAN, bench.now - 5 * MS, -1)
    np.testing.assert_allclose(step.executed, [0.5, -0.25, 0, 0.2, 0], atol=1e-6)  # 2 cm, -1 cm, 0.05 rad
    assert step.proposed == step.executed
    assert step.target is not None
    np.testing.assert_allclose(step.target.position, [0.42, -0.01, 0.2], atol=1e-7)
    assert (step.gripper, step.clips) == (None, ())
    bench.passes()
    bench.human(1.0, 0, 0, gripper=-1.0)
    step = bench.tick()
    assert (step.executed[0], step.clips, step.gripper, step.commanded[4]) == (1.0, (Clip.ACTION,), -1, -1.0)
    bench.passes()
    bench.human(0, 0, 0)
    assert bench.tick().executed[4] == -1.0  # as it is


def test_the_human_takes_over_at_once_and_the_rest_of_the_chunk_is_dropped() -> None:
    bench = Bench().engage()
    bench.chunk(*[FORWARD] * 5)
    assert bench.tick().source is POLICY
    bench.passes(60)
    bench.human(0, 0.1, 0)
    assert bench.tick().source is HUMAN
    bench.passes(60)
    bench.human(deadman=False)
    step = bench.tick()
    assert (step.hold, bench.arbiter.engaged) == (Hold.RELEASED, HUMAN)
    assert bench.arbiter.counts["policy.dropped"] == 4
    assert bench.arbiter.counts["takeovers"] == 1
    bench.passes(60)
    bench.chunk()
    assert bench.tick().hold is Hold.RELEASED  # until somebody engages it again
    bench.engage()
    assert bench.tick().hold is Hold.LATCHED
    bench.passes(439)  # 499 ms after the release
    bench.chunk()
    assert bench.tick().hold is Hold.LATCHED
    bench.passes(1)
    assert bench.tick().source is POLICY


def test_hand_back_to_an_observation_newer_than_the_release() -> None:
    bench = Bench(ArbiterConfig(hand_back=HandBack.FRESH)).engage()
    bench.chunk(FORWARD)
    bench.tick()
    bench.passes()
    bench.human(0, 0.1, 0)
    bench.tick()
    bench.chunk(FORWARD, FORWARD)  # recorded as a proposal, never played
    bench.passes(50)
    bench.human(deadman=False)
    assert bench.tick().hold is Hold.LATCHED
    bench.passes(500)
    assert not bench.chunk(age_ms=500)  # as old as the release
    assert bench.tick().hold is Hold.AWAITING_FRESH
    assert bench.chunk(age_ms=499)
    assert bench.tick().source is POLICY


def test_engaging_again_does_not_wait_for_something_newer_than_the_release() -> None:
    bench = Bench(ArbiterConfig(hand_back=HandBack.FRESH)).engage()
    bench.human(0, 0.1, 0)
    bench.passes()
    bench.human(deadman=False)
    assert not bench.chunk(age_ms=10)
    bench.engage()
    assert bench.chunk(age_ms=10)
    bench.passes(500)
    bench.chunk()
    assert bench.tick().source is POLICY


def test_what_the_policy_would_have_done_is_recorded_while_the_human_drives() -> None:
    bench = Bench().engage()
    bench.human(0, 0.1, 0)
    bench.chunk([0.5, 0, 0, 0, 1], age_ms=40)
    bench.arbiter.observe(bench.now)
    step = bench.tick()
    assert step.source is HUMAN
    np.testing.assert_allclose(step.proposed, [0.5, 0, 0, 0, 1])
    np.testing.assert_allclose(step.executed, [0, 0.25, 0, 0, 0], atol=1e-6)
    assert (step.stamp_ns, step.chunk_ns) == (bench.now, bench.now - 40 * MS)


def test_silence_of_the_teleop_is_not_a_release() -> None:
    bench = Bench(ArbiterConfig(hand_back=HandBack.FRESH)).engage()
    bench.human(0.1, 0, 0)
    assert bench.tick().source is HUMAN
    for _ in range(5):
        bench.passes()
        bench.chunk()
        held = bench.tick().hold
    assert held is Hold.HUMAN_STALE
    bench.human(deadman=False)
    bench.passes(500)
    assert bench.tick().hold is Hold.AWAITING_FRESH
    bench.passes()
    bench.chunk()
    assert bench.tick().source is POLICY


def test_a_dead_teleop_is_cleared_by_engaging_again_and_a_living_one_is_not() -> None:
    bench = Bench().engage()
    bench.human(0.1, 0, 0)
    bench.passes(500)
    bench.chunk()  # a proposal while the human drives
    bench.engage()
    assert bench.tick().hold is Hold.NO_CHUNK
    bench.passes(10)
    bench.chunk()
    assert bench.tick().source is POLICY
    bench.passes()
    bench.human(0.1, 0, 0)
    bench.engage()
    bench.chunk()
    assert bench.tick().source is HUMAN


def test_old_messages_of_the_human_can_only_make_it_safer() -> None:
    bench = Bench().engage()
    bench.human(0.1, 0, 0)
    bench.arbiter.human(False, (0, 0, 0), (0, 0, 0), None, bench.now - 1, bench.wall)
    assert bench.tick().source is HUMAN  # an old release does not let go
    bench.passes()
    bench.human(0.2, 0, 0, deadman=False)
    bench.arbiter.human(True, (0.1, 0, 0), (0, 0, 0), None, bench.now - 1, bench.wall)
    # An old press takes over, but neither it nor the twist sent without the deadman steers.
    assert bench.tick().hold is Hold.REJECTED
    assert bench.arbiter.counts["human.late"] == 2


def test_a_late_twist_does_not_move_the_arm() -> None:
    bench = Bench().engage()
    bench.passes(300)
    bench.arbiter.human(True, (0.1, 0, 0), (0, 0, 0), None, bench.now - 201 * MS, bench.wall)
    assert bench.tick().hold is Hold.HUMAN_STALE


def test_a_script_must_be_engaged_and_does_not_come_back_by_itself() -> None:
    bench = Bench(ArbiterConfig(hand_back=HandBack.FRESH)).engage(SCRIPT)
    bench.chunk()
    assert bench.tick().hold is Hold.NO_CHUNK  # the policy is not asked
    bench.passes(10)
    bench.chunk(FORWARD, FORWARD, source=SCRIPT)
    assert bench.tick().source is SCRIPT
    bench.passes(60)
    bench.human(0.1, 0, 0)
    bench.tick()
    bench.human(deadman=False)
    bench.passes(60)
    bench.human(deadman=False)
    bench.chunk(source=SCRIPT)
    assert bench.tick().hold is Hold.RELEASED


def test_a_new_episode_counts_from_one_and_may_have_any_stamps() -> None:
    bench = Bench().engage()
    bench.chunk()
    assert bench.tick().acts == 1
    bench.passes()
    bench.engage(episode="e1")
    bench.chunk()
    assert bench.tick().acts == 2
    bench.arbiter.disengage()
    closing = bench.tick()
    assert (closing.hold, closing.acts, closing.episode_id) == (Hold.UNENGAGED, 2, "e1")
    bench.passes(400)
    bench.now -= 50_000 * MS  # the simulator starts again
    bench.passes()
    bench.passes()
    bench.tick()
    bench.engage(episode="e2")
    bench.chunk()
    step = bench.tick()
    assert (step.acts, step.episode_id, step.acted) == (1, "e2", True)


# ---- the record ------------------------------------------------------------------------------------------------


def test_a_step_survives_json() -> None:
    bench = Bench().engage()
    bench.chunk([0.1, -3.0, 1e-9, 1 / 3, 0])
    for step in (bench.tick(), bench.passes().tick()):
        assert ArbiterStep.from_json(step.to_json()) == step
    tree = json.loads(step.to_json())
    assert (tree["message"], tree["format"], tree["source"], tree["hold"]) == ("arbiter/step", 1, None, "chunk used up")


actions = st.lists(st.floats(-1, 1, width=32), min_size=5, max_size=5).map(tuple)
steps = st.builds(
    ArbiterStep, st.integers(0, 2**60), st.integers(0, 2**60), st.text(max_size=9), st.integers(1, 2**60),
    st.integers(0, 2**60), st.sampled_from(ControlSource), st.none(), st.lists(st.sampled_from(Clip)).map(tuple),
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=5, max_size=5).map(tuple), actions, actions,
    st.builds(Pose, st.tuples(*[st.floats(-99, 99)] * 3), st.just((0.0, 0.6, 0.0, 0.8))), st.sampled_from([None, -1, 1]),
    st.integers(-1, 2**60), st.integers(-1, 99),
)  # fmt: skip


@given(steps)
def test_any_step_survives_json(step: ArbiterStep) -> None:
    assert ArbiterStep.from_json(step.to_json()) == step


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": None}, "a tick acts for a source or holds"),
        ({"hold": Hold.CLOCK}, "a tick acts for a source or holds"),
        ({"target": None}, "a tick that acts has a target, a count and an observation"),
        ({"stamp_ns": -1}, "a tick that acts has a target, a count and an observation"),
        ({"executed": (0.0,)}, "the three actions have the same dimensions"),
        ({"executed": (0, 0, 0, 0, 1.1)}, r"both lie within \+-1, all is finite"),
        ({"commanded": (0, 0, 0, 0, math.nan)}, r"both lie within \+-1, all is finite"),
        ({"proposed": (0, 0, 0, 0, math.inf)}, r"both lie within \+-1, all is finite"),
        ({"gripper": 0}, "-1 is closed, 1 open"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(values: dict[str, Any], message: str) -> None:
    bench = Bench().engage()
    bench.chunk()
    step = bench.tick()
    with pytest.raises(MessageError, match=message):
        replace(step, **values)


# ---- the same motion as in the process --------------------------------------------------------------------------


def test_through_the_arbiter_the_simulated_arm_moves_as_in_the_environment() -> None:
    direct, graph = PandaEnv("demo", image_size=16), PandaEnv("demo", image_size=16)
    for env in (direct, graph):
        env.reset(seed=3, options={"task": "press-red"})
    limits = Limits(base=Base.MEASURED, step_m=0.2, step_rad=0.6, leash_m=0.3, leash_rad=1.0, gripper_band=0.0,
                    speed_m_s=2.0, speed_rad_s=6.0, gripper_hold_ns=0)  # fmt: skip
    arbiter, now = Arbiter(SPEC, ArbiterConfig(limits, min_tick_ns=0, servo_ns=0)), 0
    rng = np.random.default_rng(0)
    for number in range(25):
        action = np.clip(rng.normal(0, 0.8, 5), -1.3, 1.3).astype(np.float32)
        direct.world.step(action)
        arbiter.pose(*graph.world.arm.tip(), now, now)
        if number == 0:
            arbiter.engage(POLICY, now, now)
        arbiter.offer(POLICY, ActionChunk(now, SPEC.names, action[None], 100 * MS), now, now)
        step = arbiter.tick(now, now)
        assert step.acted
        assert step.target is not None
        assert Clip.STEP not in step.clips
        assert Clip.LEASH not in step.clips
        graph.world.arm.move(step.target.p, yaw(step.target.q), float(step.gripper or 0))
        graph.world.settle(SUBSTEPS)
        now += 100 * MS
        np.testing.assert_allclose(graph.world.arm.tip()[0], direct.world.arm.tip()[0], atol=2e-3)
        assert graph.world.arm.gripper_width() == pytest.approx(direct.world.arm.gripper_width(), abs=1e-3)
    for env in (direct, graph):
        env.close()
