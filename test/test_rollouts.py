from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from irevla_ros.core.errors import CheckpointError, ConfigError
from irevla_ros.core.types import ControlSource, Mode, Outcome, TerminationReason
from irevla_ros.jobs.graph_config import shipped_policy
from irevla_ros.jobs.rollouts import EpisodeRequest, PolicySnapshot, SceneConfig, run_episodes
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import save_vla
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.vla import build_vla
from irevla_ros.rewards.success_head import SuccessHeads, SuccessSpec, save_success_heads
from irevla_ros.sim.suite import load_suite

SCENE = SceneConfig("demo")
TASKS = [task.name for task in load_suite("demo").expert[:3]]
STD = 0.6


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    vla = build_vla(build_backbone("tiny")).eval()
    folder = tmp_path_factory.mktemp("vla") / "first"
    save_vla(folder, vla, {})
    return vla, PolicySnapshot(str(folder), 7, log_std=np.full(5, np.log(STD), np.float32), fingerprint="abc")


def requests(n, mode=Mode.TRAIN, **keywords):
    return [EpisodeRequest(f"e{k}", TASKS[k % len(TASKS)], 40 + k, mode, **keywords) for k in range(n)]


def assert_equal_episodes(one, other):
    assert one.meta == other.meta
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "images":
            assert a.keys() == b.keys()
            a, b = a["front"], b["front"]
        if field.name != "meta" and a is not None:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def test_expert_episodes_have_all_columns(pool):
    seen = []
    results = run_episodes(pool, SCENE, requests(3, Mode.DEMO, expert=True), run_id="r", on_result=seen.append)
    assert [r.request.episode_id for r in results] == ["e0", "e1", "e2"]
    assert sorted(r.request.episode_id for r in seen) == ["e0", "e1", "e2"]
    for result in results:
        episode = result.episode
        assert len(episode) == result.steps and result.success and episode.success
        assert episode.images["front"].shape == (result.steps + 1, 64, 64, 3)
        assert episode.proprio.shape == (result.steps + 1, 6)
        assert (episode.images["front"][-1] != episode.images["front"][0]).any()
        assert episode.reward.tolist() == [0.0] * (result.steps - 1) + [1.0]
        assert episode.terminated[-1] and not episode.truncated.any()
        assert (episode.source == ControlSource.SCRIPT).all() and np.isnan(episode.log_prob).all()
        assert (episode.head_version == -1).all() and episode.latents is None
        assert (np.abs(episode.executed) <= 1).all()
        assert (np.diff(episode.stamps_ns) == 100_000_000).all()
        meta = episode.meta
        assert (meta.mode, meta.outcome) == (Mode.DEMO, Outcome.SUCCESS)
        assert meta.termination_reason is TerminationReason.SUCCESS and meta.run_id == "r"
        assert meta.instruction in {t.instruction for t in load_suite("demo").tasks if t.name == meta.task}


def judge(folder, checkpoint, says):
    """A classifier of the checkpoint's backbone that says the same of every observation."""
    vla = checkpoint[0]
    spec = SuccessSpec(vla.backbone.fingerprint(), "", 64, 6, False, 1, dict.fromkeys(TASKS, 0.5))
    heads = SuccessHeads(spec)
    with torch.no_grad():
        heads.nets[0].out.weight.zero_()
        heads.nets[0].out.bias.fill_(says)
    save_success_heads(folder / "c.safetensors", heads)
    return str(folder / "c.safetensors")


def test_a_classifier_decides_in_place_of_the_simulator(pool, checkpoint, tmp_path):
    """It believes three observations in a row: two steps. Where it sees nothing, the time limit ends the episode."""
    found = run_episodes(pool, SCENE, requests(2), checkpoint[1], classifier=judge(tmp_path, checkpoint, 5.0))
    for result in found:
        episode = result.episode
        assert (result.success, len(episode), len(episode.latents)) == (True, 2, 3)
        assert episode.terminated.tolist() == [False, True] and episode.reward.tolist() == [0.0, 1.0]
    (lost,) = run_episodes(pool, SCENE, requests(1), checkpoint[1], classifier=judge(tmp_path, checkpoint, -5.0))
    assert (lost.success, len(lost.episode), len(lost.episode.latents)) == (False, 25, 26)  # pressing has 25 steps
    assert lost.episode.truncated[-1] and not lost.episode.terminated.any()
    other, file = PolicySnapshot(str(shipped_policy())), judge(tmp_path, checkpoint, 5.0)
    with WorkerPool(1) as single, pytest.raises(CheckpointError, match="mean nothing to it"):
        run_episodes(single, SCENE, requests(1), other, classifier=file)


def test_a_success_lingers(pool):
    (short,), (long,) = (run_episodes(pool, SCENE, requests(1, expert=True, linger=steps)) for steps in (0, 4))
    assert short.success and long.success and long.steps == short.steps + 4
    assert long.episode.terminated.tolist() == [False] * (long.steps - 1) + [True]
    assert long.episode.reward.tolist() == [0.0] * (long.steps - 1) + [1.0]


def test_episodes_do_not_depend_on_workers_or_batches(pool):
    wanted = requests(5, Mode.DEMO, expert=True)
    two = run_episodes(pool, SCENE, wanted, batch=2)
    with WorkerPool(1) as single:
        one = run_episodes(single, SCENE, wanted, batch=4)
    for a, b in zip(one, two, strict=True):
        assert_equal_episodes(a.episode, b.episode)


def test_stochastic_episodes_carry_what_stage_1_learns_from(pool, checkpoint):
    vla, policy = checkpoint
    results = run_episodes(pool, SCENE, requests(3), policy, batch=2)
    actor = GaussianActor(vla.head, std=STD)
    for result in results:
        episode = result.episode
        assert episode.latents.shape == (result.steps + 1, *vla.backbone.latent_shape)
        assert episode.latents.dtype == np.float16 and episode.meta.backbone_fingerprint == "abc"
        assert (episode.head_version == 7).all() and (episode.source == ControlSource.POLICY).all()
        assert np.abs(episode.proposed).max() > 1.0 >= np.abs(episode.executed).max()  # raw, and as the arm was asked
        np.testing.assert_array_equal(episode.executed, np.clip(episode.proposed, -1, 1))
        with torch.no_grad():
            latents, proprio = torch.from_numpy(episode.latents).float(), torch.from_numpy(episode.proprio)
            mean = actor(latents[:-1], proprio[:-1])
            log_prob = actor.log_prob(mean, torch.from_numpy(episode.proposed)[:, None])
            encoded = vla.latents(torch.from_numpy(episode.images["front"])[:, None],
                                  vla.backbone.tokenize([episode.meta.instruction] * (result.steps + 1)))  # fmt: skip
        np.testing.assert_allclose(episode.log_prob, log_prob.numpy(), atol=1e-4)
        np.testing.assert_allclose(episode.latents.astype(np.float32), encoded.numpy(), atol=2e-2)
        z = (episode.proposed - mean[:, 0].numpy()) / STD
        assert 0.6 < z.std() < 1.4
        if episode.truncated[-1]:
            assert episode.meta.termination_reason is TerminationReason.TIME_LIMIT and episode.reward.sum() == 0.0


def test_exploration_noise_is_that_of_the_episodes_seed(pool, checkpoint):
    _, policy = checkpoint
    first, again = (run_episodes(pool, SCENE, requests(2), policy) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert_equal_episodes(a.episode, b.episode)
    assert (first[0].episode.proposed[0] != first[1].episode.proposed[0]).all()


def test_evaluation_returns_outcomes_only_and_follows_the_mean(pool, checkpoint):
    vla, policy = checkpoint
    wanted = requests(2, Mode.EVAL, deterministic=True, keep=False)
    results = run_episodes(pool, SCENE, wanted, policy)
    assert [r.episode for r in results] == [None, None] and all(r.steps > 0 for r in results)
    kept = run_episodes(pool, SCENE, [replace(r, keep=True) for r in wanted], replace(policy, log_std=None))
    for short, whole in zip(results, kept, strict=True):
        assert (short.success, short.steps) == (whole.success, whole.steps)
        episode = whole.episode
        with torch.no_grad():
            latents, proprio = torch.from_numpy(episode.latents).float(), torch.from_numpy(episode.proprio)
            np.testing.assert_allclose(episode.proposed, vla.head(latents, proprio)[:-1, 0].numpy(), atol=1e-5)
        assert np.isnan(episode.log_prob).all()


def test_newer_weights_replace_those_of_the_checkpoint_only_while_they_are_given(pool, checkpoint):
    vla, policy = checkpoint
    wanted = requests(2, Mode.EVAL, deterministic=True)
    original = run_episodes(pool, SCENE, wanted, policy)
    still = {name: np.zeros_like(value.numpy()) for name, value in vla.head.state_dict().items()}
    newer = run_episodes(pool, SCENE, wanted, replace(policy, head=still, head_version=8))
    assert all((r.episode.proposed == 0).all() and (r.episode.head_version == 8).all() for r in newer)
    for a, b in zip(original, run_episodes(pool, SCENE, wanted, policy), strict=True):
        assert_equal_episodes(a.episode, b.episode)


def test_fewer_requests_than_workers_and_an_unknown_task(pool):
    assert len(run_episodes(pool, SCENE, requests(1, Mode.DEMO, expert=True))) == 1
    assert run_episodes(pool, SCENE, []) == []
    with WorkerPool(1) as single, pytest.raises(ConfigError, match="^task 'press-rde' of suite 'demo': .*'press-red'"):
        run_episodes(single, SCENE, [EpisodeRequest("e", "press-rde", 0, Mode.DEMO, expert=True)])
