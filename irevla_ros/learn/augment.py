"""Image augmentation for behaviour cloning: small shifts and light changes that never change a hue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irevla_ros.core.errors import ConfigError


@dataclass(frozen=True)
class Augmentation:
    """Random shift and light, drawn once per sample and equal for all of its cameras.

    shift: largest displacement in pixels, edges repeated; keep it below what an action can tell apart, since the label
    does not move with the image. brightness and contrast: relative half-ranges. saturation: largest loss of colour.
    Light scales all channels of a pixel together and saturation mixes in its own maximum, so the hue, by which
    instructions name objects, stays as it is.
    """

    shift: int = 1
    brightness: float = 0.15
    contrast: float = 0.15
    saturation: float = 0.15

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ConfigError(f"shift = {self.shift}", "it is a number of pixels, not negative", "give 0 for none")
        for name in ("brightness", "contrast", "saturation"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it lies in [0, 1)", "give 0 for none")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 [B, C, H, W, 3] -> the same shape and type."""
        return self._light(self._shift(images, generator), generator)

    def _shift(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, cameras, height, width, _ = images.shape
        offset = torch.randint(-self.shift, self.shift + 1, (2, batch, 1), generator=generator)
        rows = (torch.arange(height) + offset[0]).clamp(0, height - 1).to(images.device)
        columns = (torch.arange(width) + offset[1]).clamp(0, width - 1).to(images.device)
        sample = torch.arange(batch, device=images.device)[:, None, None, None]
        camera = torch.arange(cameras, device=images.device)[None, :, None, None]
        return images[sample, camera, rows[:, None, :, None], columns[:, None, None, :]]

    def _light(self, images: Tensor, generator: torch.Generator) -> Tensor:
        def per_sample(low: float, high: float) -> Tensor:
            draw = torch.rand(len(images), 1, 1, 1, 1, generator=generator)
            return (low + (high - low) * draw).to(images.device)

        brightness = per_sample(1 - self.brightness, 1 + self.brightness)
        contrast = per_sample(1 - self.contrast, 1 + self.contrast)
        colour = per_sample(1 - self.saturation, 1.0)
        pixel = images.float()
        value = pixel.amax(dim=-1, keepdim=True)
        middle = value.mean(dim=(2, 3), keepdim=True)
        lit = (middle + contrast * (brightness * value - middle)).clamp(0.0, 255.0)
        # pixel -> lit * (1 - colour + colour * pixel / value)
        scaled = pixel * (colour * lit / value.clamp(min=1.0)) + (1.0 - colour) * lit
        return scaled.round_().to(torch.uint8)
