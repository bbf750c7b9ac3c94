"""A success classifier on the frozen VLM's latents: small heads that compare an observation with the episode's start."""

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
from irevla_ros.policy.place_reader import PlaceReader
from irevla_ros.policy.tensor_file import load_into, read_tensors, write_tensors
from irevla_ros.policy.vla import VLA
from irevla_ros.rewards.classifier import ClassifierReward
from irevla_ros.rewards.course import FEATURES, Track, follow
from irevla_ros.rewards.detector import Debounce

FORMAT = "irevla_success_head_2"
SIZES = HeadConfig(seeds=4, attention_heads=4, hidden=64)
COURSE_HIDDEN = 32


@dataclass(frozen=True)
class SuccessSpec:
    """What a file says of its heads. fingerprint: of the backbone, checkpoint: where that was at the training.

    width, proprio_size: of its latents and proprioception. reads: a reader of places goes before the heads. heads: as many are
    averaged. thresholds: task -> probability from which on an observation shows success; hold: so many in a row are believed.
    """

    fingerprint: str
    checkpoint: str
    width: int
    proprio_size: int
    reads: bool
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


class PairNet(nn.Module):
    """A head for a backbone without a reader: latents [B, m, d] and proprioception [B, P] of an observation, and of the
    episode's first -> logits [B].

    Success is often a change: an object that is 7 cm away from where it lay. One picture does not show that; two do.
    """

    rate = 1e-3  # of learning

    def __init__(self, width: int, proprio_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(2 * width, 2 * proprio_size, SIZES)
        self.out = nn.Linear(SIZES.hidden, 1)

    def forward(self, latents: Tensor, first_latents: Tensor, proprio: Tensor, first_proprio: Tensor) -> Tensor:
        pairs = torch.cat([latents, first_latents - latents], dim=2)
        logits: Tensor = self.out(self.trunk(pairs, torch.cat([proprio, first_proprio - proprio], dim=1)))
        return logits.squeeze(1)

    def noisy(self, latents: Tensor, first_latents: Tensor, *proprio: Tensor) -> tuple[Tensor, ...]:
        """Inputs for training: the latents are of about unit scale."""
        return (*(one + 0.3 * torch.randn_like(one) for one in (latents, first_latents)), *proprio)


class CourseNet(nn.Module):
    """Heads behind a reader, one for each task: features of ``follow`` [B, FEATURES], number of the task [B] -> logits [B]."""

    rate = 3e-3

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(FEATURES, COURSE_HIDDEN), nn.Tanh(), nn.Dropout(0.1),
                          nn.Linear(COURSE_HIDDEN, COURSE_HIDDEN), nn.Tanh(), nn.Linear(COURSE_HIDDEN, 1))
            for _ in range(tasks)
        )  # fmt: skip

    def forward(self, features: Tensor, task: Tensor) -> Tensor:
        logits = torch.cat([head(features) for head in self.heads], dim=1)
        return logits.gather(1, task[:, None]).squeeze(1)

    def noisy(self, features: Tensor, task: Tensor) -> tuple[Tensor, ...]:
        """Inputs for training."""
        return features + 0.3 * torch.randn_like(features), task


Net = PairNet | CourseNet
State = tuple[Tensor, Tensor] | Track  # what is kept of an episode: its first observation, or where the thing is


class SuccessHeads(nn.Module):
    """The heads of a file, averaged and calibrated, and the reader before them."""

    def __init__(self, spec: SuccessSpec) -> None:
        super().__init__()
        self.spec = spec
        self.reader = PlaceReader(spec.width) if spec.reads else None
        self.nets = nn.ModuleList(self.new_net() for _ in range(spec.heads))

    def new_net(self) -> Net:
        return CourseNet(len(self.spec.thresholds)) if self.spec.reads else PairNet(self.spec.width, self.spec.proprio_size)

    @torch.no_grad()
    def inputs(
        self, latents: Tensor, proprio: Tensor, task: str, state: State | None = None
    ) -> tuple[tuple[Tensor, ...], State | None]:
        """Latents [T, m, d] and proprioception [T, P] of an episode of ``task`` -> the arguments of a net, each [T, ...], and
        the state for what comes next. state: of what came before; None at the start of an episode.
        """
        if self.reader is None:
            first = state if isinstance(state, tuple) else (latents[:1], proprio[:1])
            pairs = zip((latents, proprio), first, strict=True)
            return tuple(one for now, then in pairs for one in (now.float(), then.float().expand_as(now))), first
        number, track = sorted(self.spec.thresholds).index(task), state if isinstance(state, Track) else None
        rows = []
        for row in range(len(latents)):
            track, features = follow(self.reader, latents[row : row + 1], proprio[row : row + 1], track)
            rows.append(features)
        return (torch.cat(rows), torch.full((len(rows),), number)), track

    @torch.inference_mode()
    def forward(self, *inputs: Tensor) -> Tensor:
        """What ``inputs`` gave -> probabilities [B]."""
        return torch.sigmoid(torch.stack([net(*inputs) for net in self.nets]).mean(dim=0) / self.spec.temperature)

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
        self._state: State | None = None
        self._task = ""

    def begin(self, task: str) -> None:
        self._state, self._task = None, task

    def __call__(self, observation: Observation, info: Mapping[str, Any]) -> float:
        proprio = torch.from_numpy(observation.proprio)[None]
        latents = torch.from_numpy(info["latents"])[None] if "latents" in info else self._encode(observation)
        inputs, self._state = self._heads.inputs(latents, proprio, self._task, self._state)
        return float(self._heads(*inputs))

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
