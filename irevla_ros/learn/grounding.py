"""Pretraining of a small backbone on image-text pairs: names, places, relations and states."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irevla_ros.learn.supervised import BCConfig
from irevla_ros.policy.backbone import Backbone
from irevla_ros.policy.head import TokenLearner

PLACE, TIP, STATE = 3, 3, 1
GRID = 8  # patches along each side of an image
PATCHES = GRID * GRID


class GroundingLoss(nn.Module):
    """Answers read from the latents by attention pooling and one MLP, thrown away after pretraining.

    Images uint8 [B, C, H, W, 3], tokens [B, L], place [B, 3] (NaN: not asked), colour [B] (-1: not asked), state [B]
    (-1: not asked), patch [B] (-1: not asked), tip [B, 3] (always known) -> scalar loss.

    ``patch`` numbers the latent, row by row, of the image patch that shows the place: choosing it among all latents is
    referring segmentation in its smallest form. Without it, binding words to places stays on a plateau for most of the
    five minutes; a backbone whose latents are not patches (m differs) learns without it.
    """

    def __init__(self, backbone: Backbone, colours: int) -> None:
        super().__init__()
        width = backbone.latent_shape[1]
        self.backbone = backbone
        self.pool = TokenLearner(width, seeds=4, heads=2)
        self.answer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 128), nn.GELU(),
                                    nn.Linear(128, PLACE + TIP + STATE + colours))  # fmt: skip
        self.refer = nn.Linear(width, 1)

    def answers(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Place [B, 3], tip [B, 3], state logit [B], colour logits [B, colours]."""
        return self._read(self.backbone.encode(images, tokens))

    def _read(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        read = self.answer(self.pool(latents))
        place, tip, state, colour = read.split([PLACE, TIP, STATE, read.shape[1] - PLACE - TIP - STATE], dim=1)
        return place, tip, state[:, 0], colour

    def forward(
        self, images: Tensor, tokens: Tensor, place: Tensor, colour: Tensor, state: Tensor, patch: Tensor, tip: Tensor
    ) -> Tensor:
        latents = self.backbone.encode(images, tokens)
        said_place, said_tip, said_state, said_colour = self._read(latents)
        asked_place, asked_colour, asked_state = ~place[:, 0].isnan(), colour >= 0, state >= 0
        # Sums over the batch keep the weight of a question the same, however many of its kind the batch holds.
        loss = F.smooth_l1_loss(said_place[asked_place], place[asked_place], beta=0.3, reduction="sum")
        loss = loss + 0.1 * F.smooth_l1_loss(said_tip, tip, beta=0.3, reduction="sum")
        loss = loss + 0.3 * F.cross_entropy(said_colour[asked_colour], colour[asked_colour], reduction="sum")
        asked = state[asked_state].float()
        loss = loss + 0.5 * F.binary_cross_entropy_with_logits(said_state[asked_state], asked, reduction="sum")
        if latents.shape[1] == PATCHES:
            shown = patch >= 0
            said_patch = self.refer(latents[shown])[:, :, 0]
            loss = loss + 0.5 * F.cross_entropy(said_patch, patch[shown], reduction="sum")
        return loss / len(images)

    def groups(self, config: BCConfig) -> list[dict[str, Any]]:
        """Parameter groups with their learning rates."""
        reader = [*self.pool.parameters(), *self.answer.parameters()]
        return [{"params": list(self.backbone.parameters()), "base_lr": config.backbone_lr},
                {"params": [*reader, *self.refer.parameters()], "base_lr": config.head_lr}]  # fmt: skip

    @torch.no_grad()
    def errors(self, images: Tensor, tokens: Tensor, place: Tensor, colour: Tensor, state: Tensor) -> dict[str, float]:
        """Median place error (normalised units) and accuracies over the questions of a batch."""
        said_place, _, said_state, said_colour = self.answers(images, tokens)
        located, named, judged = ~place[:, 0].isnan(), colour >= 0, state >= 0
        distance = (said_place - place)[located][:, :2].norm(dim=1)
        return {
            "place_error": float(distance.median()),
            "place_error_p90": float(distance.quantile(0.9)),
            "colour_accuracy": float((said_colour.argmax(1) == colour)[named].float().mean()),
            "state_accuracy": float(((said_state > 0) == (state > 0))[judged].float().mean()),
        }
