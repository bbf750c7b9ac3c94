"""Soft actor-critic from demonstrations, stage 1 where arm time is dear (Haarnoja et al. 2018; RLPD, Ball et al. 2023).

Half of each batch comes from the zero-shot policy's successes, twin critics learn from both halves, and a
behaviour-cloning term on the demonstrations keeps the actor near the policy that it started from.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError
from irevla_ros.learn.optim import Means, Resumable, descend
from irevla_ros.learn.replay import DemoReplay, Transitions
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead, QHead, TwinQ


@dataclass(frozen=True)
class SACfDConfig:
    """Settings of SACfD; the learning rates are Adam's.

    critic_warmup: updates before the actor moves. update_to_data: most critic updates per online step, beyond the
    warm-up. actor_every: critic updates per actor update. bc_coef weighs the MSE on demonstrations (q_filter: only
    where the critics prefer the demonstrated action). learn_std: the standard deviation, one per action dimension, is
    learned under a temperature that keeps it from falling much below ``target_std``; otherwise it stays as given.
    keep_successes: online successes join the demonstrations, so that cloning imitates what practice has found.
    value_range bounds bootstrapped targets: with reward 1 at success only, values lie in [0, 1]. takeover_penalty is taken
    from the reward of the policy's step after which a human took over (RLIF), and lowers the lower bound by as much.
    """

    gamma: float = 0.95
    batch: int = 128
    actor_lr: float = 5e-5
    critic_lr: float = 1e-3
    temperature_lr: float = 1e-2
    tau: float = 0.01
    critic_warmup: int = 1000
    update_to_data: float = 0.5
    actor_every: int = 2
    bc_coef: float = 1.0
    q_filter: bool = False
    keep_successes: bool = True
    learn_std: bool = True
    target_std: float = 0.2
    initial_temperature: float = 0.01
    std_range: tuple[float, float] = (0.05, 0.5)
    value_range: tuple[float, float] = (0.0, 1.0)
    takeover_penalty: float = 0.0
    max_grad_norm: float = 10.0

    def __post_init__(self) -> None:
        positive = ("batch", "actor_lr", "critic_lr", "temperature_lr", "update_to_data", "actor_every", "target_std",
                    "initial_temperature", "max_grad_norm")  # fmt: skip
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is positive", "see SACfDConfig's defaults")
        for name in ("gamma", "tau"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it lies in (0, 1]", "see SACfDConfig's defaults")
        for name in ("critic_warmup", "bc_coef", "takeover_penalty"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is not negative", "give 0 to leave it out")
        for name in ("std_range", "value_range"):
            low, high = getattr(self, name)
            if not low < high:
                raise ConfigError(f"{name} = {(low, high)}", "the lower bound comes first", "swap the two")
        if not self.std_range[0] > 0:
            raise ConfigError(f"std_range = {self.std_range}", "a standard deviation is positive", "give (0.05, 0.5), say")


@torch.no_grad()
def init_critics_from(critics: TwinQ, head: ActionHead) -> None:
    """Copy the actor's trunk, which already finds what matters, into each critic's; what reads the action stays fresh.

    Both need the same latents, proprioception and ``HeadConfig``. On the toy of the tests it halves the episodes.
    """
    for twin in critics.twins:
        own = cast(QHead, twin).trunk.state_dict()
        for name, weight in head.trunk.state_dict().items():
            # The critic's first layer has more columns than the actor's: the last ones are for the action.
            own[name][..., : weight.shape[-1]].copy_(weight)


class SACfD(Resumable):
    """Action head, twin critics and temperature; the VLM is frozen, all learning is on stored latents."""

    generator: torch.Generator

    def __init__(self, actor: GaussianActor, critics: TwinQ, config: SACfDConfig,
                 generator: torch.Generator) -> None:  # fmt: skip
        self.actor, self.config, self.generator = actor, config, generator
        self.critics = critics
        self.targets = copy.deepcopy(critics).requires_grad_(False)
        self.temperature = nn.ParameterList([nn.Parameter(torch.tensor(math.log(config.initial_temperature)))])
        self.temperature.to(actor.log_std.device)
        self.updates = 0
        self._critic_parameters: list[Tensor] = list(critics.parameters())
        self._target_parameters: list[Tensor] = list(self.targets.parameters())

        policy_parameters = [*actor.head.parameters(), *([actor.log_std] if config.learn_std else [])]
        self.actor_optimizer = torch.optim.Adam(policy_parameters, lr=config.actor_lr, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=config.critic_lr, fused=True)
        self.temperature_optimizer = torch.optim.Adam(self.temperature.parameters(), lr=config.temperature_lr)
        self._modules: Mapping[str, nn.Module] = {"actor": actor, "critics": self.critics, "targets": self.targets,
                                                  "temperature": self.temperature}  # fmt: skip
        self._optimizers = {"actor_optimizer": self.actor_optimizer, "critic_optimizer": self.critic_optimizer,
                            "temperature_optimizer": self.temperature_optimizer}  # fmt: skip
        self._counters = ("updates",)

    def updates_due(self, online_steps: int) -> int:
        """Updates still allowed after so many online steps in all."""
        allowed = self.config.critic_warmup + int(self.config.update_to_data * online_steps)
        return max(0, allowed - self.updates)

    def update(self, replay: DemoReplay, n_updates: int,
               watch: Callable[[int, int], bool] = lambda done, of: False) -> dict[str, float]:  # fmt: skip
        """At most ``n_updates`` gradient steps, fewer where the update-to-data cap binds; means of the diagnostics.

        ``watch`` is told before each step how many of how many are done; True breaks off, and the next update goes on from
        there. Raises ``DivergedError`` before a step that is not finite.
        """
        log = Means()
        planned = min(n_updates, self.updates_due(replay.online.steps_added))
        for done in range(planned):
            if watch(done, planned):
                break
            batch, demos = replay.sample(self.config.batch, self.generator)
            batch = batch.to(self.actor.log_std.device)
            self._update_critics(batch, log)
            if self.updates >= self.config.critic_warmup and self.updates % self.config.actor_every == 0:
                self._update_actor(batch, demos, log)
            self.updates += 1
        return {**log.means(), "updates": float(log.count("critic_loss")),
                "std": float(self.actor.clamped_log_std().detach().exp().mean())}  # fmt: skip

    def _update_critics(self, batch: Transitions, log: Means) -> None:
        with torch.no_grad():
            next_action = self._explore(self.actor(batch.next_latents, batch.next_proprio))
            next_value = self.targets(batch.next_latents, batch.next_proprio, next_action).amin(dim=0)
            # The entropy stays out of the target (as in RLPD), so that values keep their meaning: discounted success.
            low, high = self.config.value_range
            bootstrap = next_value.clamp(low - self.config.takeover_penalty, high) * (~batch.terminated).float()
            target = batch.reward + self.config.gamma * bootstrap
        loss = (self.critics(batch.latents, batch.proprio, batch.action) - target).square().mean()
        norm = descend(self.config.max_grad_norm, critic=(self.critic_optimizer, loss))["critic"]
        with torch.no_grad():
            torch._foreach_lerp_(self._target_parameters, self._critic_parameters, self.config.tau)
        log.add(critic_loss=float(loss.detach()), critic_grad_norm=norm, target=float(target.mean()))

    def _update_actor(self, batch: Transitions, demos: int, log: Means) -> None:
        config = self.config
        mean = self.actor(batch.latents, batch.proprio)
        # Only the actor learns here; critics that need no gradient save a third of the backward pass.
        for parameter in self._critic_parameters:
            parameter.requires_grad_(False)
        value = self.critics(batch.latents, batch.proprio, self._explore(mean)).amin(dim=0)
        for parameter in self._critic_parameters:
            parameter.requires_grad_(True)
        entropy = self.actor.entropy()
        cloning = self._cloning_loss(mean, batch, demos)
        temperature = self.temperature[0].exp()
        loss = -value.mean() - temperature.detach() * entropy + config.bc_coef * cloning
        steps = {"actor": (self.actor_optimizer, loss)}
        if config.learn_std:
            wanted = mean[0].numel() * (math.log(config.target_std) + 0.5 * math.log(2 * math.pi * math.e))
            steps["temperature"] = (self.temperature_optimizer, self.temperature[0] * (entropy.detach() - wanted))
        norms = descend(config.max_grad_norm, **steps)
        with torch.no_grad():
            low, high = config.std_range
            self.actor.log_std.clamp_(math.log(low), math.log(high))
        log.add(value=float(value.mean().detach()), entropy=float(entropy.detach()), bc_loss=float(cloning.detach()),
                temperature=float(temperature.detach()), actor_grad_norm=norms["actor"])  # fmt: skip

    def _cloning_loss(self, mean: Tensor, batch: Transitions, demos: int) -> Tensor:
        if demos == 0:
            return torch.zeros((), device=mean.device)
        error = (mean[:demos] - batch.action[:demos]).square().mean(dim=(1, 2))
        if self.config.q_filter:
            with torch.no_grad():
                state = batch.latents[:demos], batch.proprio[:demos]
                demonstrated = self.critics(*state, batch.action[:demos]).amin(dim=0)
                prefers_demo = demonstrated > self.critics(*state, mean[:demos].clamp(-1, 1)).amin(dim=0)
            error = error * prefers_demo.float()
        return error.mean()

    def _explore(self, mean: Tensor) -> Tensor:
        """Actions as the environment would execute them, differentiable in mean and standard deviation."""
        noise = torch.randn(mean.shape, generator=self.generator).to(mean.device)
        return (mean + self.actor.clamped_log_std().exp() * noise).clamp(-1, 1)
