"""Stages 0 and 2: behaviour cloning of the whole VLA, or of its head alone, by MSE on the mean action."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.learn.augment import Augmentation
from irevla_ros.learn.optim import Resumable, descend, scale_learning_rates
from irevla_ros.policy.head import ActionHead
from irevla_ros.policy.vla import VLA

Batch = tuple[Tensor, ...]  # the arguments of the loss module


@dataclass(frozen=True)
class BCConfig:
    """AdamW with one learning rate for the backbone and one for the head, linear warm-up, then cosine to zero."""

    steps: int
    backbone_lr: float = 3e-4
    head_lr: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup_steps < 0:
            raise ConfigError(f"steps = {self.steps}, warmup_steps = {self.warmup_steps}",
                              "one step at least and no negative warm-up", "give positive numbers")  # fmt: skip
        for name in ("backbone_lr", "head_lr", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} = {getattr(self, name)}", "it is positive",
                                  "freeze the backbone with BCLoss(vla, train_backbone=False)")  # fmt: skip

    def factor(self, step: int) -> float:
        """Share of the learning rates at a step counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


class BCLoss(nn.Module):
    """Images uint8 [B, C, H, W, 3], tokens [B, L], proprio [B, P], actions [B, H, A] -> MSE, a scalar.

    One module with one forward, so that ``DistributedDataParallel`` can wrap it. Marks the backbone's parameters as
    trained or frozen.
    """

    def __init__(self, vla: VLA, train_backbone: bool = True) -> None:
        super().__init__()
        self.vla = vla
        self.train_backbone = train_backbone
        vla.backbone.requires_grad_(train_backbone)

    def forward(self, images: Tensor, tokens: Tensor, proprio: Tensor, actions: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.train_backbone and torch.is_grad_enabled()):
            latents = self.vla.latents(images, tokens)
        return nn.functional.mse_loss(self.vla.head(latents, proprio), actions)

    def groups(self, config: BCConfig) -> list[dict[str, Any]]:
        """Parameter groups with their learning rates."""
        head = {"params": list(self.vla.head.parameters()), "base_lr": config.head_lr}
        if not self.train_backbone:
            return [head]
        return [head, {"params": list(self.vla.backbone.parameters()), "base_lr": config.backbone_lr}]


class LatentBCLoss(nn.Module):
    """Latents [B, m, d], proprio [B, P], actions [B, H, A] -> MSE: the head alone, on stored latents."""

    def __init__(self, head: ActionHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, latents: Tensor, proprio: Tensor, actions: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.head(latents.float(), proprio), actions)

    def groups(self, config: BCConfig) -> list[dict[str, Any]]:
        return [{"params": list(self.head.parameters()), "base_lr": config.head_lr}]


class BehaviourCloning(Resumable):
    """Minimises a loss module over batches. ``wrapped`` is ``loss`` inside DistributedDataParallel, if it is."""

    def __init__(self, loss: BCLoss | LatentBCLoss, config: BCConfig, wrapped: nn.Module | None = None) -> None:
        self.loss = loss
        self.config = config
        self.forward = wrapped or loss
        self.steps_done = 0
        self.optimizer = torch.optim.AdamW(loss.groups(config), lr=config.head_lr, weight_decay=config.weight_decay)
        self._modules: Mapping[str, nn.Module] = {"loss": loss}
        self._optimizers = {"optimizer": self.optimizer}
        self._counters = ("steps_done",)

    def update(self, batches: Iterator[Batch], steps: int) -> dict[str, float]:
        """Take ``steps`` batches; returns the mean loss, the last gradient norm and the learning rate factor.

        Raises ``DataError`` when ``batches`` runs out and ``DivergedError`` on a loss that is not finite.
        """
        self.forward.train()
        total, norm, factor = 0.0, 0.0, 0.0
        for done in range(steps):
            batch = next(batches, None)
            if batch is None:
                raise DataError(f"{done} batches", f"{steps} are needed", "give an endless iterator of batches")
            factor = self.config.factor(self.steps_done)
            scale_learning_rates(self.optimizer, factor)
            loss = self.forward(*batch)
            norm = descend(self.config.max_grad_norm, supervised=(self.optimizer, loss))["supervised"]
            total += float(loss.detach())
            self.steps_done += 1
        return {"loss": total / steps, "grad_norm": norm, "lr_factor": factor}

    @torch.no_grad()
    def validate(self, batches: Iterable[Batch]) -> float:
        """Mean loss over all samples of ``batches``, weighted by their sizes."""
        self.forward.eval()
        total, count = 0.0, 0
        for batch in batches:
            total += float(self.forward(*batch)) * len(batch[0])
            count += len(batch[0])
        if count == 0:
            raise DataError("no validation batch", "at least one sample is needed", "hold out some episodes")
        return total / count


def augmented(batches: Iterator[Batch], augmentation: Augmentation, generator: torch.Generator) -> Iterator[Batch]:
    """The same batches with their first tensor, the images, augmented."""
    for images, *rest in batches:
        yield (augmentation(images, generator), *rest)
