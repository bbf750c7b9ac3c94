"""Stages 0 and 2 as data-parallel jobs: episodes become arrays on disk, workers train, the result is a checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import ByteArray, Episode
from irevla_ros.data.reader import SpoolReader
from irevla_ros.jobs.snapshot import Snapshots
from irevla_ros.jobs.supervised_manifest import Source, SupervisedManifest
from irevla_ros.jobs.training import TrainingProgress, train
from irevla_ros.jobs.workers import WorkerPool
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


def lay_out(manifest: SupervisedManifest, arrays: Path) -> None:
    """Verify the inputs of ``manifest`` (its paths as they are) and write its samples to the folder ``arrays``.

    Raises what ``SupervisedManifest.verify``, the reader and ``write_arrays`` raise.
    """
    manifest.verify()
    backbone = initial_vla(*_starts(manifest), manifest.backbone, manifest.cameras).backbone
    write_arrays(arrays, [_episodes(source, manifest.cameras) for source in manifest.sources], manifest.cameras, backbone)


def train_supervised(
    manifest: SupervisedManifest,
    pool: WorkerPool,
    arrays: Path,
    snapshots: Snapshots,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> None:
    """Train on what ``lay_out`` wrote and leave the checkpoint at ``save_as``.

    A killed run goes on from its snapshot, which is gone at the end.
    """
    training = SupervisedTraining(
        str(arrays), *_starts(manifest), str(manifest.save_as), manifest.trains,
        tuple(source.weight for source in manifest.sources), manifest.backbone, manifest.cameras, dict(manifest.provenance),
    )  # fmt: skip
    train(pool, training, manifest.training, batch=manifest.batch, seed=manifest.seed, augmentation=manifest.augmentation,
          snapshots=snapshots, on_progress=on_progress)  # fmt: skip
    snapshots.path.unlink(missing_ok=True)


def _starts(manifest: SupervisedManifest) -> tuple[str, str]:
    """Folders of ``init_from`` and ``head_from``; "" for none."""
    first, head = ("" if ref is None else str(ref.folder) for ref in (manifest.init_from, manifest.head_from))
    return first, head


def _episodes(source: Source, cameras: tuple[str, ...]) -> list[Episode]:
    if not source.episodes:
        return []
    reader = SpoolReader(source.spool)
    episodes = []
    for ref in source.episodes:
        known = [camera for camera in cameras if camera in reader.record(ref.id).cameras]
        episodes.append(reader.read(ref.id, cameras=known or None, latents=False))
    return episodes


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
    tokens = backbone.tokenize([episode.meta.instruction for episode in episodes]).numpy()
    columns: dict[str, Iterator[np.ndarray[Any, Any]]] = {
        "images": (_frames(episode, cameras, backbone.image_size) for episode in episodes),
        "proprio": (episode.proprio[:-1] for episode in episodes),
        "actions": (episode.executed[:, None] for episode in episodes),
        "tokens": (np.repeat(row[None], len(e), axis=0) for row, e in zip(tokens, episodes, strict=True)),
    }
    for name, parts in columns.items():
        _write_column(folder / f"{name}.npy", parts, steps)
    tasks = [[e.meta.task for e in source for _ in range(len(e))] for source in sources]
    (folder / "tasks.json").write_text(json.dumps(tasks))


def _frames(episode: Episode, cameras: tuple[str, ...], size: tuple[int, int]) -> ByteArray:
    """uint8 [T, C, H, W, 3], the frames before each action; ``DataError`` when a camera's are missing or of another size."""
    for camera in cameras:
        frames = episode.images.get(camera)
        if frames is None:
            seen = ", ".join(repr(name) for name in sorted(episode.images)) or "none"
            raise DataError(f"episode {episode.meta.episode_id!r} has no frame from camera {camera!r} (frames from: {seen})",
                            f"the policy needs one from each of {list(cameras)}",
                            "record it with that camera, or discard it, or set scene.cameras")  # fmt: skip
        if frames.shape[1:3] != size:
            raise DataError(f"episode {episode.meta.episode_id!r}: frames of {camera!r} are {list(frames.shape[1:3])}",
                            f"the backbone sees {list(size)}", "record it in that size, or discard it")  # fmt: skip
    return np.stack([episode.images[camera][:-1] for camera in cameras], axis=1)


def _write_column(path: Path, parts: Iterator[np.ndarray[Any, Any]], rows: int) -> None:
    """One npy file of ``rows`` rows from consecutive parts. Not through a memory map, where a full disk kills by SIGBUS."""
    first = next(parts)
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (rows, *first.shape[1:])}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in itertools.chain([first], parts):
            file.write(np.ascontiguousarray(part).data)


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
