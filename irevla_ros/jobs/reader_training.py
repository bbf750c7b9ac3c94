"""`irevla reward reader`: teach a place reader on pictures of the simulator, with the backbone of a checkpoint as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from irevla_ros.core.errors import ConfigError
from irevla_ros.policy.backbone import Backbone
from irevla_ros.policy.place_reader import GRID, PlaceReader
from irevla_ros.policy.vla import VLA
from irevla_ros.sim.touches import Touch
from irevla_ros.sim.world import FRONT

RENDERED = 250  # touches that are encoded at once


@dataclass(frozen=True)
class ReaderTraining:
    """Recipe of the shipped reader. touches: pictures with an instruction, of which a fiftieth is for the check alone.

    place_error_m: normal error of the places from which the state is learned, as large as that of the reading.
    """

    touches: int = 100_000
    steps: int = 7_000
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    state_batch: int = 1_024
    state_learning_rate: float = 3e-3
    place_error_m: float = 0.0025
    seed: int = 0

    @property
    def held_out(self) -> int:
        return self.touches // 50

    @property
    def state_steps(self) -> int:
        return self.steps // 2

    def __post_init__(self) -> None:
        if self.touches < 100 or self.steps < 2:
            raise ConfigError(f"touches = {self.touches}, steps = {self.steps}", "at least 100 and 2",
                              "see irevla reward reader --help")  # fmt: skip


@dataclass(frozen=True)
class Touches:
    """latents float16 [N, m, d], proprio float32 [N, P], place float32 [N, 2] (m), patch int64 [N] that shows it (-1: none),
    pressed float32 [N] (NaN: no button)."""

    latents: Tensor
    proprio: Tensor
    place: Tensor
    patch: Tensor
    pressed: Tensor

    def __getitem__(self, part: slice) -> Touches:
        return Touches(*(column[part] for column in (self.latents, self.proprio, self.place, self.patch, self.pressed)))


def reads_patches(vla: VLA) -> None:
    """``ConfigError`` unless the latents of ``vla`` are the patches of the one camera that touches are rendered by."""
    if vla.cameras != (FRONT.name,) or vla.backbone.latent_shape[0] != GRID * GRID:
        raise ConfigError(f"cameras {list(vla.cameras)} and {vla.backbone.latent_shape[0]} latents",
                          f"a reader needs camera {FRONT.name!r} alone and {GRID * GRID} latents, its patches",
                          "go on without a reader")  # fmt: skip


@torch.no_grad()
def encode_touches(source: Iterable[Touch], count: int, backbone: Backbone, progress: Callable[[int], None]) -> Touches:
    """The first ``count`` of ``source``."""
    columns: list[list[Tensor]] = [[], [], [], [], []]
    stream = iter(source)
    for start in range(0, count, RENDERED):
        part = list(islice(stream, min(RENDERED, count - start)))
        images = torch.from_numpy(np.stack([one.image for one in part]))[:, None]
        latents = backbone.encode(images, backbone.tokenize([one.instruction for one in part])).half()
        place = np.stack([one.place for one in part])
        values = (np.stack([one.proprio for one in part]), place[:, :2].astype(np.float32), patches(place),
                  np.array([one.pressed for one in part], np.float32))  # fmt: skip
        for column, value in zip(columns, (latents, *map(torch.from_numpy, values)), strict=True):
            column.append(value)
        progress(len(part))
    return Touches(*map(torch.cat, columns))


def train_reader(touches: Touches, config: ReaderTraining, progress: Callable[[int], None]) -> PlaceReader:
    """``progress`` is called with 1 for each of ``steps`` + ``state_steps``."""
    torch.manual_seed(config.seed)
    reader = PlaceReader(touches.latents.shape[2])
    _learn_places(reader, touches, config, progress)
    _learn_state(reader, touches, config, progress)
    return reader.eval().requires_grad_(False)


@torch.inference_mode()
def check_reader(reader: PlaceReader, touches: Touches) -> dict[str, float]:
    """Errors on ``touches``: of places that the picture shows (mm), of patches and of states (shares)."""
    shown, button = touches.patch >= 0, ~touches.pressed.isnan()
    place, _ = reader(touches.latents.float(), touches.proprio)
    error = 1000 * (place - touches.place)[shown].norm(dim=1)
    patch = reader.referred(touches.latents.float()).argmax(dim=1)
    pressed = reader.pressed(touches.proprio[button], touches.place[button]) > 0
    return {
        "place_mm": float(error.median()),
        "place_mm_p90": float(error.quantile(0.9)),
        "patch_wrong": float((patch != touches.patch)[shown].float().mean()),
        "pressed_wrong": float((pressed != (touches.pressed[button] > 0)).float().mean()),
    }


def patches(place: np.ndarray) -> np.ndarray:
    """Places [N, 3] (m) -> the number of the patch that shows each, row by row; -1 where it is out of view."""
    seen = FRONT.project(place)
    cell = (np.clip(seen, 0.0, 0.999) * GRID).astype(np.int64)
    return np.where(((seen > 0) & (seen < 1)).all(axis=1), cell[:, 1] * GRID + cell[:, 0], -1)


def _learn_places(reader: PlaceReader, touches: Touches, config: ReaderTraining, progress: Callable[[int], None]) -> None:
    goals = (touches.place - reader.centre) / reader.scale
    shown = (touches.patch >= 0).nonzero().squeeze(1)
    with torch.no_grad():
        for patch in touches.patch[shown].unique():
            reader.anchors[patch] = goals[touches.patch == patch].mean(dim=0)
    parts = [reader.refer, reader.place]
    weights = [reader.prior, reader.anchors, reader.positions, *(one for part in parts for one in part.parameters())]
    step = _descent(weights, config.learning_rate, config.weight_decay, config.steps)
    for _ in range(config.steps):
        rows = shown[torch.randint(len(shown), (config.batch,))]
        latents, patch, goal = touches.latents[rows].float(), touches.patch[rows], goals[rows]
        logits = reader.referred(latents)
        place, spread = reader.within(latents, touches.proprio[rows], _misread(patch, logits))
        off = (place - goal).abs().sum(dim=1)
        step(0.3 * F.cross_entropy(logits, patch) + (off * torch.exp(-spread) + 2 * spread).mean()
             + 10 * F.smooth_l1_loss(place, goal, beta=0.1))  # fmt: skip
        progress(1)


def _misread(patch: Tensor, logits: Tensor) -> Tensor:
    """The patches to read at: half of them as the reader finds them, some beside the right one; none further off."""
    row, column = patch // GRID, patch % GRID
    moved = torch.randint(-1, 2, (2, len(patch))) * (torch.rand(len(patch)) < 0.3)
    beside = (row + moved[0]).clamp(0, GRID - 1) * GRID + (column + moved[1]).clamp(0, GRID - 1)
    read = torch.where(torch.rand(len(patch)) < 0.5, logits.argmax(dim=1), beside)
    far = ((read // GRID - row).abs() > 1) | ((read % GRID - column).abs() > 1)
    return torch.where(far, patch, read)


def _learn_state(reader: PlaceReader, touches: Touches, config: ReaderTraining, progress: Callable[[int], None]) -> None:
    button = (~touches.pressed.isnan()).nonzero().squeeze(1)
    low = button[reader.tip(touches.proprio[button])[:, 2] < 0.04]  # three quarters of a batch: where it is decided
    step = _descent(list(reader.state.parameters()), config.state_learning_rate, 0.01, config.state_steps)
    for _ in range(config.state_steps):
        parts = (low, 3 * config.state_batch // 4), (button, config.state_batch // 4)
        rows = torch.cat([part[torch.randint(len(part), (count,))] for part, count in parts])
        place = touches.place[rows] + config.place_error_m * torch.randn(len(rows), 2)
        step(F.binary_cross_entropy_with_logits(reader.pressed(touches.proprio[rows], place), touches.pressed[rows]))
        progress(1)


def _descent(weights: list[Tensor], rate: float, decay: float, steps: int) -> Callable[[Tensor], None]:
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    return step
