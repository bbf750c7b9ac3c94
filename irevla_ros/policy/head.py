"""phi and its critics: heads that read the latents of one observation, cheap enough to train on stored ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of a head: ``seeds`` pooling queries of ``attention_heads`` heads each, then an MLP of width ``hidden``.

    Several seeds, because a skill such as pushing needs several places at once (the object and where it shall go).
    """

    seeds: int = 4
    attention_heads: int = 4
    hidden: int = 256

    def __post_init__(self) -> None:
        if min(self.seeds, self.attention_heads, self.hidden) < 1:
            raise ConfigError(f"{self}", "positive sizes are required", "correct the configuration")


class TokenLearner(nn.Module):
    """Pools latents [B, m, d] into [B, d] by multihead attention with learned seed queries.

    Pooling by multihead attention of the Set Transformer (Lee et al. 2019, arXiv 1810.00825), which the iRe-VLA paper's
    token learner follows; k seeds are concatenated and projected to d.
    """

    def __init__(self, width: int, seeds: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"latents of width {width} with {heads} attention heads",
                              "the heads divide the width", "change attention_heads")  # fmt: skip
        self.seeds = nn.Parameter(torch.randn(seeds, heads, width // heads))
        self.key = nn.Parameter(torch.randn(heads, width // heads, width) * width**-0.5)
        self.value = nn.Parameter(torch.randn(heads, width // heads, width) * width**-0.5)
        self.out = nn.Linear(seeds * width, width)

    def forward(self, latents: Tensor) -> Tensor:
        # Textbook attention projects all m latents to keys and values. But the seeds do not depend on the input, so
        # seed . (K x) = (K^T seed) . x, and pooling is linear, so sum_i p_i V x_i = V sum_i p_i x_i: folding K into the
        # seeds and V behind the sum gives the same result for a tenth of the arithmetic. There is no norm here, because
        # latents leave every backbone through one.
        probes = torch.einsum("khe,hed->dkh", self.seeds, self.key).flatten(1)  # [d, k * heads]
        scores = latents @ probes * self.seeds.shape[2] ** -0.5  # [B, m, k * heads]
        pooled = scores.softmax(dim=1).transpose(1, 2) @ latents  # [B, k * heads, d]
        pooled = pooled.view(-1, *self.seeds.shape[:2], latents.shape[2])
        read: Tensor = self.out(torch.einsum("bkhd,hed->bkhe", pooled, self.value).flatten(1))
        return read


class Trunk(nn.Module):
    """Token learner and MLP: latents [B, m, d] and ``extra`` [B, E] (or None when E = 0) -> features [B, hidden]."""

    def __init__(self, width: int, extra: int, config: HeadConfig) -> None:
        super().__init__()
        self.token_learner = TokenLearner(width, config.seeds, config.attention_heads)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width + extra, config.hidden), nn.LayerNorm(config.hidden), nn.GELU(),
            nn.Linear(config.hidden, config.hidden), nn.LayerNorm(config.hidden), nn.GELU(),
        )  # fmt: skip

    def forward(self, latents: Tensor, extra: Tensor | None) -> Tensor:
        pooled = self.norm(self.token_learner(latents))
        features: Tensor = self.mlp(pooled if extra is None else torch.cat([pooled, extra], dim=1))
        return features


def _small(linear: nn.Linear) -> nn.Linear:
    """Start near zero: no action and no value are preferred before anything is learned."""
    with torch.no_grad():
        linear.weight.mul_(0.01)
        linear.bias.zero_()
    return linear


class ActionHead(nn.Module):
    """Latents [B, m, d] and proprioception [B, P] -> the mean of an action chunk [B, H, A], unbounded.

    ``width`` is d. With ``proprio_size`` 0 the proprioception is not read.
    """

    def __init__(
        self, width: int, proprio_size: int, action_size: int, horizon: int = 1, config: HeadConfig = HeadConfig()
    ) -> None:
        super().__init__()
        self.width, self.proprio_size, self.action_size, self.horizon = width, proprio_size, action_size, horizon
        self.config = config
        self.trunk = Trunk(width, proprio_size, config)
        self.out = _small(nn.Linear(config.hidden, horizon * action_size))

    def forward(self, latents: Tensor, proprio: Tensor) -> Tensor:
        features = self.trunk(latents, proprio if self.proprio_size else None)
        mean: Tensor = self.out(features)
        return mean.view(-1, self.horizon, self.action_size)


class CriticHead(nn.Module):
    """Latents [B, m, d] and proprioception [B, P] -> state value [B]."""

    def __init__(self, width: int, proprio_size: int, config: HeadConfig = HeadConfig()) -> None:
        super().__init__()
        self.width, self.proprio_size, self.config = width, proprio_size, config
        self.trunk = Trunk(width, proprio_size, config)
        self.out = _small(nn.Linear(config.hidden, 1))

    def forward(self, latents: Tensor, proprio: Tensor) -> Tensor:
        value: Tensor = self.out(self.trunk(latents, proprio if self.proprio_size else None))
        return value.squeeze(1)

    def init_trunk_from(self, actor: ActionHead) -> None:
        """Start from a copy of the actor's trunk, which already finds what matters; the output layer stays fresh."""
        if (actor.width, actor.proprio_size, actor.config) != (self.width, self.proprio_size, self.config):
            raise ConfigError(f"critic trunk of {self.config} for an actor of {actor.config}",
                              "actor and critic have equal trunks", "build both with the same HeadConfig")  # fmt: skip
        self.trunk.load_state_dict(actor.trunk.state_dict())


class QHead(nn.Module):
    """Latents [B, m, d], proprioception [B, P] and action chunk [B, H, A] -> action value [B].

    The layer norms in the trunk bound the values of actions that were never tried, as in RLPD (Ball et al. 2023,
    arXiv 2302.02948).
    """

    def __init__(
        self, width: int, proprio_size: int, action_size: int, horizon: int = 1, config: HeadConfig = HeadConfig()
    ) -> None:
        super().__init__()
        self.proprio_size = proprio_size
        self.trunk = Trunk(width, proprio_size + horizon * action_size, config)
        self.out = _small(nn.Linear(config.hidden, 1))

    def forward(self, latents: Tensor, proprio: Tensor, action: Tensor) -> Tensor:
        chunk = action.flatten(1)
        extra = torch.cat([proprio, chunk], dim=1) if self.proprio_size else chunk
        value: Tensor = self.out(self.trunk(latents, extra))
        return value.squeeze(1)


class TwinQ(nn.Module):
    """Two independent ``QHead``s of the same arguments: values [2, B], of which targets use the smaller."""

    def __init__(
        self, width: int, proprio_size: int, action_size: int, horizon: int = 1, config: HeadConfig = HeadConfig()
    ) -> None:
        super().__init__()
        self.twins = nn.ModuleList(QHead(width, proprio_size, action_size, horizon, config) for _ in range(2))

    def forward(self, latents: Tensor, proprio: Tensor, action: Tensor) -> Tensor:
        return torch.stack([twin(latents, proprio, action) for twin in self.twins])
