"""A success classifier on the frozen VLM's latents: small heads that compare an observation with the episode's first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from irevla_ros.core.errors import CheckpointError, ConfigError
from irevla_ros.core.types import Observation
from irevla_ros.policy.head import HeadConfig, Trunk
from irevla_ros.policy.tensor_file import load_into, read_tensors, write_tensors
from irevla_ros.policy.vla import VLA
from irevla_ros.rewards.classifier import ClassifierReward
from irevla_ros.rewards.detector import Debounce

FORMAT = "irevla_success_head_1"
SIZES = HeadConfig(seeds=4, attention_heads=4, hidden=64)


@dataclass(frozen=True)
class SuccessSpec:
    """What a file says of its heads. fingerprint: of the backbone, checkpoint: where that was at the training.

    width, proprio_size: of its latents and proprioception. heads: as many are averaged. thresholds: task -> probability
    from which on an observation shows success; hold: so many in a row are believed.
    """

    fingerprint: str
    checkpoint: str
    width: int
    proprio_size: int
    heads: int
    thresholds: Mapping[str, float]
    temperature: float = 1.0
    hold: int = 3

    def __post_init__(self) -> None:
        if min(self.width, self.proprio_size, self.heads, self.hold) < 1 or not 0.0 < self.temperature < math.inf:
            raise ConfigError(f"classifier of {self.heads} heads, hold {self.hold}, temperature {self.temperature}",
                              "all are positive", "train it by irevla reward train")  # fmt: skip
        for task, threshold in self.thresholds.items():
            if not 0.0 < threshold <= 1.0:
                raise ConfigError(f"threshold {threshold} of task {task!r}", "a probability above 0", "train it anew")


class SuccessNet(nn.Module):
    """One head: latents [B, m, d] and proprioception [B, P] of an observation, and of the episode's first -> logits [B].

    Success is often a change: an object that is 7 cm away from where it lay. One picture does not show that; two do.
    """

    def __init__(self, width: int, proprio_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(2 * width, 2 * proprio_size, SIZES)
        self.out = nn.Linear(SIZES.hidden, 1)

    def forward(self, latents: Tensor, proprio: Tensor, first_latents: Tensor, first_proprio: Tensor) -> Tensor:
        pairs = torch.cat([latents, first_latents - latents], dim=2)
        logits: Tensor = self.out(self.trunk(pairs, torch.cat([proprio, first_proprio - proprio], dim=1)))
        return logits.squeeze(1)


class SuccessHeads(nn.Module):
    """The heads of a file, averaged and calibrated."""

    def __init__(self, spec: SuccessSpec) -> None:
        super().__init__()
        self.spec = spec
        self.nets = nn.ModuleList(SuccessNet(spec.width, spec.proprio_size) for _ in range(spec.heads))

    @torch.inference_mode()
    def forward(self, latents: Tensor, proprio: Tensor, first_latents: Tensor, first_proprio: Tensor) -> Tensor:
        """As ``SuccessNet``, but probabilities [B]."""
        logits = torch.stack([net(latents.float(), proprio, first_latents.float(), first_proprio) for net in self.nets])
        return torch.sigmoid(logits.mean(dim=0) / self.spec.temperature)

    def detector(self, vla: VLA | None = None, hold: int = 0, release: int = 0) -> Debounce:
        """What judges an episode. It takes the latents that it is given; without any it encodes with ``vla``.

        hold, release: see ``Debounce``; 0 is what it was trained for.
        """
        stream = _Stream(self, vla)
        return Debounce(ClassifierReward(stream, self.spec.thresholds), hold or self.spec.hold, release or self.spec.hold)


class _Stream:
    """The observations of one episode after the other."""

    def __init__(self, heads: SuccessHeads, vla: VLA | None) -> None:
        self._heads, self._vla = heads, vla
        self._first: tuple[Tensor, Tensor] | None = None

    def begin(self) -> None:
        self._first = None

    def __call__(self, observation: Observation, info: Mapping[str, Any]) -> float:
        proprio = torch.from_numpy(observation.proprio)[None]
        latents = torch.from_numpy(info["latents"])[None] if "latents" in info else self._encode(observation)
        if self._first is None:
            self._first = latents, proprio
        return float(self._heads(latents, proprio, *self._first))

    @torch.inference_mode()
    def _encode(self, observation: Observation) -> Tensor:
        assert self._vla is not None
        images, tokens, _ = self._vla.batch([observation])
        return self._vla.latents(images, tokens).half()


def save_success_heads(path: Path, heads: SuccessHeads) -> str:
    """Write the file; returns its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tensors(path, heads.state_dict(), {"format": FORMAT, "spec": json.dumps(asdict(heads.spec))})


def load_success_heads(path: Path, fingerprint: str | None = None) -> SuccessHeads:
    """The heads in ``path``. ``CheckpointError`` when it is no such file, damaged, or of another backbone than the one
    with ``fingerprint`` (None: any)."""
    file = read_tensors(path)
    try:
        if file.metadata.get("format") != FORMAT:
            raise ValueError(f"format {file.metadata.get('format')!r}")
        heads = SuccessHeads(SuccessSpec(**json.loads(file.metadata["spec"])))
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path}", f"it is no success classifier ({error})",
                              "train one by irevla reward train") from None  # fmt: skip
    load_into(heads, file, path)
    if fingerprint not in (None, heads.spec.fingerprint):
        raise CheckpointError(f"{path} is of backbone {heads.spec.fingerprint[:12]}",
                              f"latents of backbone {fingerprint[:12]} mean nothing to it",
                              f"give the checkpoint that it was trained on ({heads.spec.checkpoint}), "
                              "or train it anew by irevla reward train")  # fmt: skip
    return heads.eval().requires_grad_(False)
