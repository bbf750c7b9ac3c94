"""The vision-language-action policy: one backbone, one action head, and the meaning of what goes in and out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.core.types import ByteArray, Observation
from irevla_ros.policy.backbone import Backbone
from irevla_ros.policy.head import ActionHead, HeadConfig


class VLA(nn.Module):
    """``backbone`` (theta) and ``head`` (phi); ``cameras`` names the frames in the order of the backbone's input."""

    def __init__(
        self, backbone: Backbone, head: ActionHead, action_spec: ActionSpec, proprio_spec: ProprioSpec,
        cameras: Sequence[str] = ("front",),
    ) -> None:  # fmt: skip
        super().__init__()
        if len(cameras) != backbone.cameras or len(set(cameras)) != len(cameras):
            raise ConfigError(f"cameras {list(cameras)}", f"backbone {backbone.name!r} sees {backbone.cameras} of them",
                              "name each camera once and build the backbone with cameras=n")  # fmt: skip
        needed = (backbone.latent_shape[1], action_spec.size)
        if (head.width, head.action_size) != needed or head.proprio_size not in (0, proprio_spec.size):
            raise ConfigError(f"head for latents of width {head.width}, {head.proprio_size} proprio and "
                              f"{head.action_size} action values",
                              f"width {needed[0]}, {proprio_spec.size} (or 0) and {needed[1]} are required",
                              "build it with build_vla")  # fmt: skip
        self.backbone, self.head = backbone, head
        self.action_spec, self.proprio_spec, self.cameras = action_spec, proprio_spec, tuple(cameras)

    def latents(self, images: Tensor, tokens: Tensor) -> Tensor:
        """uint8 images [B, C, H, W, 3] and tokens [B, L] -> latents [B, m, d]."""
        return self.backbone.encode(images, tokens)

    def forward(self, images: Tensor, tokens: Tensor, proprio: Tensor) -> Tensor:
        """Images, tokens as in ``latents`` and proprioception [B, P] -> mean action chunk [B, H, A]."""
        mean: Tensor = self.head(self.latents(images, tokens), proprio)
        return mean

    def batch(self, observations: Sequence[Observation]) -> tuple[Tensor, Tensor, Tensor]:
        """B observations -> images uint8 [B, C, H, W, 3], tokens int64 [B, L], proprioception float32 [B, P].

        ``DataError`` names the camera whose frame is missing or has a wrong shape.
        """
        device = self.head.out.weight.device
        images = np.stack([[self._frame(o, camera) for camera in self.cameras] for o in observations])
        proprio = np.stack([self._proprio(o) for o in observations])
        tokens = self.backbone.tokenize([o.instruction for o in observations])
        return torch.from_numpy(images).to(device), tokens.to(device), torch.from_numpy(proprio).to(device)

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation]) -> tuple[Tensor, Tensor]:
        """B observations -> mean action chunk [B, H, A] and latents [B, m, d] in fp16, as they are stored.

        The mean is computed from the stored fp16 latents, so that learning from them later sees the same action.
        """
        images, tokens, proprio = self.batch(observations)
        stored = self.latents(images, tokens).half()
        mean: Tensor = self.head(stored.float(), proprio)
        return mean, stored

    def _frame(self, observation: Observation, camera: str) -> ByteArray:
        frame = observation.images.get(camera)
        if frame is None:
            seen = ", ".join(repr(name) for name in sorted(observation.images)) or "none"
            raise DataError(f"no frame from camera {camera!r} (frames from: {seen})",
                            f"the policy needs one from each of {list(self.cameras)}",
                            "check that the camera runs and is named so")  # fmt: skip
        if frame.shape != (*self.backbone.image_size, 3) or frame.dtype != np.uint8:
            raise DataError(f"frame of camera {camera!r} is {frame.dtype} {frame.shape}",
                            f"the policy sees uint8 {(*self.backbone.image_size, 3)}",
                            "render or resize to that shape")  # fmt: skip
        return frame

    def _proprio(self, observation: Observation) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        if observation.proprio.shape != (self.proprio_spec.size,):
            raise DataError(f"proprioception of shape {observation.proprio.shape}",
                            f"{self.proprio_spec.size} values are required: {', '.join(self.proprio_spec.names)}",
                            "fill it by ProprioSpec")  # fmt: skip
        return observation.proprio.astype(np.float32, copy=False)


def build_vla(
    backbone: Backbone,
    *,
    action_spec: ActionSpec = ActionSpec(),
    proprio_spec: ProprioSpec = ProprioSpec(),
    cameras: Sequence[str] = ("front",),
    horizon: int = 1,
    use_proprio: bool = True,
    head: HeadConfig = HeadConfig(),
) -> VLA:
    """A VLA with a fresh head whose sizes fit ``backbone`` and the specs."""
    proprio_size = proprio_spec.size if use_proprio else 0
    action_head = ActionHead(backbone.latent_shape[1], proprio_size, action_spec.size, horizon, head)
    return VLA(backbone, action_head, action_spec, proprio_spec, cameras)
