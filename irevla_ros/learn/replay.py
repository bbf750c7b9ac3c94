"""Replay of transitions in latent space: each observation is stored once, its successor is the next row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import Episode


@dataclass(frozen=True)
class Transitions:
    """latents, next_latents float32 [B, m, d]; proprio, next_proprio [B, P]; action [B, 1, A]; reward [B];
    terminated bool [B] (a truncated step is an ordinary one here: its successor is bootstrapped from)."""

    latents: Tensor
    proprio: Tensor
    action: Tensor
    reward: Tensor
    next_latents: Tensor
    next_proprio: Tensor
    terminated: Tensor

    def __len__(self) -> int:
        return len(self.reward)

    def to(self, device: torch.device) -> Transitions:
        return Transitions(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class ReplayBuffer:
    """A ring of ``capacity`` observations, float16 latents, oldest overwritten first. Learns from any control source:
    the action is the executed one."""

    def __init__(self, capacity: int) -> None:
        if capacity < 2:
            raise ConfigError(f"replay capacity {capacity}", "one transition takes two observations", "give 50000, say")
        self.capacity = capacity
        self.steps_added = 0
        self._cursor = 0
        self._columns: dict[str, Tensor] = {}
        self._is_step = torch.zeros(capacity, dtype=torch.bool)  # False for last observations and unused rows
        self._steps = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        """Transitions that can be sampled now."""
        return len(self._steps)

    def add(self, episode: Episode, first: int = 0, stop: int | None = None) -> None:
        """All T steps, or those in [first, stop). Raises ``DataError`` when latents are missing or it exceeds the capacity."""
        stop = len(episode) if stop is None else stop
        steps, name = stop - first, f"episode {episode.meta.episode_id!r}"
        if episode.latents is None:
            raise DataError(name, "replay needs its latents", "encode it with the current backbone first")
        if steps + 1 > self.capacity:
            raise DataError(f"{name} with {steps + 1} observations", f"the buffer holds {self.capacity}",
                            "raise the capacity")  # fmt: skip
        # Rows of observations; the last one carries no step, and its step columns stay unread.
        seen, acted = slice(first, stop + 1), slice(first, stop)
        columns: dict[str, npt.NDArray[Any]] = {
            "latents": episode.latents[seen], "proprio": episode.proprio[seen],
            "action": np.clip(episode.executed[acted], -1, 1), "reward": episode.reward[acted],
            "terminated": episode.terminated[acted],
        }  # fmt: skip
        rows = (self._cursor + torch.arange(steps + 1)) % self.capacity
        for column, values in columns.items():
            if column not in self._columns:
                # numpy's zeros take memory only as rows are written.
                self._columns[column] = torch.from_numpy(np.zeros((self.capacity, *values.shape[1:]), values.dtype))
            self._columns[column][rows[: len(values)]] = torch.from_numpy(values)
        # Steps before the cursor end in the last observation of their episode, so none points into overwritten rows.
        self._is_step[rows] = True
        self._is_step[rows[-1]] = False
        self._steps = self._is_step.nonzero().squeeze(1)
        self._cursor = int(rows[-1] + 1) % self.capacity
        self.steps_added += steps

    def sample(self, count: int, generator: torch.Generator) -> Transitions:
        """``count`` transitions, uniformly with replacement. Raises ``DataError`` on an empty buffer."""
        if len(self) == 0:
            raise DataError("an empty replay buffer", "sampling needs a transition", "add episodes first")
        row = self._steps[torch.randint(len(self), (count,), generator=generator)]
        following = (row + 1) % self.capacity
        column = self._columns
        return Transitions(column["latents"][row].float(), column["proprio"][row], column["action"][row][:, None],
                           column["reward"][row], column["latents"][following].float(), column["proprio"][following],
                           column["terminated"][row])  # fmt: skip


class DemoReplay:
    """A demo buffer beside an online buffer; each batch takes ``demo_share`` from the first (the paper: half)."""

    def __init__(self, demo: ReplayBuffer, online: ReplayBuffer, demo_share: float = 0.5) -> None:
        if not 0.0 <= demo_share <= 1.0:
            raise ConfigError(f"demo_share = {demo_share}", "it lies in [0, 1]", "give 0.5 as the paper does")
        self.demo, self.online, self.demo_share = demo, online, demo_share

    def sample(self, count: int, generator: torch.Generator) -> tuple[Transitions, int]:
        """A batch whose first rows are the demonstrations, and how many those are.

        While one of the buffers is empty, the other gives the whole batch.
        """
        demos = round(count * self.demo_share)
        if len(self.online) == 0 or len(self.demo) == 0:
            demos = count if len(self.online) == 0 else 0
        parts = [buffer.sample(size, generator) for buffer, size in ((self.demo, demos), (self.online, count - demos))
                 if size > 0]  # fmt: skip
        columns = Transitions.__dataclass_fields__
        return Transitions(**{c: torch.cat([getattr(part, c) for part in parts]) for c in columns}), demos
