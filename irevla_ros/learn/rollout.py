"""From recorded episodes to the tensors that a learner gathers minibatches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import BoolArray, ControlSource, Episode, IntArray
from irevla_ros.policy.backbone import Backbone


class Features(Protocol):
    """Row numbers of observations [B] -> latents [B, m, d]: a gather, or a forward through the backbone."""

    def __call__(self, index: Tensor) -> Tensor: ...

    def to(self, device: torch.device) -> Features: ...


@dataclass(frozen=True)
class StoredLatents:
    """Latents computed once, float16 [M, m, d]: learning never runs the VLM again."""

    latents: Tensor

    def __call__(self, index: Tensor) -> Tensor:
        return self.latents[index].float()

    def to(self, device: torch.device) -> StoredLatents:
        return StoredLatents(self.latents.to(device))


@dataclass(frozen=True)
class BackboneFeatures:
    """Latents computed anew at each call, with gradient: uint8 images [M, C, H, W, 3] and tokens [M, L]."""

    backbone: Backbone
    images: Tensor
    tokens: Tensor

    def __call__(self, index: Tensor) -> Tensor:
        return self.backbone.encode(self.images[index], self.tokens[index])

    def to(self, device: torch.device) -> BackboneFeatures:
        return replace(self, images=self.images.to(device), tokens=self.tokens.to(device))


@dataclass(frozen=True)
class Demonstrations:
    """Observation-action pairs to imitate: ``features`` and proprio over M rows; obs_index [N], action [N, H, A]."""

    features: Features
    proprio: Tensor
    obs_index: Tensor
    action: Tensor

    @classmethod
    def from_episodes(cls, episodes: Sequence[Episode]) -> Demonstrations:
        """Every step of episodes that carry latents; the action is the executed one, as a chunk of one (H = 1)."""
        _require_steps(episodes)
        rows, _ = _observation_rows(episodes)
        return cls(_stored(episodes), _proprio(episodes), torch.from_numpy(rows),
                   torch.from_numpy(np.concatenate([e.executed for e in episodes]))[:, None])  # fmt: skip

    def __len__(self) -> int:
        return len(self.obs_index)

    def to(self, device: torch.device) -> Demonstrations:
        return Demonstrations(self.features.to(device), self.proprio.to(device), self.obs_index.to(device),
                              self.action.to(device))  # fmt: skip


@dataclass(frozen=True)
class RolloutBatch:
    """N on-policy steps over M observations, all from one version of the head.

    features and proprio [M, P] hold all T+1 observations of each episode; obs_index and next_index [N] point into
    them. action [N, H, A] is what the policy proposed, raw and unclipped (H = 1); log_prob, reward float32 [N];
    terminated, truncated bool [N].
    """

    features: Features
    proprio: Tensor
    obs_index: Tensor
    next_index: Tensor
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    head_version: int

    @classmethod
    def from_latents(cls, episodes: Sequence[Episode], head_version: int) -> RolloutBatch:
        """For learning on stored latents. Raises ``DataError`` on mixed head versions or missing latents."""
        _require_steps(episodes)
        return cls._build(_stored(episodes), episodes, head_version)

    @classmethod
    def from_images(cls, episodes: Sequence[Episode], head_version: int, backbone: Backbone,
                    cameras: Sequence[str]) -> RolloutBatch:  # fmt: skip
        """For learning through the backbone: keeps the images of ``cameras``, in that order, and the tokens."""
        _require_steps(episodes)
        images = [np.stack([episode.images[camera] for camera in cameras], axis=1) for episode in episodes]
        rows = torch.tensor([len(episode) + 1 for episode in episodes])
        tokens = backbone.tokenize([episode.meta.instruction for episode in episodes]).repeat_interleave(rows, dim=0)
        features = BackboneFeatures(backbone, torch.from_numpy(np.concatenate(images)), tokens)
        return cls._build(features, episodes, head_version)

    @classmethod
    def _build(cls, features: Features, episodes: Sequence[Episode], head_version: int) -> RolloutBatch:
        rows, last = _observation_rows(episodes)
        source = np.concatenate([episode.source for episode in episodes])
        versions = np.concatenate([episode.head_version for episode in episodes])
        policy = source == ControlSource.POLICY
        found = sorted({int(v) for v in versions[policy]})
        if found != [head_version]:
            raise DataError(f"head versions {found} in a rollout", f"only version {head_version} may appear",
                            "collect with the current head and drop older episodes")  # fmt: skip
        terminated = np.concatenate([episode.terminated for episode in episodes])
        # Where the policy hands over (a human takes the arm, a recording breaks off) its own stretch is truncated.
        handed_over = last | ~np.append(policy[1:], False)
        truncated = handed_over & ~terminated

        def steps(column: str) -> Tensor:
            return torch.from_numpy(np.concatenate([getattr(episode, column) for episode in episodes])[policy])

        return cls(features, _proprio(episodes), torch.from_numpy(rows[policy]), torch.from_numpy(rows[policy] + 1),
                   steps("proposed")[:, None], steps("log_prob"), steps("reward"), torch.from_numpy(terminated[policy]),
                   torch.from_numpy(truncated[policy]), head_version)  # fmt: skip

    def __len__(self) -> int:
        return len(self.obs_index)

    def to(self, device: torch.device) -> RolloutBatch:
        tensors = ("proprio", "obs_index", "next_index", "action", "log_prob", "reward", "terminated", "truncated")
        return replace(self, features=self.features.to(device), **{n: getattr(self, n).to(device) for n in tensors})


def _require_steps(episodes: Sequence[Episode]) -> None:
    if not any(len(episode) for episode in episodes):
        raise DataError(f"{len(episodes)} episodes without a step", "learning needs steps", "collect episodes first")


def _observation_rows(episodes: Sequence[Episode]) -> tuple[IntArray, BoolArray]:
    """Row of each step's observation when all T+1 rows are concatenated, int64 [N]; is it its episode's last, [N]."""
    rows, last, offset = [], [], 0
    for episode in episodes:
        steps = np.arange(len(episode), dtype=np.int64)
        rows.append(offset + steps)
        last.append(steps == len(episode) - 1)
        offset += len(episode) + 1
    return np.concatenate(rows), np.concatenate(last)


def _proprio(episodes: Sequence[Episode]) -> Tensor:
    return torch.from_numpy(np.concatenate([episode.proprio for episode in episodes]))


def _stored(episodes: Sequence[Episode]) -> StoredLatents:
    latents = []
    for episode in episodes:
        if episode.latents is None:
            raise DataError(f"episode {episode.meta.episode_id!r}", "stage 1 needs its latents",
                            "encode it with the current backbone first")  # fmt: skip
        latents.append(episode.latents)
    return StoredLatents(torch.from_numpy(np.concatenate(latents)))
