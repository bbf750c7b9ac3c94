"""SACfD: targets by hand, what is capped and warmed up, and a toy that is really solved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irevla_ros.core.errors import ConfigError
from irevla_ros.learn.replay import DemoReplay, ReplayBuffer
from irevla_ros.learn.sacfd import SACfD, SACfDConfig, init_critics_from
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead, TwinQ
from learn_toys import ACTION, LATENT_SHAPE, PROPRIO, SMALL, make_episode, reach, success_rate, weak_actor


def make_sacfd(seed: int = 0, **settings: object) -> SACfD:
    torch.manual_seed(seed)
    actor = GaussianActor(ActionHead(LATENT_SHAPE[1], PROPRIO, ACTION, config=SMALL))
    critics = TwinQ(LATENT_SHAPE[1], PROPRIO, ACTION, config=SMALL)
    config = SACfDConfig(**{"batch": 32, **settings})  # type: ignore[arg-type]
    return SACfD(actor, critics, config, torch.Generator().manual_seed(seed))


def make_replay(*online: str) -> DemoReplay:
    replay = DemoReplay(ReplayBuffer(200), ReplayBuffer(200))
    replay.demo.add(make_episode(10, "terminated"))
    for steps, end in enumerate(online, start=20):
        replay.online.add(make_episode(steps, end))
    return replay


def test_updates_are_capped_per_online_step() -> None:
    sacfd, replay = make_sacfd(critic_warmup=3, update_to_data=0.5), make_replay("truncated")
    assert sacfd.update(replay, 100)["updates"] == 3 + 20 * 0.5
    assert sacfd.update(replay, 100)["updates"] == 0
    replay.online.add(make_episode(8))
    assert sacfd.updates_due(replay.online.steps_added) == 4
    assert sacfd.update(replay, 1)["updates"] == 1


def test_critic_warms_up_before_the_actor_moves() -> None:
    sacfd, replay = make_sacfd(critic_warmup=5), make_replay("truncated")
    before = sacfd.actor.head.out.weight.clone()
    sacfd.update(replay, 5)
    assert torch.equal(before, sacfd.actor.head.out.weight)
    assert "value" in sacfd.update(replay, 4)
    assert not torch.equal(before, sacfd.actor.head.out.weight)
    assert all(parameter.requires_grad for parameter in sacfd.critics.parameters())


def test_values_bootstrap_at_truncation_and_not_at_the_end() -> None:
    # One-step episodes from one state. Terminated with reward 1: Q = 1. Truncated without reward: Q = gamma Q(next),
    # and the next observation is the state itself whose only known end is success, so Q(truncated) = gamma * Q(state).
    latents = np.zeros((2, *LATENT_SHAPE), np.float16)
    latents[:, 0, 0] = 1.0
    proprio = np.zeros((2, PROPRIO), np.float32)
    still = np.zeros((1, ACTION), np.float32)
    columns = {"latents": latents, "proprio": proprio}
    replay = DemoReplay(ReplayBuffer(10), ReplayBuffer(10))
    replay.demo.add(make_episode(1, "terminated", executed=still, **columns))
    replay.online.add(make_episode(1, "truncated", executed=still + 1, **columns))
    sacfd = make_sacfd(critic_warmup=400, gamma=0.5, tau=0.1, learn_std=False)
    with torch.no_grad():
        sacfd.actor.head.out.bias.fill_(0.0)
        sacfd.actor.head.out.weight.fill_(0.0)
        sacfd.actor.log_std.fill_(float(np.log(0.05)))  # the policy plays the terminating action
    sacfd.update(replay, 400)
    batch = replay.sample(2, torch.Generator())[0]
    with torch.no_grad():
        values = sacfd.critics(batch.latents, batch.proprio, batch.action)
    torch.testing.assert_close(values, torch.tensor([[1.0, 0.5]] * 2), atol=0.05, rtol=0)


def test_targets_follow_slowly() -> None:
    sacfd, replay = make_sacfd(critic_warmup=1, tau=0.25), make_replay("truncated")
    old = [p.clone() for p in sacfd.targets.parameters()]
    sacfd.update(replay, 1)
    for before, target, critic in zip(old, sacfd.targets.parameters(), sacfd.critics.parameters(), strict=True):
        torch.testing.assert_close(target, 0.75 * before + 0.25 * critic)


def test_temperature_keeps_the_policy_from_becoming_narrow() -> None:
    replay = make_replay("truncated")
    sacfd = make_sacfd(critic_warmup=120, actor_lr=1e-2, temperature_lr=0.1, target_std=0.25, actor_every=1)
    with torch.no_grad():
        sacfd.actor.log_std.fill_(float(np.log(0.1)))
    sacfd.updates = 100  # part of the warm-up is over
    assert sacfd.update(replay, 20)["std"] == pytest.approx(0.1)
    for _ in range(5):
        replay.online.add(make_episode(20))
        metrics = sacfd.update(replay, 20)
    assert metrics["std"] > 0.2
    fixed = make_sacfd(critic_warmup=0, learn_std=False)
    assert fixed.update(replay, 20)["std"] == pytest.approx(0.3)


def test_critics_start_from_the_actors_trunk() -> None:
    sacfd = make_sacfd()
    init_critics_from(sacfd.critics, sacfd.actor.head)
    source = sacfd.actor.head.trunk.state_dict()
    for twin in sacfd.critics.twins:
        own = twin.trunk.state_dict()
        assert torch.equal(own["mlp.0.weight"][:, : -ACTION], source["mlp.0.weight"])
        assert torch.equal(own["token_learner.seeds"], source["token_learner.seeds"])


def test_resuming_continues_bit_for_bit() -> None:
    straight, replay = make_sacfd(critic_warmup=4), make_replay("truncated", "terminated")
    straight.update(replay, 9)
    resumed = make_sacfd(seed=9, critic_warmup=4)
    resumed.load_state_dict(straight.state_dict())
    assert straight.update(replay, 7) == resumed.update(replay, 7)


def test_configuration_is_validated() -> None:
    with pytest.raises(ConfigError, match=r"tau = 0: it lies in \(0, 1\]"):
        SACfDConfig(tau=0)
    with pytest.raises(ConfigError, match="std_range = .*: the lower bound comes first"):
        SACfDConfig(std_range=(0.5, 0.1))


def test_sacfd_solves_the_reach_in_fewer_episodes_than_ppo() -> None:
    actor, generator = weak_actor(seed=0), torch.Generator().manual_seed(1)
    critics = TwinQ(LATENT_SHAPE[1], PROPRIO, ACTION, config=SMALL)
    init_critics_from(critics, actor.head)
    config = SACfDConfig(gamma=0.9, batch=128, actor_lr=3e-4, critic_lr=2e-3, tau=0.02, critic_warmup=100, update_to_data=1.0,
                         bc_coef=0.1)  # fmt: skip
    sacfd = SACfD(actor, critics, config, generator)
    before = success_rate(actor, generator)
    replay = DemoReplay(ReplayBuffer(2000), ReplayBuffer(4000))
    for episode in reach(actor, 64, generator):  # the zero-shot policy's successes
        if episode.success:
            replay.demo.add(episode)
    for _ in range(8):
        for episode in reach(actor, 16, generator):
            replay.online.add(episode)
        sacfd.update(replay, 1000)
    assert before < 0.3
    assert success_rate(actor, generator) > 0.85
