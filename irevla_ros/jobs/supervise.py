"""Stages 0 and 2 as data-parallel jobs: episodes become arrays on disk, workers train, the result is a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Episode
from irevla_ros.learn.supervised import Batch, BCLoss
from irevla_ros.policy.backbone import Backbone, build_backbone
from irevla_ros.policy.checkpoint import load_vla, save_vla
from irevla_ros.policy.vla import VLA, build_vla


@dataclass(frozen=True)
class SupervisedTraining:
    """Behaviour cloning of a checkpoint's VLA on ``arrays`` (see ``write_arrays``); a ``Training``.

    ``init_from`` "" stands for the pretrained ``backbone`` with a new head; ``head_from`` is the checkpoint that the
    head comes from. ``weights`` is the share of each source in a batch.
    """

    arrays: str
    init_from: str
    head_from: str
    save_as: str
    trains: str
    weights: tuple[float, ...]
    backbone: str
    cameras: tuple[str, ...]
    provenance: dict[str, Any]

    def build(self) -> BCLoss:
        return BCLoss(initial_vla(self.init_from, self.head_from, self.backbone, self.cameras), self.trains == "all")

    def load(self) -> ArraySamples:
        return ArraySamples(Path(self.arrays), self.weights)

    def save(self, loss: BCLoss) -> None:
        save_vla(Path(self.save_as), loss.vla.requires_grad_(True), self.provenance)


def initial_vla(init_from: str, head_from: str, backbone: str, cameras: tuple[str, ...]) -> VLA:
    """The VLA in which a supervised stage starts; a fresh one has shipped weights in its backbone and a new head."""
    if not init_from:
        several = {"cameras": len(cameras)} if len(cameras) > 1 else {}
        return build_vla(build_backbone(backbone, pretrained=True, **several), cameras=cameras)
    vla, _ = load_vla(Path(init_from))
    if head_from and head_from != init_from:
        vla.head.load_state_dict(load_vla(Path(head_from))[0].head.state_dict())
    return vla


def write_arrays(folder: Path, sources: Sequence[Sequence[Episode]], cameras: tuple[str, ...], backbone: Backbone) -> None:
    """Lay out the steps of every source's episodes as arrays that many processes can map at once."""
    folder.mkdir(parents=True, exist_ok=True)
    episodes = [episode for source in sources for episode in source]
    steps = sum(len(episode) for episode in episodes)
    if steps == 0:
        raise DataError(f"{len(episodes)} episodes for supervised learning", "at least one step is needed",
                        "collect demonstrations first")  # fmt: skip
    first = episodes[0].images[cameras[0]]
    images = np.lib.format.open_memmap(
        folder / "images.npy", "w+", np.uint8, (steps, len(cameras), *first.shape[1:])
    )
    row = 0
    for episode in episodes:
        for index, camera in enumerate(cameras):
            images[row : row + len(episode), index] = episode.images[camera][:-1]
        row += len(episode)
    images.flush()
    np.save(folder / "proprio.npy", np.concatenate([episode.proprio[:-1] for episode in episodes]))
    np.save(folder / "actions.npy", np.concatenate([episode.executed for episode in episodes])[:, None])
    tokens = backbone.tokenize([episode.meta.instruction for episode in episodes]).numpy()
    np.save(folder / "tokens.npy", np.repeat(tokens, [len(episode) for episode in episodes], axis=0))
    tasks = [[e.meta.task for e in source for _ in range(len(e))] for source in sources]
    (folder / "tasks.json").write_text(json.dumps(tasks))


class ArraySamples:
    """What ``write_arrays`` wrote, as training ``Samples``."""

    def __init__(self, folder: Path, weights: Sequence[float]) -> None:
        self._images = np.load(folder / "images.npy", mmap_mode="r")
        self._rest = [torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("tokens", "proprio", "actions")]
        self.tasks: list[list[str]] = json.loads((folder / "tasks.json").read_text())
        # A source that is still empty (no success yet) gives its share to the others.
        self.weights = [weight if tasks else 0.0 for weight, tasks in zip(weights, self.tasks, strict=True)]
        self._starts = torch.tensor([0, *(len(tasks) for tasks in self.tasks)]).cumsum(0)

    def batch(self, pairs: torch.Tensor) -> Batch:
        rows = self._starts[pairs[:, 0]] + pairs[:, 1]
        return (torch.from_numpy(self._images[rows.numpy()]), *(column[rows] for column in self._rest))
