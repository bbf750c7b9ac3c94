"""What a data-parallel training needs to go on after a kill: weights, optimiser, and every worker's random state."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from irevla_ros.core.errors import CheckpointError
from irevla_ros.jobs.workers import WorkerContext
from irevla_ros.learn.optim import Resumable
from irevla_ros.policy.tensor_file import read_tensors, write_tensors

SNAPSHOT_S = 20.0
REST = 10  # times as long as writing took: a large model must not spend its time on snapshots


@dataclass(frozen=True)
class Snapshots:
    """Where snapshots go, and the least time between two, in seconds.

    ``key`` names the training: a snapshot of another one is not used.
    """

    path: Path
    key: str
    every_s: float = SNAPSHOT_S


class Snapshotter:
    """One worker's part in the snapshots; all workers call the same methods at the same steps.

    A batch is drawn when it is needed and not before, so that after a step the state of ``generator`` (of the sampler and
    the augmentation) and of torch's own generator decide everything that is still to be drawn.
    """

    def __init__(
        self, snapshots: Snapshots, context: WorkerContext, learner: Resumable, generator: torch.Generator
    ) -> None:
        self._snapshots, self._context = snapshots, context
        self._learner, self._generator = learner, generator
        self._due_s = time.monotonic() + snapshots.every_s

    def restore(self) -> bool:
        """Go on from the snapshot, if there is one of this training. ``CheckpointError`` when it is damaged."""
        path = self._snapshots.path
        if not path.is_file():
            return False
        file = read_tensors(path)
        if file.metadata.get("key") != self._snapshots.key:
            return False
        random = f"random.{self._context.rank}"
        learned = {name: tensor for name, tensor in file.tensors.items() if not name.startswith("random.")}
        try:
            states = file.tensors[random]
            self._learner.load_state_dict(learned)
        except (KeyError, CheckpointError) as error:
            raise CheckpointError(f"{path}: {error}", "a snapshot holds the whole state of its training",
                                  "delete it, and the training begins anew") from error  # fmt: skip
        own, default = (state.clone() for state in states)  # torch's set_state reads beyond a view into another tensor
        self._generator.set_state(own)
        torch.set_rng_state(default)
        return True

    def offer(self) -> None:
        """Write one if it is time: the first worker's clock decides for all."""
        leads = self._context.rank == 0
        due = torch.tensor([int(leads and time.monotonic() >= self._due_s)])
        dist.broadcast(due, 0)
        if not due.item():
            return
        states = torch.stack([self._generator.get_state(), torch.get_rng_state()])
        gathered = [torch.empty_like(states) for _ in range(self._context.size)]
        dist.all_gather(gathered, states)
        if leads:
            began = time.monotonic()
            random = {f"random.{rank}": state for rank, state in enumerate(gathered)}
            write_tensors(self._snapshots.path, {**self._learner.state_dict(), **random}, {"key": self._snapshots.key})
            ended = time.monotonic()
            self._due_s = ended + max(self._snapshots.every_s, REST * (ended - began))
