"""A small convolutional net that tells success from images: what the reward node loads as a learned classifier."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Observation

FORMAT = "irevla_success_net_1"


class SuccessNet(nn.Module):
    """Logits of success from the images of ``cameras``, square of ``image_size`` pixels.

    ``instructions``: those that it was trained for; of others it knows nothing. Train it with binary cross-entropy on
    ``forward`` and save ``state_dict`` with ``metadata`` by ``policy.tensor_file.write_tensors``.
    """

    def __init__(self, cameras: tuple[str, ...], image_size: int, instructions: tuple[str, ...], channels: int = 32) -> None:
        super().__init__()
        if not cameras or not instructions or image_size < 16 or channels < 1:
            raise ConfigError(f"classifier of cameras {list(cameras)}, {image_size} pixels, {len(instructions)} instructions",
                              "at least one camera, 16 pixels, one instruction", "see rewards.success_net")  # fmt: skip
        self.cameras, self.image_size, self.instructions, self.channels = cameras, image_size, instructions, channels
        layers: list[nn.Module] = []
        for before in (3 * len(cameras), channels, channels):
            layers += [nn.Conv2d(before, channels, 5, stride=2, padding=2), nn.GroupNorm(1, channels), nn.GELU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(channels * math.ceil(image_size / 8) ** 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W, 3], cameras in the order of ``cameras`` -> logits [B]."""
        planes = images.movedim(-1, -3).flatten(1, 2).float() / 127.5 - 1.0
        logits: Tensor = self.head(self.trunk(planes).flatten(1)).squeeze(-1)
        return logits

    @torch.no_grad()
    def probability(self, observation: Observation) -> float:
        """Of success, 0 to 1; NaN for an instruction that it was not trained for."""
        if observation.instruction not in self.instructions:
            return math.nan
        images = np.stack([observation.images[name] for name in self.cameras])
        return float(torch.sigmoid(self(torch.from_numpy(images)[None])))

    def metadata(self) -> dict[str, str]:
        """What ``from_metadata`` makes the same net of."""
        settings = {"cameras": self.cameras, "image_size": self.image_size, "instructions": self.instructions,
                    "channels": self.channels}  # fmt: skip
        return {"format": FORMAT, "settings": json.dumps(settings)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> SuccessNet:
        """The net without its weights; ConfigError when ``where`` is no file of such a net."""
        try:
            if metadata.get("format") != FORMAT:
                raise ValueError(f"format {metadata.get('format')!r}")
            tree = json.loads(metadata["settings"])
            cameras, instructions = tuple(map(str, tree["cameras"])), tuple(map(str, tree["instructions"]))
            return cls(cameras, int(tree["image_size"]), instructions, int(tree["channels"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(where, f"it is no success classifier ({error})",
                              "save SuccessNet's state_dict with its metadata") from None  # fmt: skip
