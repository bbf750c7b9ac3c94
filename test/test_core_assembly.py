from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_toys import FINGERPRINT, MS, PERIOD, SPEC, Message, Scene
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.assembly import Assembler, AssemblyConfig
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rows import Append, Assembled, SideRecord, episode_of
from irevla_ros.core.types import ControlSource, Episode, Outcome, TerminationReason
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.data.writer import Step
from spool_toys import same_columns

WAIT = AssemblyConfig().wait_ns


def episode(scene: Scene, **changes: Any) -> tuple[Episode, Assembled]:
    assembler, appends = scene.assembled(**changes)
    assert assembler.result is not None
    return episode_of(scene.running.meta(SPEC, 10.0, {}), appends, assembler.result), assembler.result


def result_of(scene: Scene, **changes: Any) -> Assembled:
    assembler, appends = scene.assembled(**changes)
    assert assembler.result is not None
    assert sum(a.step is not None for a in appends) == assembler.result.steps
    assert len(appends) == (assembler.result.steps + 1 if assembler.result.steps else 0)
    return assembler.result


def test_an_episode_by_hand() -> None:
    scene = Scene(steps=3, human=(1,))
    made, result = episode(scene)
    assert (result.steps, result.refusal, result.missing_latents, result.missing_sides) == (3, "", (), ())
    assert made.stamps_ns.tolist() == [0, PERIOD, 2 * PERIOD, 3 * PERIOD]
    assert made.proprio[:, 0].tolist() == [0, 1, 2, 3]
    assert made.images["front"][:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert made.source.tolist() == [0, 1, 0]
    assert made.head_version.tolist() == [5, -1, 5]
    np.testing.assert_equal(made.log_prob, np.array([0, np.nan, -1], np.float32))
    assert made.reward.tolist() == [0, 0, 1]
    assert (made.terminated.tolist(), made.truncated.tolist()) == ([False, False, True], [False] * 3)
    np.testing.assert_array_equal(made.proposed[0], scene.proposals[0])
    np.testing.assert_array_equal(made.proposed[1], scene.proposals[1])  # the human drove, the policy would have
    np.testing.assert_allclose(made.executed[1], [0.5, 0, 0, 0, 1], atol=1e-6)
    assert made.latents is not None
    assert made.latents[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert (made.meta.outcome, made.meta.termination_reason, made.meta.backbone_fingerprint) == (
        Outcome.SUCCESS, TerminationReason.SUCCESS, FINGERPRINT,
    )  # fmt: skip


def test_the_time_limit_truncates_without_reward() -> None:
    made, result = episode(Scene(steps=3, success=False))
    assert made.truncated.tolist() == [False, False, True]
    assert made.reward.tolist() == [0, 0, 0]
    assert (result.outcome, result.reason) == (Outcome.FAILURE, TerminationReason.TIME_LIMIT)


def test_nothing_waits_longer_than_it_must() -> None:
    scene = Scene(steps=3)
    assembler = Assembler(scene.ended_id)
    for message in scene.messages:
        message.deliver(assembler, message.sent_ns)
    assert len(assembler.poll(scene.messages[-1].sent_ns)) == 4  # complete, so it closes without any wait
    assert assembler.result is not None
    assert assembler.poll(10**15) == []


def test_rows_come_while_the_episode_runs() -> None:
    scene = Scene(steps=30)
    assembler, given_at = Assembler(scene.ended_id), []
    for message in scene.messages:
        message.deliver(assembler, message.sent_ns)
        given_at += [(message.sent_ns, append.stamp_ns) for append in assembler.poll(message.sent_ns)]
    # Observation k is given out 0.5 s after the step on it, the first together with the second.
    assert given_at[:4] == [(600 * MS, 0), (600 * MS, PERIOD), (700 * MS, 2 * PERIOD), (800 * MS, 3 * PERIOD)]


def test_steps_taken_before_the_arbiter_heard_of_the_end_are_cut() -> None:
    plain, _ = episode(Scene(steps=4))
    overrun, _ = episode(Scene(steps=4, overrun=3))
    same_columns(overrun, plain)


def test_an_end_that_comes_too_late_to_cut_ends_at_the_first_row_not_given_out() -> None:
    scene = Scene(steps=4, overrun=12, extra=True)
    late = [replace(m, sent_ns=m.sent_ns + 11 * PERIOD) if m.kind == "end" else m for m in scene.messages]
    scene.messages = sorted(late, key=lambda m: m.sent_ns)
    made, result = episode(scene)
    assert result.refusal == ""
    assert made.reward.tolist() == [0.0] * 9 + [1.0]  # nine rows had been given out when the end came, at 1.5 s
    assert made.stamps_ns[-1] == 10 * PERIOD
    assert made.terminated[-1]


def test_rewards_belong_to_the_step_that_led_to_their_observation() -> None:
    scene = Scene(steps=3, extra=True)
    values = ((0, 9.0), (PERIOD, 0.25), (PERIOD + 33 * MS, 0.5), (2 * PERIOD, 1.0), (2 * PERIOD, 7.0), (3 * PERIOD, np.nan))
    scene.messages = [Message(0, "reward", value) for value in values] + scene.messages
    made, _ = episode(scene)
    # The one for observation 0 belongs to no step; of two for one stamp the first counts; the last row's is the success.
    assert made.reward.tolist() == [0.25, 1.5, 1.0]


def test_the_last_observation_is_the_first_at_or_after_the_end() -> None:
    scene = Scene(steps=3, extra=True, overrun=2)
    ended = replace(scene.ended, ended_ns=2 * PERIOD + 10 * MS)  # an operator's key between two observations
    scene.messages = [replace(m, arguments=(ended,)) if m.kind == "end" else m for m in scene.messages]
    made, _ = episode(scene)
    assert made.stamps_ns.tolist() == [0, PERIOD, 2 * PERIOD, 2 * PERIOD + 33 * MS]


def test_without_an_observation_after_the_end_the_newest_one_is_the_last() -> None:
    scene = Scene(steps=3, extra=True)
    made, result = episode(scene, without=lambda m: m.kind == "observation" and m.arguments[0] >= 3 * PERIOD)
    assert made.stamps_ns[-1] == 2 * PERIOD + 33 * MS
    assert result.refusal == ""


@pytest.mark.parametrize(
    ("lost", "steps", "refusal"),
    [
        (lambda m: m.kind == "observation" and m.arguments[0] == 2 * PERIOD, 1, "the observation of stamp 200000000 is lost"),
        (lambda m: m.kind == "observation" and m.arguments[0] == 0, 0, "the observation of stamp 0 is lost"),
        (lambda m: m.kind == "observation" and m.arguments[0] == 5 * PERIOD, 4, "no observation came after the last step"),
        (lambda m: m.kind == "step" and m.arguments[0].acts == 3, 1, "the record of step 2 is lost"),
        (lambda m: m.kind == "step" and m.arguments[0].acts == 1, 0, "the record of step 0 is lost"),
        (lambda m: m.kind == "step" and m.arguments[0].acted and m.arguments[0].acts == 5, 3, "the record of step 4 is lost"),
    ],
)
@pytest.mark.parametrize("wait_ns", [MS, WAIT, 100 * WAIT])
def test_what_is_lost_ends_the_episode_there(lost: Any, steps: int, refusal: str, wait_ns: int) -> None:
    """wait_ns decides whether it is noticed while the episode runs or at its end."""
    result = result_of(Scene(steps=5), without=lost, config=AssemblyConfig(wait_ns))
    assert (result.steps, result.refusal) == (steps, refusal)
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, TerminationReason.STOPPED)


def test_what_is_lost_after_the_end_is_no_loss() -> None:
    plain, _ = episode(Scene(steps=4))
    scene = Scene(steps=4, overrun=2)
    cut = next(m for m in scene.messages if m.kind == "step" and m.arguments[0].acts == 6)
    closing = scene.messages[-1]  # not needed where a step that is cut tells as much
    for lost in (cut, closing):
        made, result = episode(scene, without=lambda m, lost=lost: m is lost)
        assert result.refusal == ""
        same_columns(made, plain)
    # The same where it is still waiting for a policy record when it learns of the loss.
    result = result_of(scene, without=lambda m: m is cut or (m.kind == "side" and m.arguments[0].stamp_ns == 0))
    assert (result.steps, result.refusal, result.missing_latents) == (4, "", (0,))


def test_a_loss_is_noticed_though_the_arbiter_only_holds_afterwards() -> None:
    scene = Scene(steps=5, holds=True)
    assembler = Assembler(scene.ended_id)
    for message in scene.messages:
        lost = message.kind == "step" and message.arguments[0].acted and message.arguments[0].acts == 5
        if message.kind != "end" and not lost:
            message.deliver(assembler, message.sent_ns)
    appends = assembler.poll(scene.messages[-1].sent_ns + WAIT)
    assert assembler.result is not None
    assert (len(appends), assembler.result.refusal) == (4, "the record of step 4 is lost")


def test_an_arbiter_that_let_go_for_a_moment_is_waited_for() -> None:
    plain, _ = episode(Scene(steps=3))
    scene = Scene(steps=3)
    for message in scene.messages:
        if message.kind == "step":
            record = message.arguments[0]
            message.arguments = (replace(record, tick=record.tick * 10),)
            message.sent_ns += 300 * MS if record.acts == 3 else 0
    closing = scene.messages[-1].arguments[0]
    scene.send(PERIOD + 1, "step", replace(closing, tick=25, acts=2, stamp_ns=PERIOD))
    made, result = episode(scene)
    assert result.refusal == ""
    same_columns(made, plain)


def test_the_log_probability_of_a_chunk_stands_once() -> None:
    scene = Scene(steps=3)
    for message in scene.messages:
        if message.kind == "step" and message.arguments[0].acts == 3 and message.arguments[0].acted:
            message.arguments = (replace(message.arguments[0], chunk_ns=PERIOD, chunk_index=1),)
    made, _ = episode(scene)
    np.testing.assert_equal(made.log_prob, np.array([0, -0.5, np.nan], np.float32))
    assert made.head_version.tolist() == [5, 5, 5]


def test_the_latest_revision_of_the_end_counts() -> None:
    scene = Scene(steps=3)
    revised = replace(scene.ended, sequence=scene.ended.sequence + 1, outcome=Outcome.FAILURE)
    ends = [m for m in scene.messages if m.kind == "end"]
    scene.messages = [m for m in scene.messages if m.kind != "end"]
    for state in (revised, ends[0].arguments[0]):
        scene.messages.insert(0, Message(0, "end", (state,)))
    scene.messages[:2] = scene.messages[1::-1]
    made, result = episode(scene)
    assert (result.outcome, result.reason, made.reward[-1]) == (Outcome.FAILURE, TerminationReason.SUCCESS, 0.0)


def test_what_comes_again_after_it_was_given_out_is_not_kept() -> None:
    scene = Scene(steps=20)
    for message in [m for m in scene.messages if m.sent_ns == 2 * PERIOD and m.kind in ("step", "observation")]:
        scene.messages.append(replace(message, sent_ns=15 * PERIOD))
    scene.messages.sort(key=lambda m: m.sent_ns)
    assembler, appends = scene.assembled()
    assert len(appends) == 21
    assert (assembler.counts["observations.late"], assembler.counts["steps.repeated"]) == (1, 1)


def test_a_lost_hold_is_no_loss() -> None:
    plain, _ = episode(Scene(steps=4))
    scene = Scene(steps=4, holds=True)
    holds = [m for m in scene.messages if m.kind == "step" and m.arguments[0].hold not in (None, Hold.UNENGAGED)]
    made, result = episode(scene, without=lambda m: m in holds)
    assert result.refusal == ""
    same_columns(made, plain)


def test_a_long_pause_and_two_steps_on_one_observation_are_refused() -> None:
    result = result_of(Scene(steps=4), config=AssemblyConfig(longest_gap_ns=PERIOD - 1))
    assert (result.steps, result.refusal) == (0, "0.1 s without a step after step 0")
    scene = Scene(steps=4)
    for message in scene.messages:
        if message.kind == "step" and message.arguments[0].acted and message.arguments[0].acts == 3:
            message.arguments = (replace(message.arguments[0], stamp_ns=PERIOD),)
    result = result_of(scene)
    assert (result.steps, result.refusal) == (
        1, "steps 1 and 2 answer stamps 100000000 and 100000000, which do not increase",
    )  # fmt: skip


def test_two_arbiters_are_noticed() -> None:
    scene = Scene(steps=4)
    first = next(m for m in scene.messages if m.kind == "step")
    other = replace(first, arguments=(replace(first.arguments[0], executed=(0.0,) * 5),))
    scene.messages.insert(5, other)
    assert result_of(scene).refusal == "two different records of step 0: is there a second arbiter?"
    scene.messages[scene.messages.index(other)] = first  # the same again does no harm
    assert result_of(scene).refusal == ""


def test_missing_latents_are_left_out_as_a_whole_and_named() -> None:
    scene = Scene(steps=4)
    result = result_of(scene, without=lambda m: m.kind == "side" and m.arguments[0].stamp_ns == 2 * PERIOD)
    assert (result.steps, result.refusal, result.latents) == (4, "", None)
    assert (result.missing_latents, result.missing_sides) == ((2 * PERIOD,), (2 * PERIOD,))
    made, _ = episode(scene, without=lambda m: m.kind == "side")
    assert made.head_version.tolist() == [-1] * 4
    assert np.isnan(made.log_prob).all()
    assert made.meta.backbone_fingerprint == ""


def test_latents_of_another_backbone_do_not_mix() -> None:
    scene = Scene(steps=2)
    first = next(m for m in scene.messages if m.kind == "side")
    first.arguments = (replace(first.arguments[0], fingerprint="another0backbone"),)
    result = result_of(scene)
    assert (result.latents, result.missing_latents, result.fingerprint) == (None, (0,), FINGERPRINT)


def test_latents_that_come_after_their_row_are_still_used() -> None:
    scene = Scene(steps=10)
    for message in scene.messages:
        if message.kind == "side" and message.arguments[0].stamp_ns == PERIOD:
            message.sent_ns = 900 * MS
    result = result_of(scene)
    assert result.latents is not None
    assert result.missing_sides == (PERIOD,)  # its head version came too late for the row


def test_what_belongs_elsewhere_is_counted_and_not_used() -> None:
    scene = Scene(steps=3)
    other = [replace(m, arguments=(replace(m.arguments[0], episode_id="run1-000009"),)) for m in scene.messages
             if m.kind == "step"]  # fmt: skip
    scene.messages += other + [m for m in scene.messages if m.kind == "observation"]
    scene.messages.append(Message(0, "end", (replace(scene.running, phase=Phase.READY),)))
    scene.messages.sort(key=lambda m: m.sent_ns)
    assembler, appends = scene.assembled()
    assert len(appends) == 4
    assert assembler.counts["steps.other_episode"] == len(other)
    assert assembler.counts["observations.repeated"] + assembler.counts["observations.late"] >= 3
    assert assembler.counts["states.unused"] == 1


def test_memory_is_bounded_while_nobody_acts() -> None:
    scene = Scene(steps=3)
    assembler = Assembler(scene.ended_id, AssemblyConfig(capacity=10))
    for k in range(1000):
        assembler.observation(-(10**9) + k, scene.observation(0))
        assembler.side(SideRecord(-(10**9) + k, 1, None, np.zeros((2, 3), np.float16), FINGERPRINT))
        assembler.reward(-(10**9) + k, 1.0)
    assert assembler.counts["observations.unanswered"] == 990
    assert assembler.counts["sides.unanswered"] == 990
    assert assembler.counts["rewards.unused"] == 980
    appends = []
    for message in scene.messages:
        message.deliver(assembler, message.sent_ns)
        appends += assembler.poll(message.sent_ns)
    assert len(appends) == 4
    assert assembler.result is not None
    assert assembler.result.refusal == ""


def test_an_episode_that_never_ran_or_never_moved_is_refused_empty() -> None:
    never = EpisodeState(4, Phase.END, "run1", "run1-000000", termination_reason=TerminationReason.STOPPED, truncated=True)
    assembler = Assembler("run1-000000")
    assembler.end(never, 0)
    assert assembler.poll(0) == []
    assert assembler.result is not None
    assert (assembler.result.steps, assembler.result.refusal) == (0, "the episode ended before it ran")
    result = result_of(Scene(steps=2), without=lambda m: m.kind == "step" and m.arguments[0].acted)
    assert result.refusal == "the record of step 0 is lost"
    scene = Scene(steps=2)
    scene.messages = [m for m in scene.messages if m.kind != "step"]
    closing = replace(Scene(steps=2).messages[-1].arguments[0], acts=0)
    scene.send(2 * PERIOD, "step", closing)
    assert result_of(scene).refusal == "no step was taken before the end"


def test_an_arbiter_that_died_leaves_the_last_step_in_doubt() -> None:
    scene = Scene(steps=5)
    result = result_of(scene, without=lambda m: m is scene.messages[-1])
    assert (result.steps, result.refusal) == (4, "the arbiter did not report that it let go")
    result = result_of(scene, without=lambda m: m.kind == "step")
    assert (result.steps, result.refusal) == (0, "the arbiter did not report that it let go")


def test_a_discarded_episode_says_so() -> None:
    scene = Scene(steps=2)
    scene.messages = [replace(m, arguments=(replace(scene.ended, discarded=True),)) if m.kind == "end" else m
                      for m in scene.messages]  # fmt: skip
    assert result_of(scene).discarded


def test_bad_values() -> None:
    with pytest.raises(MessageError, match=r"latents of stamp 3: float32 \[2, 3\] of backbone 'f'"):
        SideRecord(3, latents=np.zeros((2, 3), np.float32), fingerprint="f")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="assembly wait 0 ns"):
        AssemblyConfig(wait_ns=0)


scenes = st.builds(
    Scene, steps=st.integers(1, 9), success=st.booleans(), human=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    extra=st.booleans(), overrun=st.integers(0, 2), holds=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip


@settings(max_examples=150)
@given(scenes, st.data())
def test_any_interleaving_within_the_wait_gives_the_same_episode(scene: Scene, data: st.DataObject) -> None:
    wanted, _ = episode(scene)
    # The wait for the arbiter's last word begins with the news of the end, after which it may have overrun a step or two.
    longest = WAIT - (scene.messages[-1].sent_ns - next(m.sent_ns for m in scene.messages if m.kind == "end"))
    delays = data.draw(st.lists(st.integers(0, longest - 1), min_size=len(scene.messages), max_size=len(scene.messages)))
    assembler, appends = Assembler(scene.ended_id), []
    arrivals = sorted((m.sent_ns + delay, i, m) for i, (m, delay) in enumerate(zip(scene.messages, delays, strict=True)))
    for arrival, number, message in arrivals:
        message.deliver(assembler, arrival)
        if data.draw(st.booleans(), label=f"poll after {number}"):
            appends += assembler.poll(arrival)
    appends += assembler.poll(arrivals[-1][0] + WAIT)
    assert assembler.result is not None
    assert assembler.result.refusal == ""
    same_columns(episode_of(scene.running.meta(SPEC, 10.0, {}), appends, assembler.result), wanted)


@settings(max_examples=150)
@given(scenes, st.data())
def test_whatever_is_lost_what_is_given_out_is_true(scene: Scene, data: st.DataObject) -> None:
    """Every row is one of the whole episode's, and the observation after it the one before the next step."""
    _, full = scene.assembled()
    lost = data.draw(st.sets(st.integers(0, len(scene.messages) - 1), max_size=4))
    assembler, appends = scene.assembled(without=lambda m: scene.messages.index(m) in lost)
    rows = {a.stamp_ns: a for a in full}
    acted = [m.arguments[0] for m in scene.messages if m.kind == "step" and m.arguments[0].acted]
    for number, append in enumerate(appends):
        assert append.observation is next(m.arguments[1] for m in scene.messages
                                          if m.kind == "observation" and m.arguments[0] == append.stamp_ns)  # fmt: skip
        if append.step is not None:
            record = acted[number - 1]
            assert append.step.executed.tolist() == list(np.float32(record.executed))
            assert appends[number - 1].stamp_ns == record.stamp_ns
            if append is not appends[-1]:
                assert append.stamp_ns in rows
    if assembler.result is not None:
        assert assembler.result.steps == max(0, len(appends) - 1)
        assert not (assembler.result.refusal and assembler.result.outcome is not Outcome.UNKNOWN)


# ---- with the real spool ---------------------------------------------------------------------------------------


def record(spool: Spool, scene: Scene) -> None:
    """As the recorder node does: append while it runs, seal, then the latents."""
    writer = spool.open_episode(scene.running.meta(SPEC, 10.0, {}))
    assembler = Assembler(scene.ended_id)
    for message in scene.messages:
        message.deliver(assembler, message.sent_ns)
        for append in assembler.poll(message.sent_ns):
            append_to(writer, append)
    result = assembler.result
    assert result is not None
    writer.seal(result.outcome, result.reason)
    if result.latents is not None:
        spool.write_latents(scene.ended_id, result.fingerprint, result.latents)


def append_to(writer: Any, append: Append) -> None:
    if append.step is not None:
        writer.append_step(Step(**vars(append.step)))
    writer.append_observation(append.stamp_ns, append.observation)


def test_what_the_spool_gives_back_is_what_was_assembled(tmp_path: Path) -> None:
    scene = Scene(steps=12, human=(3, 4), overrun=1, extra=True)
    record(Spool(tmp_path), scene)
    wanted, _ = episode(scene)
    found = SpoolReader(tmp_path).read(scene.ended_id, fingerprint=FINGERPRINT)
    same_columns(found, wanted)
    assert (found.meta.outcome, found.meta.termination_reason) == (Outcome.SUCCESS, TerminationReason.SUCCESS)
    assert found.source.tolist().count(ControlSource.HUMAN) == 2


def test_after_kill_nine_the_rows_given_out_are_recovered(tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from graph_toys import Scene, SPEC
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.assembly import Assembler
from irevla_ros.data.spool import Spool
from test_core_assembly import append_to
scene = Scene(steps=40)
writer = Spool({str(tmp_path)!r}).open_episode(scene.running.meta(SPEC, 10.0, {{}}))
assembler = Assembler(scene.ended_id)
for message in scene.messages:
    message.deliver(assembler, message.sent_ns)
    for append in assembler.poll(message.sent_ns):
        append_to(writer, append)
        print(append.stamp_ns, flush=True)
        if append.stamp_ns == {10 * PERIOD}:
            time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        deadline = time.monotonic() + 120
        for line in recorder.stdout:
            if int(line) == 10 * PERIOD or time.monotonic() > deadline:
                break
        recorder.send_signal(signal.SIGKILL)
    assert len(Spool(tmp_path).recovered) == 1
    found = SpoolReader(tmp_path).read("run1-000000")
    assert len(found) == 10
    assert found.meta.termination_reason is TerminationReason.RECOVERED
    wanted, _ = episode(Scene(steps=40))
    same_columns(found, replace(wanted, latents=None), steps=10, ignore=("terminated", "truncated"))
