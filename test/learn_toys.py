"""A toy in the loop's own types: a point that must reach a goal; its state plays the part of the latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from irevla_ros.core.types import ControlSource, Episode, EpisodeMeta, Mode, Outcome, TerminationReason
from irevla_ros.policy.backbone import Backbone
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead, HeadConfig

LATENT_SHAPE, PROPRIO, ACTION = (2, 16), 2, 2
STEP, RADIUS, HORIZON = 0.25, 0.12, 10
SMALL = HeadConfig(seeds=2, attention_heads=2, hidden=64)


def make_episode(steps: int = 3, end: str = "truncated", **columns: np.ndarray) -> Episode:
    """A random episode of the toy's shapes; ``end`` is terminated, truncated or open; ``columns`` override."""
    rng = np.random.default_rng(steps)
    last = np.arange(steps) == steps - 1
    action = rng.normal(size=(steps, ACTION)).astype(np.float32)
    values = {
        "images": {"front": rng.integers(0, 256, (steps + 1, 8, 8, 3), dtype=np.uint8)},
        "proprio": rng.normal(size=(steps + 1, PROPRIO)).astype(np.float32),
        "stamps_ns": np.arange(steps + 1, dtype=np.int64),
        "proposed": action, "executed": action.clip(-1, 1), "commanded": action.clip(-1, 1),
        "source": np.full(steps, ControlSource.POLICY, np.uint8),
        "log_prob": np.zeros(steps, np.float32),
        "head_version": np.zeros(steps, np.int64),
        "reward": (last * (end == "terminated")).astype(np.float32),
        "terminated": last & (end == "terminated"), "truncated": last & (end == "truncated"),
        "latents": rng.normal(size=(steps + 1, *LATENT_SHAPE)).astype(np.float16),
    }  # fmt: skip
    outcome = Outcome.SUCCESS if end == "terminated" else Outcome.FAILURE
    meta = EpisodeMeta(f"e{steps}", "reach", "reach the goal", Mode.TRAIN, 0, outcome=outcome,
                       termination_reason=TerminationReason.TIME_LIMIT)  # fmt: skip
    return Episode(meta, **{**values, **columns})


def latents_of(position: Tensor, goal: Tensor) -> Tensor:
    """Position and goal [B, 2] each -> [B, 2, 16], waves of the coordinates, rounded as storage does."""
    where = torch.stack([position, goal], dim=1)
    phase = torch.cat([where * frequency for frequency in (0.5, 1.0, 2.0)], dim=2)
    mark = torch.eye(2)[None].expand(len(position), -1, -1)
    return torch.cat([phase.sin(), phase.cos(), mark, -mark], dim=2).half().float()


@torch.no_grad()
def reach(actor: GaussianActor, count: int, generator: torch.Generator, version: int = 0,
          noise: bool = True) -> list[Episode]:  # fmt: skip
    """``count`` episodes side by side: reward 1 and the end within RADIUS of the goal, truncated after HORIZON."""
    position, goal = (torch.rand(2, count, 2, generator=generator) * 2 - 1).unbind()
    columns: dict[str, list[Tensor]] = {name: [] for name in ("latents", "proprio", "proposed", "log_prob", "done")}
    for _ in range(HORIZON):
        latents = latents_of(position, goal)
        mean = actor(latents, position)
        action = actor.sample(mean, generator) if noise else mean
        columns["latents"].append(latents)
        columns["proprio"].append(position)
        columns["proposed"].append(action[:, 0])
        columns["log_prob"].append(actor.log_prob(mean, action))
        position = position + STEP * action[:, 0].clamp(-1, 1)
        columns["done"].append((position - goal).norm(dim=1) < RADIUS)
    columns["latents"].append(latents_of(position, goal))
    columns["proprio"].append(position)
    stacked = {name: torch.stack(values, dim=1).numpy() for name, values in columns.items()}
    episodes = []
    for i in range(count):
        done = stacked["done"][i]
        steps = int(done.argmax()) + 1 if done.any() else HORIZON
        proposed = stacked["proposed"][i, :steps]
        executed = proposed.clip(-1, 1)
        episodes.append(make_episode(
            steps, "terminated" if done.any() else "truncated", proposed=proposed, executed=executed,
            commanded=executed, log_prob=stacked["log_prob"][i, :steps], proprio=stacked["proprio"][i, : steps + 1],
            latents=stacked["latents"][i, : steps + 1].astype(np.float16),
            head_version=np.full(steps, version, np.int64)))  # fmt: skip
    return episodes


def success_rate(actor: GaussianActor, generator: torch.Generator, count: int = 300) -> float:
    """Of the mean action."""
    return float(np.mean([episode.success for episode in reach(actor, count, generator, noise=False)]))


def weak_actor(seed: int = 0, std: float = 0.3, bias: float = 0.15) -> GaussianActor:
    """A stage 0 that is off target: cloned from an expert that aims beside the goal."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head = ActionHead(LATENT_SHAPE[1], PROPRIO, ACTION, config=SMALL)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(200):
        position, goal = (torch.rand(2, 256, 2, generator=generator) * 2 - 1).unbind()
        expert = ((goal + bias - position) / STEP).clamp(-1, 1)
        loss = (head(latents_of(position, goal), position)[:, 0] - expert).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return GaussianActor(head, std)


class PixelBackbone(Backbone):
    """The smallest backbone: one 8 x 8 camera, a linear map of its pixels plus an embedding of the first word."""

    name, config, cameras, image_size = "pixel", {}, 1, (8, 8)
    latent_shape = LATENT_SHAPE

    def __init__(self) -> None:
        super().__init__()
        self.pixels = torch.nn.Linear(8 * 8 * 3, 32)
        self.words = torch.nn.Embedding(128, 32)

    def tokenize(self, instructions: Sequence[str]) -> Tensor:
        return torch.tensor([[ord(text[0])] for text in instructions])

    def _encode(self, images: Tensor, tokens: Tensor) -> Tensor:
        latents: Tensor = self.pixels(images.flatten(1) / 255.0) + self.words(tokens[:, 0])
        return latents.unflatten(1, LATENT_SHAPE)

    def load_pretrained(self) -> None:
        raise NotImplementedError
