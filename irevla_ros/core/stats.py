"""Intervals for success rates: no rate is shown without its n and a 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from irevla_ros.core.types import BoolArray

Z95 = 1.959964  # two-sided 95 % quantile of the standard normal


@dataclass(frozen=True)
class Rate:
    """k successes in n independent episodes, with the Wilson score interval at 95 %."""

    successes: int
    episodes: int

    @property
    def mean(self) -> float:
        return self.successes / self.episodes if self.episodes else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson (1927), without continuity correction; (0, 1) when there is no episode."""
        n, z = self.episodes, Z95
        if n == 0:
            return 0.0, 1.0
        p = self.mean
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.mean:.2f} [{low:.2f}, {high:.2f}] n={self.episodes}"


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two success indicators on the same start states, with its 95 % normal interval."""

    mean: float
    low: float
    high: float
    episodes: int


def paired_difference(after: BoolArray, before: BoolArray) -> PairedDifference:
    """Success after minus before, paired by start state: bool [n] each; interval from the paired variance."""
    difference = after.astype(np.float64) - before.astype(np.float64)
    n = len(difference)
    mean = float(difference.mean())
    half = Z95 * float(difference.std(ddof=1)) / sqrt(n) if n > 1 else 1.0
    return PairedDifference(mean, max(-1.0, mean - half), min(1.0, mean + half), n)
