"""Rollouts and PPO: what is learned from, what stays fixed, and a toy that is really solved."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import ControlSource
from irevla_ros.learn.optim import DivergedError, minibatches
from irevla_ros.learn.ppo import PPO, PPOConfig
from irevla_ros.learn.rollout import Demonstrations, RolloutBatch, StoredLatents
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead, CriticHead
from learn_toys import (
    ACTION,
    LATENT_SHAPE,
    PROPRIO,
    SMALL,
    PixelBackbone,
    make_episode,
    reach,
    success_rate,
    weak_actor,
)  # fmt: skip


def make_ppo(seed: int = 0, **settings: object) -> PPO:
    torch.manual_seed(seed)
    actor = GaussianActor(ActionHead(LATENT_SHAPE[1], PROPRIO, ACTION, config=SMALL))
    critic = CriticHead(LATENT_SHAPE[1], PROPRIO, SMALL)
    return PPO(actor, critic, PPOConfig(**settings), torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def rollout(ppo: PPO, count: int = 12) -> RolloutBatch:
    return RolloutBatch.from_latents(reach(ppo.actor, count, torch.Generator().manual_seed(7)), 0)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(before: dict[str, torch.Tensor], module: torch.nn.Module) -> bool:
    return all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


# ---- rollouts


def test_rollout_indexes_the_explicit_next_observation() -> None:
    first, second = make_episode(2, "terminated"), make_episode(3, "truncated")
    batch = RolloutBatch.from_latents([first, second], head_version=0)
    assert batch.obs_index.tolist() == [0, 1, 3, 4, 5]
    assert batch.next_index.tolist() == [1, 2, 4, 5, 6]
    assert batch.terminated.tolist() == [False, True, False, False, False]
    assert batch.truncated.tolist() == [False, False, False, False, True]
    assert batch.action.shape == (5, 1, ACTION)
    assert torch.equal(batch.action[:2, 0], torch.from_numpy(first.proposed))
    assert isinstance(batch.features, StoredLatents)
    assert batch.features.latents.dtype == torch.float16
    assert second.latents is not None
    np.testing.assert_array_equal(batch.features(torch.tensor([6]))[0], second.latents[3].astype(np.float32))


def test_rollout_keeps_policy_steps_only_and_truncates_where_a_human_takes_over() -> None:
    source = np.array([0, 0, ControlSource.HUMAN, 0], np.uint8)
    version = np.array([4, 4, -1, 4], np.int64)
    batch = RolloutBatch.from_latents([make_episode(4, "terminated", source=source, head_version=version)], 4)
    assert batch.obs_index.tolist() == [0, 1, 3]
    assert batch.truncated.tolist() == [False, True, False]
    assert batch.terminated.tolist() == [False, False, True]


def test_rollout_truncates_a_recording_that_breaks_off() -> None:
    batch = RolloutBatch.from_latents([make_episode(2, "open"), make_episode(3, "terminated")], 0)
    assert batch.truncated.tolist() == [False, True, False, False, False]


def test_rollout_refuses_mixed_versions_missing_latents_and_nothing() -> None:
    mixed = make_episode(3, head_version=np.array([1, 2, 2], np.int64))
    with pytest.raises(DataError, match=r"head versions \[1, 2\] in a rollout: only version 2 may appear; collect"):
        RolloutBatch.from_latents([mixed], 2)
    with pytest.raises(DataError, match="episode 'e3': stage 1 needs its latents; encode it"):
        RolloutBatch.from_latents([make_episode(3, latents=None)], 0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="0 episodes without a step"):
        RolloutBatch.from_latents([], 0)


# ---- the update


def test_each_epoch_is_a_fresh_permutation() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(minibatches(100, 32, generator))) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()
    assert [len(part) for part in minibatches(100, 32, generator)] == [25, 25, 25, 25]


def test_critic_warmup_leaves_the_actor_alone_and_then_lets_it_move() -> None:
    ppo = make_ppo(critic_warmup_updates=1)
    batch, actor, critic = rollout(ppo), weights(ppo.actor), weights(ppo.critic)
    assert ppo.update(batch)["actor_steps"] == 0
    assert same(actor, ppo.actor)
    assert not same(critic, ppo.critic)
    assert ppo.update(batch)["actor_steps"] > 0
    assert not same(actor, ppo.actor)


def test_kl_stop_rests_the_actor_while_the_critic_trains_on() -> None:
    ppo = make_ppo(critic_warmup_updates=0, actor_warmup_steps=0, actor_lr=3e-2, minibatch=20, target_kl=0.02)
    metrics = ppo.update(rollout(ppo))
    assert 0 < metrics["actor_steps"] < metrics["critic_steps"] == 4 * 6


def test_first_step_has_ratio_one_and_the_actor_rate_warms_up() -> None:
    ppo = make_ppo(actor_lr=3e-4, critic_warmup_updates=0, actor_warmup_steps=10, epochs=1, minibatch=1000)
    metrics = ppo.update(rollout(ppo))
    assert metrics["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["clipfrac"] == 0.0
    assert metrics["policy_loss"] == pytest.approx(0.0, abs=1e-5)  # normalised advantages have mean 0
    assert ppo.actor_optimizer.param_groups[0]["lr"] == pytest.approx(3e-5)


def test_standard_deviation_moves_only_when_it_is_learned() -> None:
    for learn, moved in ((False, False), (True, True)):
        ppo = make_ppo(critic_warmup_updates=0, learn_std=learn, entropy_coef=0.1)
        before = ppo.actor.log_std.clone()
        ppo.update(rollout(ppo))
        assert torch.equal(before, ppo.actor.log_std) is not moved


def test_kl_anchor_is_the_closed_form() -> None:
    ppo = make_ppo()
    reference = copy.deepcopy(ppo.actor)
    ppo = PPO(ppo.actor, ppo.critic, PPOConfig(anchor="kl"), ppo.generator, reference=reference)
    with torch.no_grad():
        ppo.actor.head.out.bias += 0.1  # KL of equal widths: A (0.1)^2 / (2 * 0.3^2)
        latents, proprio = torch.randn(5, *LATENT_SHAPE), torch.randn(5, PROPRIO)
        assert float(ppo._anchor(ppo.actor(latents, proprio), latents, proprio, None)) == pytest.approx(
            ACTION * 0.01 / (2 * 0.09), rel=1e-4)  # fmt: skip


def test_behaviour_cloning_anchor_pulls_towards_the_demonstrations() -> None:
    demos = Demonstrations.from_episodes(reach(weak_actor(), 20, torch.Generator().manual_seed(1)))
    ppo = make_ppo(anchor="bc", anchor_coef=10.0, critic_warmup_updates=0, target_kl=None, actor_lr=3e-3,
                   actor_warmup_steps=0)  # fmt: skip
    losses = [ppo.update(rollout(ppo), demos)["anchor_loss"] for _ in range(6)]
    assert losses[-1] < 0.5 * losses[0]
    with pytest.raises(ConfigError, match="anchor 'bc' with demonstrations unset"):
        ppo.update(rollout(ppo))


def test_loss_that_is_not_finite_is_named_and_changes_nothing() -> None:
    ppo = make_ppo(critic_warmup_updates=0)
    batch = rollout(ppo)
    batch.reward[3] = float("nan")
    actor, critic = weights(ppo.actor), weights(ppo.critic)
    with pytest.raises(DivergedError, match="critic loss is nan: losses and gradients are finite; lower the learning"):
        ppo.update(batch)
    assert same(actor, ppo.actor)
    assert same(critic, ppo.critic)


def test_resuming_continues_bit_for_bit() -> None:
    straight = make_ppo(critic_warmup_updates=1)
    batch = rollout(straight)
    straight.update(batch)
    state = straight.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    resumed = make_ppo(seed=5, critic_warmup_updates=1)
    resumed.load_state_dict(state)
    for _ in range(2):
        assert straight.update(batch) == resumed.update(batch)
    assert same(weights(straight.actor), resumed.actor)


def test_configuration_is_validated() -> None:
    with pytest.raises(ConfigError, match=r"gamma = 1.5: it lies in \[0, 1\]"):
        PPOConfig(gamma=1.5)
    with pytest.raises(ConfigError, match="clip = 0.0: it is positive"):
        PPOConfig(clip=0.0)
    with pytest.raises(ConfigError, match="anchor 'kll': no such anchor; did you mean 'kl'"):
        PPOConfig(anchor="kll")


def test_whole_vla_update_trains_the_backbone_through_its_pixels_at_its_own_rate() -> None:
    torch.manual_seed(0)
    backbone = PixelBackbone()
    ppo = make_ppo()
    config = PPOConfig(critic_warmup_updates=1, actor_warmup_steps=0)
    ppo = PPO(ppo.actor, ppo.critic, config, ppo.generator, backbone=backbone)
    episodes = [make_episode(5, "terminated"), make_episode(7, "truncated")]
    batch = RolloutBatch.from_images(episodes, 0, backbone, ["front"])
    assert batch.features(torch.arange(14)).shape == (14, *LATENT_SHAPE)
    before = weights(backbone)
    ppo.update(batch)
    assert same(before, backbone)
    with torch.no_grad():
        latents = batch.features(batch.obs_index)
        old = ppo.actor.log_prob(ppo.actor(latents, batch.proprio[batch.obs_index]), batch.action)
    batch.log_prob.copy_(old)
    ppo.update(batch)
    assert not same(before, backbone)
    assert [group["lr"] for group in ppo.actor_optimizer.param_groups] == [1.5e-4, 1e-5]


def test_ppo_solves_the_reach_from_a_weak_stage_0() -> None:
    actor, generator = weak_actor(seed=0), torch.Generator().manual_seed(1)
    critic = CriticHead(LATENT_SHAPE[1], PROPRIO, SMALL)
    critic.init_trunk_from(actor.head)
    ppo = PPO(actor, critic, PPOConfig(actor_warmup_steps=10), generator)
    before, explained = success_rate(actor, generator), []
    for version in range(14):
        batch = RolloutBatch.from_latents(reach(actor, 64, generator, version), version)
        explained.append(ppo.update(batch)["explained_variance"])
    assert before < 0.3
    assert success_rate(actor, generator) > 0.9
    assert max(explained) > 0.5
