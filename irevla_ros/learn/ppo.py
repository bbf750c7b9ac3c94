"""Proximal policy optimisation (Schulman et al. 2017), stage 1 in simulation and the whole-VLA baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.learn.gae import gae
from irevla_ros.learn.optim import Means, Resumable, descend, minibatches, scale_learning_rates
from irevla_ros.learn.rollout import Demonstrations, RolloutBatch
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import CriticHead


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; the learning rates are Adam's.

    clip and value_clip bound the ratio and the change of the value (None: unbounded value). target_kl: the actor rests
    for the remainder of an update once a minibatch exceeds it (None: never). critic_warmup_updates: updates in which
    the actor stays fixed. actor_warmup_steps: gradient steps over which its learning rates rise. anchor: ``kl`` to the
    reference policy or ``bc`` on demonstrations, times anchor_coef.
    """

    gamma: float = 0.98
    lam: float = 0.95
    epochs: int = 4
    minibatch: int = 256
    clip: float = 0.2
    value_clip: float | None = None
    target_kl: float | None = 0.03
    normalise_advantage: bool = True
    entropy_coef: float = 0.0
    actor_lr: float = 1.5e-4
    backbone_lr: float = 1e-5
    critic_lr: float = 1e-3
    actor_warmup_steps: int = 20
    critic_warmup_updates: int = 2
    max_grad_norm: float = 1.0
    learn_std: bool = False
    anchor: str = "none"
    anchor_coef: float = 0.1

    def __post_init__(self) -> None:
        for name in ("gamma", "lam"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it lies in [0, 1]", "give 0.98, say")
        for name in ("epochs", "minibatch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is at least 1", "give a positive number")
        for name in ("clip", "value_clip", "target_kl", "actor_lr", "backbone_lr", "critic_lr", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} = {value}", "it is positive", "see the defaults of PPOConfig")
        for name in ("entropy_coef", "actor_warmup_steps", "critic_warmup_updates", "anchor_coef"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is not negative", "give 0 to leave it out")
        if self.anchor not in ("none", "kl", "bc"):
            raise unknown_name("anchor", self.anchor, ("none", "kl", "bc"))


class PPO(Resumable):
    """Action head and critic on stored latents; with ``backbone``, all weights, through the batch's own features.

    ``reference``: the policy that anchor ``kl`` holds on to; it is never trained here.
    """

    generator: torch.Generator

    def __init__(self, actor: GaussianActor, critic: CriticHead, config: PPOConfig, generator: torch.Generator,
                 backbone: nn.Module | None = None, reference: GaussianActor | None = None) -> None:  # fmt: skip
        if (config.anchor == "kl") != (reference is not None):
            raise ConfigError(f"anchor {config.anchor!r} with reference {'set' if reference else 'unset'}",
                              "anchor 'kl', and only that, needs a reference", "pass both or neither")  # fmt: skip
        if backbone is not None and reference is not None:
            raise ConfigError("anchor 'kl' with a trained backbone", "the reference head fits the latents of before",
                              "use anchor 'bc' or 'none'")  # fmt: skip
        self.actor, self.critic, self.config, self.generator = actor, critic, config, generator
        self.backbone, self.reference = backbone, reference
        self.updates = 0
        self.actor_steps = 0

        policy_parameters = [*actor.head.parameters(), *([actor.log_std] if config.learn_std else [])]
        groups: list[dict[str, Any]] = [{"params": policy_parameters, "base_lr": config.actor_lr}]
        if backbone is not None:
            groups.append({"params": list(backbone.parameters()), "base_lr": config.backbone_lr})
        self.actor_optimizer = torch.optim.Adam(groups, lr=config.actor_lr, eps=1e-5, fused=True)
        self.critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config.critic_lr, eps=1e-5, fused=True)

        modules: dict[str, nn.Module] = {"actor": actor, "critic": critic}
        self._modules: Mapping[str, nn.Module] = {**modules, "backbone": backbone} if backbone else modules
        self._optimizers = {"actor_optimizer": self.actor_optimizer, "critic_optimizer": self.critic_optimizer}
        self._counters = ("updates", "actor_steps")

    def update(self, batch: RolloutBatch, demos: Demonstrations | None = None) -> dict[str, float]:
        """Learn from one batch of on-policy steps; returns the means of the diagnostics over its minibatches.

        ``demos`` feed anchor ``bc``. Raises ``DivergedError`` before a step that is not finite.
        """
        config = self.config
        if (config.anchor == "bc") != (demos is not None):
            raise ConfigError(f"anchor {config.anchor!r} with demonstrations {'set' if demos else 'unset'}",
                              "anchor 'bc', and only that, needs demonstrations", "pass both or neither")  # fmt: skip
        device = self.actor.log_std.device
        batch = batch.to(device)
        demos = demos.to(device) if demos is not None else None

        values = self._values(batch)
        old_value = values[batch.obs_index]
        advantage, returns = gae(batch.reward, old_value, values[batch.next_index], batch.terminated, batch.truncated,
                                 config.gamma, config.lam)  # fmt: skip
        if config.normalise_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)

        log = Means()
        actor_moves = self.updates >= config.critic_warmup_updates
        for _ in range(config.epochs):
            for index in minibatches(len(batch), config.minibatch, self.generator):
                index = index.to(device)
                row = batch.obs_index[index]
                through_backbone = actor_moves and self.backbone is not None
                with torch.set_grad_enabled(through_backbone):
                    latents = batch.features(row)
                proprio = batch.proprio[row]

                # An untrained critic must not move the VLM: its loss stops at the latents.
                value = self.critic(latents.detach(), proprio)
                value_loss = self._value_loss(value, old_value[index], returns[index])
                steps = {"critic": (self.critic_optimizer, value_loss)}

                if actor_moves:
                    mean = self.actor(latents, proprio)
                    log_ratio = self.actor.log_prob(mean, batch.action[index]) - batch.log_prob[index]
                    ratio = log_ratio.exp()
                    # Schulman's k3 estimator of KL(old || new)
                    approx_kl = float((ratio - 1 - log_ratio).detach().mean())
                    log.add(approx_kl=approx_kl, clipfrac=float(((ratio - 1).abs() > config.clip).float().mean()))
                    actor_moves = config.target_kl is None or not approx_kl > config.target_kl

                if actor_moves:
                    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
                    policy_loss = -torch.min(ratio * advantage[index], clipped * advantage[index]).mean()
                    entropy = self.actor.entropy()
                    anchor = self._anchor(mean, latents, proprio, demos)
                    loss = policy_loss - config.entropy_coef * entropy + config.anchor_coef * anchor
                    steps["actor"] = (self.actor_optimizer, loss)
                    self._warm_up_actor()
                    log.add(policy_loss=float(policy_loss.detach()), entropy=float(entropy.detach()),
                            anchor_loss=float(anchor.detach()))

                norms = descend(config.max_grad_norm, **steps)
                log.add(value_loss=float(value_loss.detach()), **{f"{name}_grad_norm": norms[name] for name in norms})

        self.updates += 1
        return {**log.means(), "explained_variance": _explained_variance(old_value, returns),
                "actor_steps": float(log.count("actor_grad_norm")), "critic_steps": float(log.count("value_loss")),
                "std": float(self.actor.clamped_log_std().detach().exp().mean()),
                "return": float(returns.mean())}  # fmt: skip

    @torch.no_grad()
    def _values(self, batch: RolloutBatch) -> Tensor:
        """V of every observation, [M]."""
        rows = torch.split(torch.arange(len(batch.proprio), device=batch.proprio.device), self.config.minibatch)
        return torch.cat([self.critic(batch.features(row), batch.proprio[row]) for row in rows])

    def _value_loss(self, value: Tensor, old_value: Tensor, returns: Tensor) -> Tensor:
        loss = (value - returns).square()
        if self.config.value_clip is not None:
            clipped = old_value + (value - old_value).clamp(-self.config.value_clip, self.config.value_clip)
            loss = torch.max(loss, (clipped - returns).square())
        return 0.5 * loss.mean()

    def _anchor(self, mean: Tensor, latents: Tensor, proprio: Tensor, demos: Demonstrations | None) -> Tensor:
        if self.reference is not None:
            with torch.no_grad():
                reference_mean = self.reference(latents, proprio)
            return _gaussian_kl(mean, self.actor.clamped_log_std(), reference_mean, self.reference.clamped_log_std())
        if demos is not None:
            pick = torch.randint(len(demos), (len(proprio),), generator=self.generator).to(proprio.device)
            row = demos.obs_index[pick]
            return nn.functional.mse_loss(self.actor(demos.features(row), demos.proprio[row]), demos.action[pick])
        return torch.zeros((), device=proprio.device)

    def _warm_up_actor(self) -> None:
        self.actor_steps += 1
        scale_learning_rates(self.actor_optimizer, min(1.0, self.actor_steps / max(1, self.config.actor_warmup_steps)))


def _gaussian_kl(mean: Tensor, log_std: Tensor, reference_mean: Tensor, reference_log_std: Tensor) -> Tensor:
    """KL(policy || reference) of diagonal Gaussians, summed over a chunk [B, H, A] and averaged over the batch."""
    variance, reference_variance = (2 * log_std).exp(), (2 * reference_log_std).exp().detach()
    spread = (variance + (mean - reference_mean).square()) / (2 * reference_variance)
    return (reference_log_std.detach() - log_std + spread - 0.5).sum(dim=(1, 2)).mean()


def _explained_variance(value: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - value) / Var(returns): 1 is a perfect critic, 0 no better than a constant."""
    variance = returns.var(correction=0)
    return float(1 - (returns - value).var(correction=0) / variance) if variance > 0 else float("nan")
