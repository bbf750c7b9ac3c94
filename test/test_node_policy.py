"""The policy node, real and whole, between real topics: what it does with weights, observations and phases."""

from __future__ import annotations

import os
import pickle
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cell_toys import Cell, arguments
from graph_toys import PERIOD
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, Verb
from irevla_ros.core.graph_messages import Announcement
from irevla_ros.core.health import Level
from irevla_ros.core.rotation import Pose
from irevla_ros.core.rows import SideRecord
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import ControlSource, Episode, FloatArray, HalfArray, Mode, Observation, TerminationReason
from irevla_ros.data.paths import side_path
from irevla_ros.data.side import SideReader
from irevla_ros.jobs.rollouts import EpisodeRequest, PolicySnapshot, SceneConfig, run_episodes
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.nodes.policy import PolicyNode
from irevla_ros.nodes.policy_arm import Wanted
from irevla_ros.policy.acting import Acting, act, load_acting
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import checkpoint_digest, save_head, save_vla
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.vla import VLA, build_vla
from ros_toys import opened, spin_for, spin_until

FIRST = "checkpoints/first"
STD = 0.6


def new_vla(seed: int) -> VLA:
    """A policy whose mean is far from zero, so that a wrong head shows."""
    torch.manual_seed(seed)
    vla = build_vla(build_backbone("tiny")).eval()
    with torch.no_grad():
        vla.head.out.weight.normal_(std=0.05)
    return vla


@pytest.fixture
def run(tmp_path: Path) -> Path:
    save_vla(tmp_path / FIRST, new_vla(0), {})
    return tmp_path


def announced(run: Path, version: int, seed: int = 0, **changes: object) -> Announcement:
    """The first checkpoint with a head of its own for ``version``, saved where the message says."""
    acting = load_acting(run / FIRST, 0, "cpu")
    actor = GaussianActor(new_vla(seed).head, STD)
    path = f"heads/{version:06d}.safetensors"
    digest = save_head(run / path, actor, fingerprint=acting.fingerprint, metadata={})
    message = Announcement("run1", version, FIRST, checkpoint_digest(run / FIRST), path, digest)
    return replace(message, **changes)


@contextmanager
def graph(run: Path, *cells: dict[str, object], **parameters: object) -> Iterator[tuple[PolicyNode, list[Cell]]]:
    """The policy node and a cell for each of ``cells``."""
    values = {"run": run, "run_id": "run1", "checkpoint": FIRST, "lock_step": True, "std": STD, **parameters}
    with opened(arguments(**values)):
        policy = PolicyNode()
        made = [Cell(("policy",), **one) for one in cells]  # type: ignore[arg-type]
        for cell in made:
            cell.waits = ("chunk",)
        yield policy, made
        policy.on_shutdown()
        for node in (policy, *made):
            node.destroy_node()


def close(cell: Cell) -> None:
    """What the recorder would say at the end."""
    cell.hear(Request(Verb.SEALED, "", cell.state.episode_id))


def sides(run: Path, episode_id: str) -> dict[int, SideRecord]:
    return {record.stamp_ns: record for record in SideReader(run / "practice", episode_id).poll()}


def check(policy: PolicyNode, name: str) -> str:
    policy.update_health()
    return dict(policy.health.report(policy.wall_ns()).values)[name]


# ---- the same numbers as the in-process rollouts ---------------------------------------------------------------------


class Replay(Cell):
    """Shows the observations of an episode that was run elsewhere."""

    episode: Episode

    def make(self, stamp_ns: int) -> tuple[Observation, Pose, float]:
        t = sum(record.acted for record in self.records)
        raw = self.episode.proprio[t].astype(np.float64) * ProprioSpec().scale + ProprioSpec().centre
        half = np.arctan2(raw[4], raw[3]) / 2
        pose = Pose(tuple(map(float, raw[:3])), (float(np.cos(half)), float(np.sin(half)), 0.0, 0.0))
        observation = Observation({"front": self.episode.images["front"][t]}, self.episode.proprio[t], self.state.instruction)
        return observation, pose, float(raw[5])


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_actions_are_those_of_the_rollouts_for_the_same_observations_and_seed(run, deterministic):
    snapshot = PolicySnapshot(str(run / FIRST), 0, log_std=np.full(5, np.log(STD), np.float32))
    request = EpisodeRequest("e0", "press-red", 40, Mode.TRAIN, deterministic=deterministic)
    with WorkerPool(1) as pool:
        episode = run_episodes(pool, SceneConfig("demo"), [request], snapshot)[0].episode
    assert episode is not None
    with opened(arguments(run=run, run_id="run1", checkpoint=FIRST, lock_step=True, std=STD)):
        policy, cell = PolicyNode(), Replay(("policy",), steps=len(episode))
        cell.episode, cell.waits, cell.playing = episode, ("chunk",), True
        cell.start(seed=40, instruction=episode.meta.instruction, deterministic=deterministic)
        spin_until(lambda: cell.phase is Phase.END, policy, cell)
        for node in (policy, cell):
            node.destroy_node()
    found = np.stack([chunk.actions[0] for chunk in cell.chunks[: len(episode)]])
    np.testing.assert_allclose(found, episode.proposed, atol=1e-5, rtol=0)
    kept = [record for _, record in sorted(sides(run, cell.state.episode_id).items())]
    assert len(kept) == len(episode) + 1
    np.testing.assert_allclose([record.log_prob for record in kept[:-1]], episode.log_prob, atol=1e-5)
    for record, wanted in zip(kept, episode.latents, strict=True):
        np.testing.assert_allclose(record.latents.astype(np.float32), wanted.astype(np.float32), atol=2e-3)
    if not deterministic:
        assert np.abs(found - episode.proposed.mean(axis=0)).max() > 0.5  # it did explore


def test_one_batch_over_arms_gives_each_what_its_own_would(run):
    rng = np.random.default_rng(0)
    observations = [
        Observation({"front": rng.integers(0, 256, (64, 64, 3), np.uint8)}, rng.normal(size=6).astype(np.float32), words)
        for words in ("press the red button", "press the blue button")
    ]
    first = load_acting(run / FIRST, STD, "cpu")
    newer = replace(first, head=new_vla(5).head)
    save_vla(run / "other", new_vla(9), {})
    other = load_acting(run / "other", STD, "cpu")
    wanted = [(first, observations[0]), (other, observations[1]), (newer, observations[1]), (first, observations[1])]
    together = act(wanted)
    for (mean, latents), one in zip(together, wanted, strict=True):
        (alone_mean, alone_latents), = act([one])
        np.testing.assert_allclose(mean, alone_mean, atol=1e-3)
        np.testing.assert_allclose(latents.astype(np.float32), alone_latents.astype(np.float32), atol=4e-3)
    assert np.abs(together[2][0] - together[3][0]).max() > 0.1 and np.abs(together[1][0] - together[3][0]).max() > 0.1


def test_in_lock_step_half_of_the_arms_share_a_batch_and_none_waits_for_long(run, monkeypatch):
    monkeypatch.setattr("irevla_ros.nodes.policy.GATHER_S", 1.0)
    names = ["a", "b", "c", "d"]
    with graph(run, *({"arm": name} for name in names), arms=names) as (policy, cells):
        nodes = (policy, *cells)
        for cell in cells:
            cell.start()
        spin_until(lambda: all(arm.running for arm in policy._arms), *nodes)
        cells[0].observe()
        began = time.monotonic()
        spin_until(lambda: cells[0].chunks, *nodes)
        assert time.monotonic() - began > 0.9 and len(policy._took_s) == 1
        for cell in cells[1:3]:
            cell.observe()
        spin_until(lambda: all(cell.chunks for cell in cells[1:3]), *nodes)
        assert len(policy._took_s) == 2


# ---- weights ---------------------------------------------------------------------------------------------------------


def means(acting: Acting, cell: Cell) -> dict[int, np.ndarray]:
    """What ``acting`` would do, at each observation of the cell."""
    return {stamp: act([(acting, observation)])[0][0] for stamp, observation in cell.observations.items()}


def test_an_episode_keeps_its_weights_and_the_next_reset_takes_the_announced_ones(run):
    two = [{"arm": arm} for arm in ("left", "right")]
    with graph(run, *two, arms=["left", "right"]) as (policy, (left, right)):
        nodes = (policy, left, right)
        spin_until(lambda: left.versions, *nodes)
        assert (left.versions[-1].version, left.versions[-1].refused) == (0, "")
        left.start(mode=Mode.EVAL)
        spin_until(lambda: left.phase is Phase.RUN, *nodes)
        left.observe()
        spin_until(lambda: len(left.chunks) == 1, *nodes)
        left.act()
        newer = announced(run, 7, seed=3)
        left.announce(newer)
        spin_until(lambda: right.versions and right.versions[-1].version == 7, *nodes)
        right.start(mode=Mode.EVAL)
        spin_until(lambda: right.phase is Phase.RUN, *nodes)
        left.observe()
        right.observe()
        spin_until(lambda: len(left.chunks) == 2 and right.chunks, *nodes)
        first = load_acting(run / FIRST, 0, "cpu")
        second = replace(first, head=new_vla(3).head)
        for cell, acting in ((left, first), (right, second)):
            wanted = means(acting, cell)
            for chunk in cell.chunks:
                np.testing.assert_allclose(chunk.actions, wanted[chunk.stamp_ns], atol=2e-3)
        for cell, version in ((left, 0), (right, 7)):
            assert {record.head_version for record in sides(run, cell.state.episode_id).values()} == {version}
        left.end()
        close(left)
        left.start(mode=Mode.EVAL)
        spin_until(lambda: left.phase is Phase.RUN, *nodes)
        left.observe()
        spin_until(lambda: len(left.chunks) == 3, *nodes)
        np.testing.assert_allclose(left.chunks[-1].actions, means(second, left)[left.stamp], atol=2e-3)
    for record in sides(run, left.state.episode_id).values():
        assert record.head_version == 7
        wanted = -5 * np.log(STD) - 2.5 * np.log(2 * np.pi)  # the density of the mean itself, A = 5
        assert record.log_prob == pytest.approx(wanted, abs=1e-5)


def test_a_new_checkpoint_replaces_the_whole_policy(run):
    save_vla(run / "checkpoints/second", new_vla(9), {})
    with graph(run, {}, checkpoint="''") as (policy, (cell,)):
        cell.start()
        spin_until(lambda: cell.reset_done, policy, cell)
        assert cell.reset_done[0].failure == "no policy is loaded: none was announced" and cell.phase is Phase.END
        assert check(policy, "policy") == "WARN: nothing is loaded"
        close(cell)
        digest = checkpoint_digest(run / "checkpoints/second")
        cell.announce(Announcement("run1", 3, "checkpoints/second", digest))
        cell.start()  # the reset waits until it is loaded
        spin_until(lambda: cell.phase in (Phase.RUN, Phase.END), policy, cell)
        if cell.phase is not Phase.RUN:  # the announcement came after the reset
            close(cell)
            spin_until(lambda: cell.versions and cell.versions[-1].version == 3, policy, cell)
            cell.start()
            spin_until(lambda: cell.phase is Phase.RUN, policy, cell)
        cell.observe()
        spin_until(lambda: cell.chunks, policy, cell)
        other = load_acting(run / "checkpoints/second", STD, "cpu")
        assert cell.versions[-1].fingerprint == other.fingerprint
        mean = means(other, cell)[cell.stamp]
        noise = np.random.default_rng([3, 1]).standard_normal(5)
        np.testing.assert_allclose(cell.chunks[0].actions[0], mean[0] + STD * noise, atol=1e-3)


def tampered(run: Path, what: str) -> Announcement:
    sound = announced(run, 5)
    head = run / sound.head
    if what == "head changed":
        head.write_bytes(head.read_bytes()[:-1] + b"\0")
    elif what == "head missing":
        head.unlink()
    elif what == "another backbone":
        digest = save_head(head, GaussianActor(new_vla(1).head), fingerprint="f" * 64, metadata={})
        return replace(sound, head_sha256=digest)
    elif what == "another kind":
        fingerprint = load_acting(run / FIRST, 0, "cpu").fingerprint
        return replace(sound, head_sha256=save_head(head, new_vla(1).head, fingerprint=fingerprint, metadata={}))
    elif what == "not finite":
        actor = GaussianActor(new_vla(1).head)
        with torch.no_grad():
            actor.head.out.bias[2] = float("nan")
        fingerprint = load_acting(run / FIRST, 0, "cpu").fingerprint
        return replace(sound, head_sha256=save_head(head, actor, fingerprint=fingerprint, metadata={}))
    elif what == "pickle":
        head.write_bytes(pickle.dumps({"log_std": 0}, protocol=4))
    elif what == "link out of the run":
        outside = run.parent / f"{run.name}-outside.safetensors"
        os.replace(head, outside)
        head.symlink_to(outside)
    return sound


@pytest.mark.parametrize(("what", "changes", "why"), [
    ("", {"run_id": "run2"}, "announcement of run 'run2': this is run 'run1'"),
    ("", {"checkpoint": "checkpoints/none"}, "no such folder"),
    ("", {"checkpoint": FIRST, "checkpoint_sha256": "0" * 64}, "config.json has SHA-256 .*: 000000000000 was recorded"),
    ("", {"head_sha256": "0" * 64}, "safetensors has SHA-256 .*: 000000000000 was recorded"),
    ("head changed", {}, "has SHA-256"),
    ("head missing", {}, "cannot be read"),
    ("another backbone", {}, "is a checkpoint of another backbone"),
    ("another kind", {}, "holds a ActionHead"),
    ("not finite", {}, "tensor 'head.out.bias' is not finite"),
    ("pickle", {}, "a pickle can run code"),
    ("link out of the run", {}, "it leads out of the run's folder"),
])  # fmt: skip
def test_what_cannot_be_verified_is_refused_and_what_acted_goes_on(run, what, changes, why):
    with graph(run, {}) as (policy, (cell,)):
        spin_until(lambda: cell.versions, policy, cell)
        wrong = replace(tampered(run, what), **changes)
        cell.announce(wrong)
        spin_until(lambda: cell.versions[-1].refused, policy, cell)
        assert re.search(why, cell.versions[-1].refused), cell.versions[-1].refused
        assert cell.versions[-1].version == 0 and policy.health.counts["announcement.refused"] == 1
        assert check(policy, "policy").startswith("ERROR: version 0")
        cell.start()
        spin_until(lambda: cell.phase is Phase.RUN, policy, cell)
        cell.observe()
        spin_until(lambda: cell.chunks, policy, cell)
        assert sides(run, cell.state.episode_id)[cell.stamp].head_version == 0
        cell.announce(announced(run, 8))  # a sound one makes up for it
        spin_until(lambda: cell.versions[-1].version == 8, policy, cell)
        assert cell.versions[-1].refused == "" and check(policy, "policy").startswith("OK: version 8")


def test_an_announcement_that_is_said_again_while_it_is_loaded_is_loaded_once(run):
    with graph(run, {}) as (policy, (cell,)):
        spin_until(lambda: cell.versions, policy, cell)
        newer = announced(run, 7)
        for said in (newer, replace(newer)):
            policy._on_announcement(said)
            time.sleep(0.1)  # the loader has taken it, and the executor has not heard of the result
        spin_until(lambda: cell.versions[-1].version == 7, policy, cell)
        spin_for(0.3, policy, cell)
        assert policy._loader.completed == 2  # the first of all, and this one: a second load would keep resets waiting


def test_a_policy_for_other_cameras_or_sizes_is_refused(run):
    with graph(run, {}, image_size=96) as (policy, (cell,)):
        spin_until(lambda: cell.versions, policy, cell)
        assert cell.versions[-1].version == -1
        assert "sees cameras ('front',) of (64, 64) pixels: here are ('front',) of (96, 96)" in cell.versions[-1].refused


# ---- phases ----------------------------------------------------------------------------------------------------------


def test_a_run_whose_reset_was_not_seen_is_not_acted_in(run):
    with graph(run, {"arm": "left"}, {"arm": "right"}, arms=["left", "right"]) as (policy, (cell, demo)):
        spin_until(lambda: cell.versions, policy, cell, demo)
        fields = {"run_id": "run1", "episode_id": "run1-000009", "task": "t", "instruction": "i", "started_ns": 0}
        cell.say_state(EpisodeState(5, Phase.RUN, mode=Mode.TRAIN, **fields))
        demo.say_state(EpisodeState(5, Phase.RUN, mode=Mode.DEMO, **fields))
        cell.stamp = demo.stamp = PERIOD
        spin_until(lambda: cell.requests, policy, cell, demo)
        cell.observe()
        demo.observe()
        spin_for(0.5, policy, cell, demo)
        request = cell.requests[0]
        assert (request.verb, request.episode_id, request.sequence) == (Verb.STOP, "run1-000009", 5)
        assert not cell.chunks and not demo.chunks and not demo.requests
        assert not side_path(run / "practice", "run1-000009").exists()


def test_what_is_encoded_when_its_episode_is_over_moves_nothing_in_the_next(run):
    with graph(run, {}) as (policy, (cell,)):
        late: list[tuple[Wanted, FloatArray, HalfArray]] = []
        (arm,) = policy._arms
        encoded, arm.encoded = arm.encoded, lambda *result: late.append(result)
        for number in range(2):
            cell.start()
            spin_until(lambda: cell.phase is Phase.RUN, policy, cell)
            if number == 0:
                cell.observe()
                spin_until(lambda: late, policy, cell)
                cell.hear(Request(Verb.STOP))
                cell.hear(Request(Verb.SEALED))
                assert cell.phase is Phase.IDLE
        encoded(*late[0])
        spin_for(0.3, policy, cell)
        assert cell.chunks == [] and sides(run, cell.state.episode_id) == {}


def test_after_a_reset_the_policy_sees_also_where_the_clock_was_set_back(run):
    with graph(run, {}) as (policy, (cell,)):
        for number in range(2):
            cell.start()
            spin_until(lambda: cell.phase is Phase.RUN, policy, cell)
            cell.stamp -= number * (cell.stamp - PERIOD)
            cell.observe()
            spin_until(lambda number=number: len(cell.chunks) == number + 1, policy, cell)
            cell.hear(Request(Verb.STOP))
            cell.hear(Request(Verb.SEALED))
        assert cell.chunks[1].stamp_ns == PERIOD < cell.chunks[0].stamp_ns


def test_a_demonstration_is_encoded_and_nothing_is_proposed(run):
    with graph(run, {"drives": ControlSource.HUMAN}) as (policy, (cell,)):
        cell.start(mode=Mode.DEMO)
        spin_until(lambda: cell.phase is Phase.RUN, policy, cell)
        for _ in range(3):
            cell.observe()
            spin_until(lambda: cell.stamp in sides(run, cell.state.episode_id), policy, cell)
            cell.act()
        records = sides(run, cell.state.episode_id)
        assert not cell.chunks and len(records) == 3
        assert {(r.head_version, r.log_prob) for r in records.values()} == {(-1, None)}
        assert all(r.latents.shape == (64, 64) and r.fingerprint for r in records.values())


def test_observations_before_the_run_wait_for_it_and_the_last_one_is_encoded_after_the_end(run):
    with graph(run, {}) as (policy, (cell,)):
        cell.machine.config = replace(cell.machine.config, confirm_required=True)
        spin_until(lambda: cell.versions, policy, cell)
        cell.start()
        spin_until(lambda: cell.phase is Phase.READY, policy, cell)
        cell.stamp = 10 * PERIOD
        cell.observe()
        spin_for(0.3, policy, cell)
        assert not cell.chunks and not sides(run, cell.state.episode_id)
        cell.hear(Request(Verb.CONFIRM))
        spin_until(lambda: cell.chunks, policy, cell)
        assert cell.chunks[0].stamp_ns == 10 * PERIOD
        cell.stamp = 11 * PERIOD
        cell.seen(cell.stamp)
        cell.hear(Request(Verb.STOP))
        assert cell.state.termination_reason is TerminationReason.STOPPED and cell.state.ended_ns == 11 * PERIOD
        episode_id = cell.state.episode_id
        spin_for(0.3, policy, cell)  # the end is heard
        for number in (11, 12):
            cell.stamp = number * PERIOD
            cell.observe()
            spin_until(lambda: 11 * PERIOD in sides(run, episode_id), policy, cell)
        spin_for(0.3, policy, cell)
        records = sides(run, episode_id)
        assert set(records) == {10 * PERIOD, 11 * PERIOD} and len(cell.chunks) == 1  # nothing is recorded after the last one
        assert [records[k * PERIOD].head_version for k in (10, 11)] == [0, -1]


def test_the_same_observation_again_is_answered_by_the_same_chunk(run):
    with graph(run, {}) as (policy, (cell,)):
        cell.start()
        spin_until(lambda: cell.phase is Phase.RUN, policy, cell)
        cell.observe()
        spin_until(lambda: cell.chunks, policy, cell)
        cell.observe()
        spin_until(lambda: len(cell.chunks) == 2, policy, cell)
        assert cell.chunks[0].stamp_ns == cell.chunks[1].stamp_ns
        assert (cell.chunks[0].actions == cell.chunks[1].actions).all()
        assert len(SideReader(run / "practice", cell.state.episode_id).poll()) == 1


def test_no_action_on_a_missing_or_stale_pose_and_it_shows(run):
    with graph(run, {}, lock_step=False, silence_s=0.3) as (policy, (cell,)):
        cell.start()
        spin_until(lambda: cell.phase is Phase.RUN, policy, cell)
        now = policy.get_clock().now().nanoseconds
        cell.stamp = now - 500_000_000
        cell.observe("pose width")
        for after in (0, PERIOD):
            cell.stamp = now + after
            cell.observe("image")
        spin_until(lambda: policy.health.counts["observations.lost"], policy, cell)
        spin_for(0.5, policy, cell)
        assert not cell.chunks and "lost" in check(policy, "alignment")
        assert check(policy, "arm.input").startswith("ERROR: nothing yet in a run")
        assert policy.health.report(policy.wall_ns()).level is Level.ERROR
