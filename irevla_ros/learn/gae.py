"""Generalised advantage estimation over concatenated episodes of different lengths."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor,
        gamma: float, lam: float) -> tuple[Tensor, Tensor]:  # fmt: skip
    """GAE(lambda), Schulman et al. 2016, eq. 16: returns (advantage, value target), float32 [N] each.

    All inputs are [N], episodes one after another. ``next_value`` is V of each step's own next observation, which is
    what a truncated step bootstraps from; a terminated step bootstraps from nothing. Both end the sum over deltas.
    """
    delta = reward + gamma * next_value * (~terminated).float() - value
    decay = gamma * lam * (~(terminated | truncated)).float()
    # A first-order recurrence backwards in time: plain floats beat tensor indexing by two orders of magnitude.
    advantages, following = [], 0.0
    for step_delta, step_decay in zip(reversed(delta.tolist()), reversed(decay.tolist()), strict=True):
        following = step_delta + step_decay * following
        advantages.append(following)
    advantage = torch.tensor(advantages[::-1], dtype=torch.float32, device=reward.device)
    return advantage, advantage + value
