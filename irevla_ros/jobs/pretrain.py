"""`irevla pretrain`: make the weights of a tiny backbone from synthetic image-text pairs of the simulator."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from irevla_ros import __version__
from irevla_ros.core.config import to_dict
from irevla_ros.core.types import ByteArray, FloatArray, IntArray
from irevla_ros.data.files import disk_errors
from irevla_ros.jobs.progress import Progress
from irevla_ros.jobs.training import TrainingProgress, train
from irevla_ros.jobs.workers import Send, WorkerContext, WorkerPool
from irevla_ros.learn.augment import Augmentation
from irevla_ros.learn.grounding import GRID, GroundingLoss
from irevla_ros.learn.supervised import Batch, BCConfig
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.tiny import TinyBackbone
from irevla_ros.sim.captions import CENTRE, COLOUR_NAMES, SCALE, frames
from irevla_ros.sim.world import FRONT


@dataclass(frozen=True)
class PretrainConfig:
    """Recipe of the shipped weights. ``frames`` images with several questions each; ``training`` about five minutes."""

    backbone: str = "tiny"
    frames: int = 24000
    held_out: int = 1000
    batch: int = 128
    seed: int = 0
    workers: int = 2
    training: BCConfig = field(
        default_factory=lambda: BCConfig(steps=2200, backbone_lr=2e-3, head_lr=2e-3, warmup_steps=200)
    )
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(shift=0))


COLUMNS = ("frame", "question", "place", "colour", "state")


def pretrain(config: PretrainConfig, out: Path) -> dict[str, float]:
    """Render, train, write ``out`` (safetensors); returns the errors on held-out scenes, places in metres."""
    with WorkerPool(config.workers) as pool, tempfile.TemporaryDirectory() as folder:
        count = config.workers * -(-(config.frames + config.held_out) // config.workers)
        with Progress(count, "rendering scenes") as progress:
            progress.update(0)
            _render(pool, config, Path(folder), progress)
        with Progress(config.training.steps, "pretraining") as progress:
            progress.update(0)

            def report(news: TrainingProgress) -> None:
                progress.update(news.step - progress.done, f"loss {news.metrics['loss']:.3f}")

            training = _Pretraining(config, folder, str(out))
            train(pool, training, config.training, batch=config.batch, seed=config.seed,
                  augmentation=config.augmentation, on_progress=report)  # fmt: skip
        return _evaluate(config, Path(folder), out)


@dataclass(frozen=True)
class _Pretraining:
    config: PretrainConfig
    folder: str
    out: str

    def build(self) -> GroundingLoss:
        return GroundingLoss(build_backbone(self.config.backbone), len(COLOUR_NAMES))

    def load(self) -> _Captions:
        backbone = build_backbone(self.config.backbone)
        return _Captions(backbone, Path(self.folder), self.config.workers, range(0, self.config.frames))

    def save(self, loss: GroundingLoss) -> None:
        assert isinstance(loss.backbone, TinyBackbone)
        loss.backbone.save_pretrained(
            Path(self.out),
            seed=str(self.config.seed),
            config=json.dumps(to_dict(self.config)),
            irevla_ros=__version__,
        )
        torch_state = {name: tensor.numpy() for name, tensor in loss.state_dict().items()}
        np.savez(Path(self.folder) / "reader.npz", **torch_state)


class _Captions:
    """Rendered frames on disk and their questions; the i-th sample is one question."""

    def __init__(self, backbone: object, folder: Path, parts: int, wanted: range) -> None:
        assert isinstance(backbone, TinyBackbone)
        images: list[ByteArray] = []
        tips: list[FloatArray] = []
        columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        offset = 0
        for part in range(parts):
            images.append(np.load(folder / f"images{part}.npy", mmap_mode="r"))
            tips.append(np.load(folder / f"tip{part}.npy"))
            with np.load(folder / f"captions{part}.npz") as captions:
                for name in COLUMNS:
                    columns[name].append(captions[name] + offset if name == "frame" else captions[name])
            offset += len(images[-1])
        # Parts interleave, so that the held-out tail comes from every worker.
        starts = np.cumsum([0, *(len(part) for part in images)])
        chosen = np.zeros(offset, bool)
        chosen[[starts[index % parts] + index // parts for index in wanted]] = True
        self._images = images
        self._starts: IntArray = starts.astype(np.int64)
        self._tip = np.concatenate(tips)
        joined = {name: np.concatenate(values) for name, values in columns.items()}
        keep = chosen[joined["frame"]]
        self._columns = {name: values[keep] for name, values in joined.items()}
        self._patch = _patches(self._columns["place"])
        self._tokens = backbone.tokenize([str(q) for q in self._columns["question"]])
        asked_state = np.where(self._columns["state"] >= 0, "state", "place")
        kinds = np.where(self._columns["colour"] >= 0, "relation", asked_state)
        names = np.array(["a", "b", "c", "d"])  # places are asked four times as often as the rest
        spread = np.char.add("place-", names[np.arange(len(kinds)) % 4])
        self.tasks = [[str(k) for k in np.where(kinds == "place", spread, kinds)]]
        self.weights = [1.0]

    def __len__(self) -> int:
        return len(self._tokens)

    def batch(self, pairs: torch.Tensor) -> Batch:
        rows = pairs[:, 1].numpy()
        frame = self._columns["frame"][rows]
        part = np.searchsorted(self._starts, frame, side="right") - 1
        images = np.stack([self._images[p][f - self._starts[p]] for p, f in zip(part, frame, strict=True)])
        return (
            torch.from_numpy(images)[:, None],
            self._tokens[rows],
            torch.from_numpy(self._columns["place"][rows]),
            torch.from_numpy(self._columns["colour"][rows]),
            torch.from_numpy(self._columns["state"][rows]),
            torch.from_numpy(self._patch[rows]),
            torch.from_numpy(self._tip[frame]),
        )


def _patches(place: FloatArray) -> IntArray:
    """Number of the image patch that shows each normalised place [N, 3]; -1 where it is not asked or out of view."""
    seen = FRONT.project(place * SCALE + CENTRE)
    shown = ((seen > 0) & (seen < 1)).all(axis=1)
    cell = (np.nan_to_num(seen) * GRID).astype(np.int64)
    return np.where(shown, cell[:, 1] * GRID + cell[:, 0], -1)


def _render(pool: WorkerPool, config: PretrainConfig, folder: Path, progress: Progress) -> None:
    count = -(-(config.frames + config.held_out) // pool.size)
    arguments = [{"folder": str(folder), "count": count, "seed": config.seed, "size": 64}] * pool.size
    pool.run(_render_part, arguments, progress.update)


def _render_part(context: WorkerContext, send: Send, folder: str, count: int, seed: int, size: int) -> None:
    images = np.empty((count, size, size, 3), np.uint8)
    tips = np.empty((count, 3), np.float32)
    rows: list[tuple[int, str, FloatArray, int, int]] = []
    source = frames(seed * 1000 + context.rank, size)
    for index, frame in zip(range(count), source, strict=False):
        images[index], tips[index] = frame.image, frame.tip
        for caption in frame.captions:
            place = np.full(3, np.nan) if caption.place is None else caption.place
            colour = -1 if caption.colour is None else caption.colour
            state = -1 if caption.state is None else caption.state
            rows.append((index, caption.question, place.astype(np.float32), colour, state))
        if index % 50 == 49 or index == count - 1:
            send(index % 50 + 1)
    columns = {name: np.array(values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    with disk_errors(Path(folder) / f"images{context.rank}.npy"):
        np.save(Path(folder) / f"images{context.rank}.npy", images)
        np.save(Path(folder) / f"tip{context.rank}.npy", tips)
        np.savez(Path(folder) / f"captions{context.rank}.npz", **columns)


def _evaluate(config: PretrainConfig, folder: Path, out: Path) -> dict[str, float]:
    training = _Pretraining(config, str(folder), str(out))
    loss = training.build().eval()
    with np.load(folder / "reader.npz") as state:
        loss.load_state_dict({name: torch.from_numpy(state[name]) for name in state.files})
    held_out = range(config.frames, config.frames + config.held_out)
    captions = _Captions(loss.backbone, folder, config.workers, held_out)
    rows = torch.arange(len(captions))
    images, tokens, place, colour, state_asked, *_ = captions.batch(torch.stack([torch.zeros_like(rows), rows], dim=1))
    errors = loss.errors(images, tokens, place, colour, state_asked)
    metres = float(SCALE[:2].mean())
    return {name: value * metres if name.startswith("place") else value for name, value in errors.items()}
