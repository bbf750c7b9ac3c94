"""Where the thing is that an instruction names, read from the latents of a frozen backbone whose latents are image patches."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irevla_ros.core.errors import CheckpointError
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.policy.tensor_file import load_into, read_tensors, write_tensors

FORMAT = "irevla_place_reader_1"
READER = "reader.safetensors"  # beside a checkpoint's backbone, which may have none
GRID = 8  # patches along each side of the image
CENTRE_M, SCALE_M = (0.48, 0.0), (0.1, 0.15)  # of places on the table, as the backbone was pretrained on them
HIDDEN, STATE_HIDDEN, POSITION = 256, 96, 16
OFFSET = 0.3  # of the scale: about the size of a patch
TOUCH_M = 0.02  # over which contact changes
CAP_M = 0.03  # about as high as a button's cap
MOVES_M = 0.1  # farther than a thing moves between two observations, and more than one patch
SPREAD_M = 0.17  # standard error of a place for a Laplace scale of 1


class PlaceReader(nn.Module):
    """Finds the patch that the latents refer to, and from its neighbourhood the place within it, as detectors do.

    Trained by ``irevla reward reader`` on pictures of the simulator, with the backbone as it is. ``pressed`` tells from the
    place and the arm whether the button there is down, which no picture of this size shows under a hand.
    """

    def __init__(self, width: int, proprio: ProprioSpec = ProprioSpec()) -> None:
        super().__init__()
        patches = GRID * GRID
        self.refer = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, 1))
        self.prior = nn.Parameter(torch.zeros(patches))
        self.anchors = nn.Parameter(torch.zeros(patches, 2))
        self.positions = nn.Parameter(0.3 * torch.randn(patches, POSITION))
        self.place = nn.Sequential(
            nn.Linear(10 * width + proprio.size + POSITION, HIDDEN), nn.LayerNorm(HIDDEN), nn.GELU(),
            nn.Linear(HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 3),
        )  # fmt: skip
        self.state = nn.Sequential(nn.Linear(7, STATE_HIDDEN), nn.GELU(), nn.Linear(STATE_HIDDEN, STATE_HIDDEN), nn.GELU(),
                                   nn.Linear(STATE_HIDDEN, 1))  # fmt: skip
        cells = F.pad(torch.arange(patches).view(GRID, GRID), (1, 1, 1, 1), value=patches)
        around = [cells[row : row + GRID, column : column + GRID].reshape(-1) for row in range(3) for column in range(3)]
        self.register_buffer("around", torch.stack(around, dim=1), persistent=False)
        self.register_buffer("tip_centre", torch.tensor(proprio.centre[:3]))
        self.register_buffer("tip_scale", torch.tensor(proprio.scale[:3]))
        self.register_buffer("centre", torch.tensor(CENTRE_M), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE_M), persistent=False)
        self.around: Tensor
        self.tip_centre: Tensor
        self.tip_scale: Tensor
        self.centre: Tensor
        self.scale: Tensor

    def referred(self, latents: Tensor) -> Tensor:
        """Latents [B, m, d] -> a logit [B, m] for each patch: does it show the thing?"""
        logits: Tensor = self.refer(latents)[:, :, 0] + self.prior
        return logits

    def within(self, latents: Tensor, proprio: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
        """The place [B, 2] near patch [B], normalised by CENTRE_M and SCALE_M, and the logarithm [B] of Laplace's scale of the
        sum of both errors."""
        padded = F.pad(latents, (0, 0, 0, 1))
        near = self.around[patch][:, :, None].expand(-1, -1, latents.shape[2])
        local = padded.gather(1, near).flatten(1)
        out = self.place(torch.cat([local, latents.mean(dim=1), proprio, self.positions[patch]], dim=1))
        return self.anchors[patch] + OFFSET * out[:, :2], out[:, 2].clamp(-7.0, 3.0)

    def forward(self, latents: Tensor, proprio: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents [B, m, d], proprioception [B, P] -> place on the table [B, 2] (m, base frame) and its standard error [B] (m).

        beside [B, 2]: where the thing was a moment ago; only patches near there are considered.
        """
        logits = self.referred(latents)
        if beside is not None:
            away = (self.centre + self.scale * self.anchors - beside[:, None]).norm(dim=2)
            logits = logits.masked_fill(away > away.min(dim=1, keepdim=True).values.clamp(min=MOVES_M), -torch.inf)
        place, spread = self.within(latents, proprio, logits.argmax(dim=1))
        return self.centre + self.scale * place, SPREAD_M * torch.exp(spread)

    def tip(self, proprio: Tensor) -> Tensor:
        """Proprioception [B, P] -> the tip [B, 3], m."""
        return self.tip_centre + self.tip_scale * proprio[:, :3]

    def pressed(self, proprio: Tensor, place: Tensor) -> Tensor:
        """Proprioception [B, P], place of a button [B, 2] (m) -> logit [B]: the arm holds it down."""
        tip = self.tip(proprio)
        away = ((tip[:, :2] - place) / TOUCH_M).clamp(-5.0, 5.0)
        height = ((tip[:, 2:] - CAP_M) * 100).clamp(-3.0, 3.0)
        crossed = (away[:, :1] * away[:, 1:]).clamp(-5.0, 5.0)
        distance = away.norm(dim=1, keepdim=True).clamp(0.0, 5.0)
        inputs = torch.cat([away, distance, height, 3 * proprio[:, 4:5], proprio[:, 5:6], crossed], dim=1)
        logit: Tensor = self.state(inputs)[:, 0]
        return logit


def save_reader(path: Path, reader: PlaceReader, fingerprint: str, **provenance: str) -> str:
    """Write the reader of the backbone with ``fingerprint``; returns the file's SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tensors(path, reader.state_dict(), {"format": FORMAT, "fingerprint": fingerprint, **provenance})


def load_reader(folder: Path, fingerprint: str, width: int) -> PlaceReader | None:
    """The reader of the checkpoint in ``folder``; None when it has none. ``CheckpointError`` when it is damaged or of another
    backbone."""
    path = folder / READER
    if not path.exists():
        return None
    file = read_tensors(path)
    if (file.metadata.get("format"), file.metadata.get("fingerprint")) != (FORMAT, fingerprint):
        raise CheckpointError(f"{path} reads backbone {file.metadata.get('fingerprint', 'unknown')[:12]}",
                              f"the latents of backbone {fingerprint[:12]} mean nothing to it",
                              "train it anew by irevla reward reader, or remove it")  # fmt: skip
    reader = PlaceReader(width)
    load_into(reader, file, path)
    return reader.eval().requires_grad_(False)
