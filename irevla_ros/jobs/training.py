"""Supervised training over the worker pool: data parallel with gloo, every process on one thread."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from irevla_ros.jobs.snapshot import Snapshots, Snapshotter
from irevla_ros.jobs.workers import Send, WorkerContext, WorkerPool
from irevla_ros.learn.augment import Augmentation
from irevla_ros.learn.mixture import MixtureSampler
from irevla_ros.learn.supervised import Batch, BCConfig, BehaviourCloning, augmented

BLOCK = 10  # steps that one figure of the loss is the mean of; snapshots are taken between blocks
REPORT_S, LONGEST_SILENCE_S = 0.5, 1.0


class Samples(Protocol):
    """Training data of one job: task names per source for the mixture, and batches by (source, sample) pairs."""

    tasks: list[list[str]]
    weights: list[float]

    def batch(self, pairs: torch.Tensor) -> Batch: ...


class Training(Protocol):
    """What a job trains, in parts that each worker calls; picklable."""

    def build(self) -> Any:
        """The loss module with ``groups``, the same in every process."""

    def load(self) -> Samples: ...

    def save(self, loss: Any) -> None:
        """Keep the result; called in one process."""


@dataclass(frozen=True)
class TrainingProgress:
    """``metrics`` of the steps since the last multiple of ten; before the first step there are none."""

    step: int
    metrics: dict[str, float]


def train(
    pool: WorkerPool,
    training: Training,
    config: BCConfig,
    *,
    batch: int,
    seed: int,
    augmentation: Augmentation | None = None,
    snapshots: Snapshots | None = None,
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> None:
    """Run ``config.steps`` steps of ``batch`` samples, shared among the workers, and let the training save itself.

    With ``snapshots``, it goes on where a killed one was, and ends as if that had not been killed: bit by bit with one or
    two workers, within rounding with more (the order in which gradients are added then depends on the first step).
    """
    with tempfile.TemporaryDirectory() as folder:
        shared = {"training": training, "config": config, "batch": max(1, batch // pool.size), "seed": seed,
                  "augmentation": augmentation, "snapshots": snapshots, "meeting": str(Path(folder) / "meeting")}  # fmt: skip
        pool.run(_train, [shared] * pool.size, on_progress)


def _train(
    context: WorkerContext,
    send: Send,
    training: Training,
    config: BCConfig,
    batch: int,
    seed: int,
    augmentation: Augmentation | None,
    snapshots: Snapshots | None,
    meeting: str,
) -> None:
    torch.manual_seed(seed)  # the same initial weights everywhere
    loss = training.build()
    samples = training.load()
    generator = torch.Generator().manual_seed(1000 * seed + context.rank)
    batches = _batches(samples, batch, generator)
    if augmentation is not None:
        batches = augmented(batches, augmentation, generator)
    join_group(context, meeting)
    try:
        wrapped: nn.Module = DistributedDataParallel(loss)
        learner = BehaviourCloning(loss, config, wrapped)
        keeper = Snapshotter(snapshots, context, learner, generator) if snapshots is not None else None
        if keeper is not None and keeper.restore() and context.rank == 0:
            send(TrainingProgress(learner.steps_done, {}))
        losses: list[float] = []
        reported = time.monotonic()
        while learner.steps_done < config.steps:
            metrics = learner.update(batches, 1)
            losses.append(metrics["loss"])
            last = learner.steps_done == config.steps
            whole = last or learner.steps_done % BLOCK == 0
            silence = time.monotonic() - reported
            if context.rank == 0 and (last or silence > (REPORT_S if whole else LONGEST_SILENCE_S)):
                reported = time.monotonic()
                send(TrainingProgress(learner.steps_done, {**metrics, "loss": sum(losses) / len(losses)}))
            if whole:
                losses.clear()
                if keeper is not None and not last:
                    keeper.offer()
        if context.rank == 0:
            training.save(loss)
    finally:
        dist.destroy_process_group()


def join_group(context: WorkerContext, meeting: str) -> None:
    """Meet the other workers at the file ``meeting``; leave with ``dist.destroy_process_group``.

    DistributedDataParallel must not be the last to refer to the group: it lets go of it with Python's lock held and
    waits for gloo's thread, which wants that lock to let go of the last gradients; that worker then hangs. So the group
    is kept until the next one is joined, when the wrapper, which is part of a reference cycle, has been collected.
    """
    gc.collect()
    dist.init_process_group("gloo", f"file://{meeting}", rank=context.rank, world_size=context.size)
    context.kept["group"] = dist.group.WORLD


def _batches(samples: Samples, batch: int, generator: torch.Generator) -> Iterator[Batch]:
    for pairs in MixtureSampler(samples.tasks, samples.weights, batch, generator):
        yield samples.batch(pairs)
