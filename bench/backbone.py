"""Rates of the tiny backbones on one thread: `python bench/backbone.py`. The layouts take turns, so load hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from irevla_ros.policy.backbone import Backbone, build_backbone

LAYOUTS = ("tiny-llava", "tiny-instructblip")
BATCHES = (1, 8, 16, 64)
ROUNDS = 15


def seconds(work: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def forward(backbone: Backbone, batch: int) -> float:
    images, tokens = inputs(backbone, batch)
    with torch.inference_mode():
        return seconds(lambda: backbone.encode(images, tokens), repeats=max(1, 16 // batch))


def train(backbone: Backbone, batch: int = 64) -> float:
    """Forward and backward, without the optimiser's step."""
    images, tokens = inputs(backbone, batch)
    return seconds(lambda: backbone.encode(images, tokens).square().mean().backward(), repeats=1)


def inputs(backbone: Backbone, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 256, (batch, backbone.cameras, *backbone.image_size, 3), dtype=torch.uint8)
    return images, backbone.tokenize(["put the red cube in the blue bowl"] * batch)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbones = {name: build_backbone(name) for name in LAYOUTS}
    times: dict[tuple[str, int], list[float]] = {(name, b): [] for name in LAYOUTS for b in (*BATCHES, 0)}
    for turn in range(ROUNDS + 1):
        for name, backbone in backbones.items():
            measured = {batch: forward(backbone, batch) for batch in BATCHES} | {0: train(backbone)}
            for batch, value in measured.items():
                if turn:  # the first turn warms up
                    times[name, batch].append(value)
    best = {key: min(values) for key, values in times.items()}
    median = {key: statistics.median(values) for key, values in times.items()}
    print(
        f"{'layout':18} {'MB':>5}  " + "  ".join(f"{f'b{b} ms':>7}" for b in BATCHES) + "  train samples/s: best median"
    )
    for name, backbone in backbones.items():
        megabytes = sum(p.numel() for p in backbone.parameters()) * 4 / 1e6
        row = "  ".join(f"{best[name, b] * 1e3:7.2f}" for b in BATCHES)
        print(f"{name:18} {megabytes:5.2f}  {row}  {64 / best[name, 0]:21.0f} {64 / median[name, 0]:6.0f}")
    first, second = LAYOUTS
    ratios = [a / b for a, b in zip(times[first, 0], times[second, 0], strict=True)]
    print(f"training rate of {second} over {first}: {statistics.median(ratios):.2f} (median of {ROUNDS} rounds)")


if __name__ == "__main__":
    main()
