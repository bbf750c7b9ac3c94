"""The vision-language model seen from outside: pixels and words in, latents out; and the registry of them."""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError, DataError, unknown_name

# Imported only when asked for: transformers takes seconds to import.
_BACKBONES: dict[str, tuple[str, str]] = {
    "tiny-llava": ("irevla_ros.policy.tiny", "TinyLlava"),
    "tiny-instructblip": ("irevla_ros.policy.tiny", "TinyInstructBlip"),
}
TINY = "tiny-llava"  # the layout that the name "tiny" stands for


class Backbone(nn.Module, ABC):
    """theta: encodes an observation once; all that acts or learns in stage 1 sees only the result.

    ``name`` is its name in the registry, ``config`` what to give ``build_backbone`` to build it again (JSON values),
    ``cameras`` the number C of cameras and ``image_size`` (H, W) of their frames.
    """

    name: str
    config: Mapping[str, Any]
    cameras: int
    image_size: tuple[int, int]

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int]:
        """(m, d): m latents of width d for every observation, whatever the instruction."""

    @abstractmethod
    def tokenize(self, instructions: Sequence[str]) -> Tensor:
        """B instructions -> int64 [B, L], padded to a fixed L; ``DataError`` when one is too long."""

    @abstractmethod
    def _encode(self, images: Tensor, tokens: Tensor) -> Tensor:
        """What ``encode`` does once the shapes are known to fit."""

    @abstractmethod
    def load_pretrained(self) -> None:
        """Take over the pretrained weights; ``CheckpointError`` when there are none."""

    def encode(self, images: Tensor, tokens: Tensor) -> Tensor:
        """uint8 RGB images [B, C, H, W, 3] and tokens [B, L] -> latents, float [B, m, d], each of about unit scale.

        They leave through the model's final norm (heads rely on it).
        A row depends neither on the other rows nor on the padding of its tokens.
        """
        wanted = (self.cameras, *self.image_size, 3)
        if tuple(images.shape[1:]) != wanted or images.dtype != torch.uint8:
            raise DataError(f"images {images.dtype} {tuple(images.shape)}",
                            f"backbone {self.name!r} sees torch.uint8 (B, {', '.join(map(str, wanted))})",
                            "render or resize the camera frames to that shape")  # fmt: skip
        return self._encode(images, tokens)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of name, configuration, vocabulary and weights: latents are comparable only where it is equal.

        It is computed anew in every call, since training changes weights in place: about 1 ms per MB.
        """
        digest = hashlib.sha256(json.dumps([self.name, self.config, self._words()], sort_keys=True).encode())
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _words(self) -> Sequence[str]:
        """The vocabulary when it is not fixed by the name: it gives the token ids their meaning."""
        return ()


def resolve_backbone(name: str) -> str:
    """The registered name for ``name``; ``tiny`` stands for one of the tiny layouts."""
    resolved = TINY if name == "tiny" else name
    if resolved not in _BACKBONES:
        raise unknown_name("backbone", name, [*_BACKBONES, "tiny"])
    return resolved


def build_backbone(name: str, *, pretrained: bool = False, **config: Any) -> Backbone:
    """The backbone called ``name``, initialised from torch's global generator or with its pretrained weights.

    ``config`` overrides the defaults of its configuration; ``ConfigError`` for an unknown name or setting.
    """
    module, attribute = _BACKBONES[resolve_backbone(name)]
    backbone: Backbone = getattr(importlib.import_module(module), attribute)(**config)
    if pretrained:
        backbone.load_pretrained()
    return backbone


def check_settings(name: str, config: Mapping[str, Any], known: Mapping[str, int]) -> None:
    """``ConfigError`` unless all settings are known positive integers; ``known`` maps them to their defaults."""
    for key, value in config.items():
        if key not in known:
            raise unknown_name(f"setting of backbone {name!r}", key, known)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"backbone {name!r} {key}={value!r}", "a positive integer is required",
                              f"leave it out for the default {known[key]}")  # fmt: skip
