"""Heads and the Gaussian actor: against the textbook, numbers by hand, and toy problems that are really solved."""

from __future__ import annotations

import math

import pytest
import torch

from irevla_ros.core.errors import ConfigError
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead, CriticHead, HeadConfig, QHead, TokenLearner, TwinQ

SMALL = HeadConfig(seeds=2, attention_heads=2, hidden=32)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_token_learner_equals_textbook_multihead_attention() -> None:
    """The folded form against torch's own multihead attention with the same weights."""
    d, k, h = 8, 3, 2
    learner = TokenLearner(d, seeds=k, heads=h)
    latents = torch.randn(5, 7, d)
    attention = torch.nn.MultiheadAttention(d, h, bias=False, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(
            torch.cat([torch.eye(d), learner.key.reshape(d, d), learner.value.reshape(d, d)])
        )
        attention.out_proj.weight.copy_(torch.eye(d))
        read, _ = attention(learner.seeds.reshape(k, d).expand(5, k, d), latents, latents)
        expected = learner.out(read.flatten(1))
    torch.testing.assert_close(learner(latents), expected)


def test_token_learner_ignores_the_order_of_latents() -> None:
    learner = TokenLearner(8, seeds=2, heads=2)
    latents = torch.randn(3, 6, 8)
    torch.testing.assert_close(learner(latents[:, torch.randperm(6)]), learner(latents))


def test_heads_have_the_promised_shapes_and_every_weight_learns() -> None:
    latents, proprio, action = torch.randn(4, 9, 16), torch.randn(4, 6), torch.randn(4, 3, 5)
    cases = [
        (ActionHead(16, 6, 5, horizon=3, config=SMALL), (latents, proprio), (4, 3, 5)),
        (CriticHead(16, 6, config=SMALL), (latents, proprio), (4,)),
        (QHead(16, 6, 5, horizon=3, config=SMALL), (latents, proprio, action), (4,)),
        (TwinQ(16, 6, 5, horizon=3, config=SMALL), (latents, proprio, action), (2, 4)),
    ]
    for head, inputs, shape in cases:
        output = head(*inputs)
        assert output.shape == shape
        output.square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in head.parameters()), type(head).__name__


def test_without_proprioception_it_is_not_read() -> None:
    latents = torch.randn(4, 9, 16)
    for head in (ActionHead(16, 0, 5, config=SMALL), CriticHead(16, 0, config=SMALL)):
        torch.testing.assert_close(head(latents, torch.zeros(4, 6)), head(latents, torch.ones(4, 6)))
    q, action = QHead(16, 0, 5, config=SMALL), torch.randn(4, 1, 5)
    torch.testing.assert_close(q(latents, torch.zeros(4, 6), action), q(latents, torch.ones(4, 6), action))


def test_twins_differ() -> None:
    first, second = TwinQ(16, 6, 5, config=SMALL)(torch.randn(4, 9, 16), torch.randn(4, 6), torch.randn(4, 1, 5))
    assert not torch.allclose(first, second)


def test_critic_takes_over_the_actors_trunk_but_not_its_output() -> None:
    actor, critic = ActionHead(16, 6, 5, config=SMALL), CriticHead(16, 6, config=SMALL)
    output = critic.out.weight.clone()
    critic.init_trunk_from(actor)
    latents, proprio = torch.randn(4, 9, 16), torch.randn(4, 6)
    torch.testing.assert_close(critic.trunk(latents, proprio), actor.trunk(latents, proprio))
    torch.testing.assert_close(critic.out.weight, output)
    with torch.no_grad():
        next(critic.trunk.parameters()).zero_()
    assert next(actor.trunk.parameters()).any()  # a copy, not the same tensors
    with pytest.raises(ConfigError, match="actor and critic have equal trunks; build both with the same HeadConfig"):
        CriticHead(16, 6).init_trunk_from(actor)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="width 10 with 4 attention heads: the heads divide the width"):
        ActionHead(10, 6, 5)
    with pytest.raises(ConfigError, match=r"HeadConfig\(seeds=0, .*positive sizes are required"):
        HeadConfig(seeds=0)
    with pytest.raises(ConfigError, match=r"standard deviation 2.0 in \[0.05, 1.0\]"):
        GaussianActor(ActionHead(16, 6, 5, config=SMALL), std=2.0)


def test_log_prob_and_entropy_by_hand() -> None:
    actor = GaussianActor(ActionHead(16, 6, 2, horizon=2, config=SMALL))
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([0.5, 0.2]).log())
    mean = torch.tensor([[[0.0, 0.0], [1.0, -1.0]]])
    action = torch.tensor([[[0.5, 0.4], [1.0, -1.2]]])  # z = 1, 2; 0, -1: beyond [-1, 1] and not clipped
    expected = -0.5 * (1 + 4 + 0 + 1) - 2 * math.log(0.5) - 2 * math.log(0.2) - 2 * math.log(2 * math.pi)
    assert actor.log_prob(mean, action).item() == pytest.approx(expected, abs=1e-5)
    entropy = 2 * (math.log(0.5 * math.sqrt(2 * math.pi * math.e)) + math.log(0.2 * math.sqrt(2 * math.pi * math.e)))
    assert actor.entropy().item() == pytest.approx(entropy, abs=1e-5)
    reference = torch.distributions.Normal(mean, torch.tensor([0.5, 0.2]))
    torch.testing.assert_close(actor.log_prob(mean, action), reference.log_prob(action).sum((1, 2)))


def test_standard_deviation_is_clamped() -> None:
    actor = GaussianActor(ActionHead(16, 6, 2, config=SMALL), std=0.3, min_std=0.1, max_std=0.5)
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-9.0, 9.0]))
    torch.testing.assert_close(actor.clamped_log_std().exp(), torch.tensor([0.1, 0.5]))


def test_samples_follow_the_generator_and_the_distribution() -> None:
    actor = GaussianActor(ActionHead(16, 6, 2, config=SMALL), std=0.3)
    mean = torch.tensor([0.5, -0.5]).expand(20000, 1, 2)
    first = actor.sample(mean, torch.Generator().manual_seed(1))
    torch.testing.assert_close(first, actor.sample(mean, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, actor.sample(mean, torch.Generator().manual_seed(2)))
    torch.testing.assert_close(first.mean((0, 1)), torch.tensor([0.5, -0.5]), atol=0.01, rtol=0)
    torch.testing.assert_close(first.std((0, 1)), torch.tensor([0.3, 0.3]), atol=0.01, rtol=0)


def test_policy_gradient_finds_the_rewarded_action() -> None:
    """A bandit: reward falls with the squared distance from an action that depends on one latent."""
    actor = GaussianActor(ActionHead(16, 0, 1, config=SMALL), std=0.3)
    optimiser = torch.optim.Adam(actor.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 4, 16)
    target = torch.tensor([0.6, -0.4])[:, None, None]
    for _ in range(200):
        latents = states.repeat_interleave(32, 0)
        mean = actor(latents, torch.empty(64, 0))
        action = actor.sample(mean, generator).detach()
        reward = -(action - target.repeat_interleave(32, 0)).square().sum((1, 2)).view(2, 32)
        advantage = (reward - reward.mean(1, keepdim=True)).flatten()
        optimiser.zero_grad()
        (-(advantage * actor.log_prob(mean, action)).mean()).backward()
        optimiser.step()
    torch.testing.assert_close(actor(states, torch.empty(2, 0)), target, atol=0.1, rtol=0)


def test_two_seeds_read_two_places() -> None:
    """What pushing needs: the vector from one marked latent to another, wherever they are."""
    head = ActionHead(16, 0, 2, config=HeadConfig(seeds=2, attention_heads=1, hidden=64))
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)

    def error() -> torch.Tensor:
        latents = 0.1 * torch.randn(64, 12, 16)
        latents[:, :, :2] = torch.rand(64, 12, 2) * 2 - 1  # each knows its place
        latents[:, 3, 2] = latents[:, 8, 3] = 3.0  # the marks
        return (head(latents, torch.empty(64, 0))[:, 0] - (latents[:, 8, :2] - latents[:, 3, :2])).square().mean()

    first = error().item()
    for _ in range(300):
        optimiser.zero_grad()
        loss = error()
        loss.backward()
        optimiser.step()
    assert error().item() < 0.1 * first
