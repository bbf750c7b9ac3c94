"""The recorder node, real and whole, between real topics: what is sealed is what was sent, and nothing sealed is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cell_toys import Cell, arguments
from graph_toys import FINGERPRINT, PERIOD
from irevla_ros.core.episode_state import Judge, Phase, Request, Verb, Verdict
from irevla_ros.core.rows import SideRecord
from irevla_ros.core.types import ControlSource, Episode, Mode, Outcome, TerminationReason
from irevla_ros.data.paths import label_path, log_path, side_path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.side import SideWriter
from irevla_ros.nodes import topics
from irevla_ros.nodes.recorder import RecorderNode
from ros_toys import opened, spin_for, spin_until

SUCCESS = TerminationReason.SUCCESS


class Policy:
    """Writes side segments as a policy would: latents known from the stamp, version 4, log-probability -k."""

    def __init__(self, run: Path, episode_id: str) -> None:
        self._writer = SideWriter(run / "practice", episode_id)
        self._count = 0

    def encode(self, stamp_ns: int) -> None:
        self._writer.append(SideRecord(stamp_ns, 4, -float(self._count), latents(stamp_ns), FINGERPRINT))
        self._count += 1

    def close(self) -> None:
        self._writer.close()


def latents(stamp_ns: int) -> np.ndarray:
    return np.random.default_rng(stamp_ns).normal(size=(3, 4)).astype(np.float16)


@contextmanager
def graph(run: Path, cell: dict[str, object] | None = None, **parameters: object) -> Iterator[tuple[RecorderNode, Cell]]:
    values = {"run": run, "run_id": "run1", "lock_step": True, "min_free_bytes": 1000, "wait_s": 20.0, "image_size": 16,
              **parameters}  # fmt: skip
    with opened(arguments(**values)):
        recorder, made = RecorderNode(), Cell(("recorder",), **{"size": 16, **(cell or {})})  # type: ignore[arg-type]
        yield recorder, made
        recorder.on_shutdown()
        for node in (recorder, made):
            node.destroy_node()


def begin(recorder: RecorderNode, cell: Cell, run: Path, **start: object) -> Policy:
    """An episode up to its run, with the policy's side segment."""
    cell.start(**start)  # type: ignore[arg-type]
    spin_until(lambda: cell.phase is not Phase.RESET, recorder, cell)
    return Policy(run, cell.state.episode_id)


def play(recorder: RecorderNode, cell: Cell, policy: Policy, steps: int) -> None:
    """Observation and step, ``steps`` times, each observation answered by the recorder; then the last observation."""
    for number in range(steps + 1):
        cell.observe()
        policy.encode(cell.stamp)
        spin_until(lambda: cell.recorded and cell.recorded[-1] == cell.stamp, recorder, cell)
        if number < steps:
            cell.act()


def closed(recorder: RecorderNode, cell: Cell) -> None:
    """Until the episode is idle and the recorder has said what became of it."""
    spin_until(lambda: cell.phase is Phase.IDLE and cell.sealed and cell.sealed[-1].episode_id == cell.state.episode_id,
               recorder, cell)  # fmt: skip


def check_episode(episode: Episode, cell: Cell, episode_id: str) -> None:
    """Every field of the sealed episode against what the cell sent."""
    acts = [r for r in cell.records if r.acted and r.episode_id == episode_id]
    stamps = [record.stamp_ns for record in acts]
    steps = len(episode)
    assert steps == len(acts)
    assert episode.stamps_ns.tolist() == [*stamps, stamps[-1] + PERIOD]
    for t, stamp in enumerate(episode.stamps_ns.tolist()):
        sent = cell.observations[stamp]
        assert (episode.images["front"][t] == sent.images["front"]).all()
        np.testing.assert_allclose(episode.proprio[t], sent.proprio, atol=1e-6)
    for t, record in enumerate(acts):
        for name in ("proposed", "executed", "commanded"):
            np.testing.assert_array_equal(getattr(episode, name)[t], np.array(getattr(record, name), np.float32))
        assert episode.source[t] == record.source
        earned = cell.rewards.get(record.stamp_ns + PERIOD, 0.0) + (t == steps - 1) * (episode.meta.outcome is Outcome.SUCCESS)
        assert episode.reward[t] == pytest.approx(earned)


def test_an_episode_is_sealed_field_by_field_as_it_was_sent(tmp_path):
    with graph(tmp_path) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path, seed=17, operator="ada")
        episode_id = cell.state.episode_id
        for number in range(6):
            cell.observe()
            policy.encode(cell.stamp)
            if number in (2, 5):
                cell.earn(0.25 * number)
            spin_until(lambda: cell.recorded and cell.recorded[-1] == cell.stamp, recorder, cell)
            if number < 5:
                cell.act()
        cell.end()
        closed(recorder, cell)
        policy.close()
        sealed = cell.sealed[0]
        assert (sealed.episode_id, sealed.steps, sealed.outcome, sealed.reason, sealed.refusal, sealed.latents) == (
            episode_id, 5, Outcome.SUCCESS, SUCCESS, "", True)  # fmt: skip
        assert cell.reset_done[0].who == "recorder" and cell.reset_done[0].sequence is not None
    reader = SpoolReader(tmp_path / "practice")
    assert reader.ids() == [episode_id]
    reader.verify(episode_id)
    episode = reader.read(episode_id)
    meta = episode.meta
    assert (meta.task, meta.instruction, meta.mode, meta.seed, meta.run_id, meta.operator) == (
        "press-red", "press the red button", Mode.TRAIN, 17, "run1", "ada")  # fmt: skip
    assert (meta.outcome, meta.termination_reason, meta.backbone_fingerprint) == (Outcome.SUCCESS, SUCCESS, FINGERPRINT)
    assert (meta.action_names, meta.control_rate_hz) == (("dx", "dy", "dz", "drz", "gripper"), 10.0)
    check_episode(episode, cell, episode_id)
    assert episode.reward.tolist() == [0.0, 0.5, 0.0, 0.0, 2.25]
    assert episode.log_prob.tolist() == [-0.0, -1.0, -2.0, -3.0, -4.0] and episode.head_version.tolist() == [4] * 5
    assert episode.terminated.tolist() == [False] * 4 + [True] and not episode.truncated.any()
    assert (episode.latents == np.stack([latents(stamp) for stamp in episode.stamps_ns.tolist()])).all()
    assert [path.name for path in (tmp_path / "practice").iterdir()] == [f"{episode_id}.episode.safetensors"]


def test_episodes_follow_each_other_and_a_human_is_recorded_too(tmp_path):
    with graph(tmp_path, {"drives": ControlSource.HUMAN}) as (recorder, cell):
        for number, success in enumerate((False, True)):
            words = f"press the {'blue' if number else 'red'} button"
            policy = begin(recorder, cell, tmp_path, mode=Mode.DEMO, instruction=words)
            play(recorder, cell, policy, 3)
            cell.end(success)
            closed(recorder, cell)
            policy.close()
        reader = SpoolReader(tmp_path / "practice")
        episodes = [reader.read(episode_id) for episode_id in reader.ids()]
        assert [e.meta.instruction for e in episodes] == ["press the red button", "press the blue button"]
        assert [e.meta.outcome for e in episodes] == [Outcome.FAILURE, Outcome.SUCCESS]
        for episode in episodes:
            assert (episode.source == ControlSource.HUMAN).all() and len(episode) == 3
            assert np.isnan(episode.log_prob).all() and (episode.head_version == -1).all()
            assert episode.latents is not None  # encoded although nobody asked the policy
            check_episode(episode, cell, episode.meta.episode_id)


def test_messages_in_another_order_make_the_same_episode(tmp_path):
    """Steps before their observations, the end before the last step, the side segment last of all."""
    with graph(tmp_path) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        stamps, episode_id = [], cell.state.episode_id
        silent, cell.observe = cell.observe, lambda parts="": None  # type: ignore[method-assign]
        for _ in range(3):
            stamps.append(cell.stamp)
            cell.seen(cell.stamp)
            _, pose, _ = cell.make(cell.stamp)
            cell._arbiter.pose(pose.position, pose.quaternion, cell.stamp, cell.wall_ns())
            cell._arbiter.observe(cell.stamp)
            cell.act()
        stamps.append(cell.stamp)
        cell.seen(cell.stamp)
        cell.end()
        spin_for(0.3, recorder, cell)
        for parts in ("pose", "width", "image"):
            for stamp in stamps:
                cell.stamp = stamp
                silent(parts)
        spin_for(0.3, recorder, cell)
        assert not cell.sealed
        for stamp in reversed(stamps):
            policy.encode(stamp)
        spin_until(lambda: cell.sealed, recorder, cell)
        assert (cell.sealed[0].steps, cell.sealed[0].refusal, cell.sealed[0].latents) == (3, "", True)
        check_episode(SpoolReader(tmp_path / "practice").read(episode_id), cell, episode_id)
        policy.close()


def test_without_latents_the_episode_is_sealed_after_a_bounded_wait(tmp_path):
    with graph(tmp_path, wait_s=0.3) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        play(recorder, cell, policy, 2)
        cell.act()
        cell.observe()  # and this one was never encoded
        cell.end()
        closed(recorder, cell)
        assert (cell.sealed[0].steps, cell.sealed[0].latents, cell.sealed[0].outcome) == (3, False, Outcome.SUCCESS)
        policy.close()


def test_a_discarded_episode_leaves_nothing(tmp_path):
    with graph(tmp_path) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        play(recorder, cell, policy, 2)
        cell.hear(Request(Verb.DISCARD, "a hand was in the picture"))
        closed(recorder, cell)
        assert (cell.sealed[0].steps, cell.sealed[0].outcome) == (0, Outcome.UNKNOWN)
        assert list((tmp_path / "practice").iterdir()) == []
        policy.close()


def test_an_end_before_any_step_keeps_nothing_and_says_so(tmp_path):
    with graph(tmp_path) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        cell.observe()
        cell.hear(Request(Verb.STOP, "wrong object"))
        closed(recorder, cell)
        assert cell.sealed[0].steps == 0 and list((tmp_path / "practice").iterdir()) == []
        policy.close()


def test_a_late_verdict_and_a_late_discard_become_labels(tmp_path):
    with graph(tmp_path) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        cell.requests = []
        play(recorder, cell, policy, 2)
        cell.end(success=False)
        ended = cell.state
        closed(recorder, cell)
        late = replace(ended, sequence=cell.state.sequence + 1, outcome=Outcome.SUCCESS, judge=Judge.OPERATOR, operator="ada")
        cell.say_state(late)
        reader = SpoolReader(tmp_path / "practice")
        spin_until(lambda: label_path(reader.root, ended.episode_id).exists(), recorder, cell)
        spin_until(lambda: reader.labels(ended.episode_id).labels, recorder, cell)
        assert reader.record(ended.episode_id).meta.outcome is Outcome.SUCCESS
        cell.say_state(replace(late, sequence=late.sequence + 1, discarded=True))
        spin_until(lambda: reader.record(ended.episode_id).discarded, recorder, cell)
        found = reader.labels(ended.episode_id).labels
        assert [(label.outcome, label.who, label.discard) for label in found] == [
            (Outcome.SUCCESS, "ada", False), (None, "ada", True)]  # fmt: skip
        policy.close()


def test_the_operators_verdict_on_a_sealed_episode_becomes_a_label_also_when_the_next_has_begun(tmp_path):
    with graph(tmp_path) as (recorder, cell):
        say = cell.speak(Verdict, topics.VERDICT)
        policy = begin(recorder, cell, tmp_path)
        cell.requests = []
        play(recorder, cell, policy, 2)
        cell.end(success=False)
        closed(recorder, cell)
        policy.close()
        first, reader = cell.state.episode_id, SpoolReader(tmp_path / "practice")
        spin_until(lambda: recorder.count_publishers(topics.VERDICT) and cell.count_subscribers(topics.VERDICT), recorder, cell)
        say(Verdict(True, Judge.REWARD, 1, first))  # a detector does not judge what is over
        say(Verdict(True, Judge.OPERATOR, 2, "run1-000099"))
        say(Verdict(True, Judge.OPERATOR, 3, first))
        spin_until(lambda: len(reader.labels(first).labels) == 1, recorder, cell)
        begin(recorder, cell, tmp_path).close()
        say(Verdict(False, Judge.OPERATOR, 4, first))
        say(Verdict(False, Judge.OPERATOR, 5, first))  # said twice, meant once
        spin_until(lambda: len(reader.labels(first).labels) == 2, recorder, cell)
        spin_for(0.2, recorder, cell)
        found = reader.labels(first).labels
        assert [(label.outcome, label.who) for label in found] == [(Outcome.SUCCESS, "operator"), (Outcome.FAILURE, "operator")]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_verdict_on_what_a_dead_recorder_sealed_is_not_lost(tmp_path, stopped):
    with graph(tmp_path) as (dead, cell):
        say = cell.speak(Verdict, topics.VERDICT)
        policy = begin(dead, cell, tmp_path)
        play(dead, cell, policy, 2)
        if stopped:
            cell.hear(Request(Verb.STOP))
        else:
            cell.end()
        closed(dead, cell)
        policy.close()
        dead.on_shutdown()
        dead.destroy_node()
        name, reader, recorder = cell.state.episode_id, SpoolReader(tmp_path / "practice"), RecorderNode()
        spin_until(lambda: recorder._state is not None and recorder.count_publishers(topics.VERDICT)
                   and cell.count_subscribers(topics.VERDICT), recorder, cell)  # fmt: skip
        say(Verdict(False, Judge.OPERATOR, 3, name))
        if stopped:  # nobody knows any more whether it was whole
            spin_until(lambda: recorder.health.counts["refusals"], recorder, cell)
            assert not reader.labels(name).labels
        else:
            spin_until(lambda: reader.labels(name).labels, recorder, cell)
            assert reader.record(name).meta.outcome is Outcome.FAILURE
        recorder.on_shutdown()
        recorder.destroy_node()


def test_where_the_stream_stalls_what_was_appended_is_synced(tmp_path):
    """Appends sync what came before them; where none follows, nothing else would before the end."""
    with graph(tmp_path, wait_s=0.3, latents=False) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        play(recorder, cell, policy, 4)
        writer = recorder._archive._writer
        assert writer is not None
        spin_until(lambda: writer.steps == 3, recorder, cell)  # the fourth waits for the next
        spin_until(lambda: writer.synced_steps == 3, recorder, cell, timeout_s=5.0)
        policy.close()


def test_a_lost_step_record_ends_the_episode_there_and_stops_the_run(tmp_path):
    with graph(tmp_path, wait_s=0.3) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        play(recorder, cell, policy, 2)
        said, cell.say_step = cell.say_step, lambda record: None
        cell.act()
        cell.say_step = said
        play(recorder, cell, policy, 2)
        spin_until(lambda: any(r.verb is Verb.STOP for r in cell.requests), recorder, cell)
        stop = next(r for r in cell.requests if r.verb is Verb.STOP)
        assert stop.why == "recording broke off: the record of step 2 is lost"
        closed(recorder, cell)
        sealed = cell.sealed[0]
        assert (sealed.steps, sealed.outcome, sealed.reason) == (1, Outcome.UNKNOWN, TerminationReason.STOPPED)
        assert sealed.refusal == "the record of step 2 is lost"
        recorder.update_health()
        assert dict(recorder.health.report(0).values)["recording"].startswith("ERROR: run1-000000: the record of step 2")
        policy.close()


def test_an_episode_that_its_node_forgot_is_kept_as_far_as_it_is_sound(tmp_path):
    with graph(tmp_path, wait_s=0.2) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        episode_id = cell.state.episode_id
        play(recorder, cell, policy, 4)
        idle = replace(cell.state, sequence=cell.state.sequence + 10, phase=Phase.IDLE, episode_id="", started_ns=None)
        cell.say_state(idle)
        spin_until(lambda: cell.sealed, recorder, cell)
        sealed = cell.sealed[0]
        assert (sealed.episode_id, sealed.outcome, sealed.reason) == (episode_id, Outcome.UNKNOWN, TerminationReason.STOPPED)
        assert sealed.steps == 3 and "did not report that it let go" in sealed.refusal
        policy.close()


# ---- kills -----------------------------------------------------------------------------------------------------------


@contextmanager
def recorder_process(run: Path, wait_s: float = 5.0) -> Iterator[subprocess.Popen[str]]:
    words = arguments(run=run, run_id="run1", lock_step=True, min_free_bytes=1000, wait_s=wait_s, image_size=16)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen([sys.executable, "-m", "irevla_ros.nodes.recorder", *words],
                          env={**os.environ, "PYTHONPATH": paths}) as child:  # fmt: skip
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def test_kill_nine_in_the_middle_keeps_what_was_appended_and_the_new_one_stops_the_run(tmp_path):
    with opened(), recorder_process(tmp_path) as first:
        cell = Cell(("recorder",), size=16)
        cell.start()
        spin_until(lambda: cell.phase is Phase.RUN, cell, timeout_s=60)
        episode_id = cell.state.episode_id
        policy = Policy(tmp_path, episode_id)
        for _ in range(8):
            cell.observe()
            spin_until(lambda: cell.recorded and cell.recorded[-1] == cell.stamp, cell)
            cell.act()
        log = log_path(tmp_path / "practice", episode_id)
        spin_for(5.5, cell)  # the rows are appended once nothing can cut them any more
        size = log.stat().st_size
        assert size > 5000
        first.send_signal(signal.SIGKILL)
        first.wait()
        with recorder_process(tmp_path) as second:
            spin_until(lambda: any(r.verb is Verb.STOP for r in cell.requests), cell, timeout_s=60)
            assert next(r for r in cell.requests if r.verb is Verb.STOP).why == "the recorder was restarted in the middle"
            spin_until(lambda: cell.sealed and cell.phase is Phase.IDLE, cell)
            sealed = cell.sealed[0]
            assert (sealed.episode_id, sealed.steps, sealed.outcome) == (episode_id, 7, Outcome.UNKNOWN)
            assert sealed.reason is TerminationReason.RECOVERED and sealed.refusal
            assert not side_path(tmp_path / "practice", episode_id).exists()
            cell.start()
            spin_until(lambda: cell.phase is Phase.RUN, cell)
            second.send_signal(signal.SIGINT)
            assert second.wait(timeout=30) == 0
        episode = SpoolReader(tmp_path / "practice").read(episode_id)
        assert len(episode) == 7 and episode.meta.termination_reason is TerminationReason.RECOVERED
        for t, stamp in enumerate(episode.stamps_ns.tolist()):
            assert (episode.images["front"][t] == cell.observations[stamp].images["front"]).all()
        policy.close()
        cell.destroy_node()


def test_what_was_discarded_while_the_recorder_was_dead_is_discarded(tmp_path):
    with opened():
        cell = Cell(("recorder",), size=16)
        with recorder_process(tmp_path, wait_s=0.2) as first:
            cell.start()
            spin_until(lambda: cell.phase is Phase.RUN, cell, timeout_s=60)
            episode_id = cell.state.episode_id
            for _ in range(8):
                cell.observe()
                spin_until(lambda: cell.recorded and cell.recorded[-1] == cell.stamp, cell)
                cell.act()
            log = log_path(tmp_path / "practice", episode_id)
            spin_until(lambda: log.stat().st_size > 5000, cell)
            first.send_signal(signal.SIGKILL)
            first.wait()
        cell.hear(Request(Verb.DISCARD, "a face in the picture"))
        with recorder_process(tmp_path, wait_s=0.2):
            spin_until(lambda: cell.sealed and cell.phase is Phase.IDLE, cell, timeout_s=60)
        reader = SpoolReader(tmp_path / "practice")
        assert cell.sealed[0].steps > 0 and reader.record(episode_id).discarded
        assert reader.labels(episode_id).labels[0].outcome is None
        cell.destroy_node()


def test_of_a_dry_run_nothing_is_kept_also_when_the_recorder_is_killed(tmp_path):
    with opened():
        cell = Cell(("recorder",), size=16)
        cell.dry_run = True
        with recorder_process(tmp_path, wait_s=0.2) as first:
            cell.start()
            spin_until(lambda: cell.phase is Phase.RUN, cell, timeout_s=60)
            policy = Policy(tmp_path, cell.state.episode_id)
            for _ in range(8):
                cell.observe()
                spin_until(lambda: cell.recorded and cell.recorded[-1] == cell.stamp, cell)
                cell.act()
            spin_for(1.0, cell)  # rows would be appended now
            first.send_signal(signal.SIGKILL)
            first.wait()
        with recorder_process(tmp_path, wait_s=0.2):
            spin_until(lambda: cell.sealed and cell.phase is Phase.IDLE, cell, timeout_s=60)
            assert cell.sealed[0].steps == 0
        assert list((tmp_path / "practice").iterdir()) == []
        policy.close()
        cell.destroy_node()


def test_a_dry_run_leaves_nothing(tmp_path):
    with graph(tmp_path) as (recorder, cell):
        cell.dry_run = True
        policy = begin(recorder, cell, tmp_path)
        play(recorder, cell, policy, 2)
        cell.end()
        closed(recorder, cell)
        assert (cell.sealed[0].steps, cell.sealed[0].refusal) == (0, "")
        assert list((tmp_path / "practice").iterdir()) == []
        policy.close()


def test_kill_nine_while_sealing_loses_no_episode_that_was_said_to_be_sealed(tmp_path):
    rng = random.Random(1)
    with opened():
        for round_ in range(3):
            cell = Cell(("recorder",), steps=3, first=100 * round_, sequence=10**6 * (round_ + 1), size=16,
                        drives=ControlSource.SCRIPT)  # fmt: skip
            cell.waits, cell.playing = ("recorded",), True
            cell.on_idle = cell.start
            with recorder_process(tmp_path / str(round_)) as child:
                cell.start()
                wanted = rng.randrange(1, 4)
                spin_until(lambda c=cell, n=wanted: c.phase is Phase.END and len(c.sealed) >= n, cell, timeout_s=90)
                time.sleep(rng.uniform(0, 0.01))
                child.kill()
                child.wait()
            said = [one.episode_id for one in cell.sealed if one.steps]
            with recorder_process(tmp_path / str(round_)):
                spin_until(lambda cell=cell, n=len(cell.sealed): len(cell.sealed) > n, cell, timeout_s=60)
            reader = SpoolReader(tmp_path / str(round_) / "practice")
            assert said and set(said) <= set(reader.ids())
            for episode_id in reader.ids():
                reader.verify(episode_id)
            cell.destroy_node()


# ---- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Takes all room but ``leave`` bytes."""
    path = folder / "ballast"
    free = os.statvfs(folder)
    path.write_bytes(b"\0" * (free.f_bavail * free.f_frsize - leave))
    return path


def test_a_full_disk_is_refused_aloud_keeps_what_is_sealed_and_is_over_when_there_is_room(small_disk):
    with graph(small_disk, min_free_bytes=100_000, wait_s=0.2) as (recorder, cell):
        policy = begin(recorder, cell, small_disk)
        play(recorder, cell, policy, 2)
        cell.end()
        closed(recorder, cell)
        policy.close()
        assert cell.sealed[0].steps == 2
        ballast = fill(small_disk, 50_000)
        cell.start()  # too little room to begin
        closed(recorder, cell)
        assert "MB are kept free" in cell.reset_done[-1].failure and cell.sealed[1].steps == 0
        ballast.unlink()
        policy = begin(recorder, cell, small_disk)
        play(recorder, cell, policy, 2)
        fill(small_disk, 0)  # and now in the middle
        while cell.phase is Phase.RUN:
            cell.act()
            cell.observe()
            spin_for(0.05, recorder, cell)
        assert any("No space left" in r.why for r in cell.requests if r.verb is Verb.STOP)
        recorder.update_health()
        assert "No space left" in dict(recorder.health.report(0).values)["recording"]
        closed(recorder, cell)
        assert cell.sealed[2].refusal and cell.sealed[2].outcome is Outcome.UNKNOWN
        policy.close()
        ballast.unlink()
        policy = begin(recorder, cell, small_disk)
        play(recorder, cell, policy, 3)
        cell.end()
        closed(recorder, cell)
        policy.close()
        assert (cell.sealed[3].steps, cell.sealed[3].refusal) == (3, "")
        recorder.update_health()
        assert dict(recorder.health.report(0).values)["recording"] == "OK"
    reader = SpoolReader(small_disk / "practice")
    for episode_id in reader.ids():
        reader.verify(episode_id)
    assert {"run1-000000", "run1-000003"} <= set(reader.ids())


def test_a_row_refused_at_the_very_end_leaves_no_success_behind(tmp_path):
    """The episode is closed before the executor hears that its last step could not be appended."""
    with graph(tmp_path, latents=False, wait_s=1.0) as (recorder, cell):
        begin(recorder, cell, tmp_path).close()
        say = cell.say_step
        for number in range(5):
            cell.observe()
            spin_until(lambda: cell.recorded and cell.recorded[-1] == cell.stamp, recorder, cell)
            if number == 3:  # an arbiter of another release
                cell.say_step = lambda record: say(replace(record, proposed=record.proposed[:4], executed=record.executed[:4],
                                                           commanded=record.commanded[:4]))  # fmt: skip
            if number < 4:
                cell.act()
        cell.say_step = say
        cell.end()
        closed(recorder, cell)
        sealed = cell.sealed[0]
        assert (sealed.steps, sealed.outcome, sealed.reason) == (3, Outcome.UNKNOWN, TerminationReason.RECOVERED)
        assert "action sizes" in sealed.refusal
    record = SpoolReader(tmp_path / "practice").record(sealed.episode_id)
    assert (record.meta.outcome, record.meta.termination_reason) == (Outcome.UNKNOWN, TerminationReason.RECOVERED)


def test_too_many_rows_for_the_disk_break_the_recording_off(tmp_path):
    with graph(tmp_path, wait_s=0.1, backlog=2) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        for _ in range(6):  # the executor sleeps meanwhile: all rows are ready at once
            cell.observe()
            cell.act()
        spin_until(lambda: any(r.verb is Verb.STOP for r in cell.requests), recorder, cell)
        closed(recorder, cell)
        assert "rows wait for the disk, limit 2" in cell.sealed[0].refusal
        policy.close()


def test_a_verdict_that_names_no_episode_is_no_label(tmp_path):
    with graph(tmp_path) as (recorder, cell):
        policy = begin(recorder, cell, tmp_path)
        play(recorder, cell, policy, 1)
        cell.end()
        closed(recorder, cell)
        cell.hear(Verdict(False, Judge.OPERATOR, cell.stamp))
        spin_for(0.3, recorder, cell)
        assert not label_path(tmp_path / "practice", "run1-000000").exists()
        policy.close()
