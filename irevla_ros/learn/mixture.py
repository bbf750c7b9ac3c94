"""Which samples make a batch: sources by weight, tasks uniformly within a source, samples uniformly within a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from irevla_ros.core.errors import ConfigError, DataError


class MixtureSampler:
    """Endless batches of (source, sample) pairs, long [B, 2].

    ``tasks[s][i]`` names the task of sample i of source s (D_e and D_RL, say); ``weights[s]`` is the share of source s.
    Raises ``ConfigError`` on bad weights and ``DataError`` on a source with a share but no sample.
    """

    def __init__(self, tasks: Sequence[Sequence[str]], weights: Sequence[float], batch: int,
                 generator: torch.Generator) -> None:  # fmt: skip
        if len(weights) != len(tasks) or min(weights, default=0.0) < 0 or sum(weights) <= 0:
            raise ConfigError(f"weights {tuple(weights)} for {len(tasks)} sources",
                              "one weight for each source, none negative, not all zero",
                              "give the share of each source")  # fmt: skip
        for source, (names, weight) in enumerate(zip(tasks, weights, strict=True)):
            if weight > 0 and len(names) == 0:
                raise DataError(f"source {source} with weight {weight} is empty", "a source with a share has samples",
                                "collect data for it or give it weight 0")  # fmt: skip
        self.batch = batch
        self.generator = generator
        self._weights = torch.tensor(weights, dtype=torch.float64)
        self._sources = [_SourceIndex(names) for names in tasks]

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            source = torch.multinomial(self._weights, self.batch, replacement=True, generator=self.generator)
            draw = torch.rand(2, self.batch, generator=self.generator, dtype=torch.float64)
            sample = torch.empty_like(source)
            for number in torch.unique(source).tolist():
                chosen = source == number
                sample[chosen] = self._sources[number].pick(*draw[:, chosen])
            yield torch.stack([source, sample], dim=1)


class _SourceIndex:
    """Samples of one source grouped by task."""

    def __init__(self, tasks: Sequence[str]) -> None:
        number = {name: index for index, name in enumerate(sorted(set(tasks)))}
        label = torch.tensor([number[name] for name in tasks], dtype=torch.long)
        self._order = torch.argsort(label, stable=True)
        self._count = torch.bincount(label, minlength=len(number))
        self._start = self._count.cumsum(0) - self._count

    def pick(self, task_draw: Tensor, sample_draw: Tensor) -> Tensor:
        """Two uniform draws in [0, 1) each -> sample number."""
        task = (task_draw * len(self._count)).long()
        return self._order[self._start[task] + (sample_draw * self._count[task]).long()]
