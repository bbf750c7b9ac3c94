"""The stochastic actor of stage 1: a Gaussian of learned width around the mean that imitation trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.spec import MAX_STD, MIN_STD
from irevla_ros.policy.head import ActionHead

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class GaussianActor(nn.Module):
    """``head``'s mean with one standard deviation for each action dimension, the same in every state.

    ``log_std`` [A] is a parameter, read clamped to [log(min_std), log(max_std)]. Actions are raw: they are not clipped
    here but in the environment, so that log-probabilities are exact.
    """

    def __init__(self, head: ActionHead, std: float = 0.3, min_std: float = MIN_STD, max_std: float = MAX_STD) -> None:
        super().__init__()
        if not 0 < min_std <= std <= max_std:
            raise ConfigError(f"standard deviation {std} in [{min_std}, {max_std}]",
                              "0 < min_std <= std <= max_std is required", "correct the configuration")  # fmt: skip
        self.head = head
        self.log_std = nn.Parameter(torch.full((head.action_size,), math.log(std)))
        self._bounds = math.log(min_std), math.log(max_std)

    def forward(self, latents: Tensor, proprio: Tensor) -> Tensor:
        """Latents [B, m, d], proprioception [B, P] -> mean [B, H, A]."""
        mean: Tensor = self.head(latents, proprio)
        return mean

    def clamped_log_std(self) -> Tensor:
        """log of the standard deviation in use, [A]."""
        return self.log_std.clamp(*self._bounds)

    def sample(self, mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw actions [B, H, A] around ``mean``, differentiable in mean and standard deviation."""
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + self.clamped_log_std().exp() * noise

    def log_prob(self, mean: Tensor, action: Tensor) -> Tensor:
        """Log-density [B] of raw ``action`` [B, H, A], summed over H and A."""
        log_std = self.clamped_log_std()
        z = (action - mean) * torch.exp(-log_std)
        return (-0.5 * z.square() - log_std - _LOG_SQRT_2PI).sum(dim=(1, 2))

    def entropy(self) -> Tensor:
        """Differential entropy of a chunk, [], summed over H and A; it is the same in every state."""
        return self.head.horizon * (self.clamped_log_std() + 0.5 + _LOG_SQRT_2PI).sum()
