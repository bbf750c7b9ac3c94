"""Intervals for success rates: no rate is shown without its n and a 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

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
    """Mean difference of two success indicators on the same start states, with its 95 % interval."""

    mean: float
    low: float
    high: float
    episodes: int


def paired_difference(after: BoolArray, before: BoolArray) -> PairedDifference:
    """Success after minus before, paired by start state: bool [n] each, n >= 1.

    Newcombe's hybrid score interval for paired proportions (1998, Statistics in Medicine 17:2635, method 10): from the two
    Wilson intervals and the correlation of the pairs. Unlike the normal interval it keeps a width when all pairs agree.
    """
    n = len(after)
    both, neither = int((after & before).sum()), int((~after & ~before).sum())
    gained, lost = int((after & ~before).sum()), int((~after & before).sum())
    later, earlier = Rate(both + gained, n), Rate(both + lost, n)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    agreement = float(both * neither - gained * lost)
    if agreement > 0:
        agreement = max(agreement - n / 2, 0.0)  # his correction for continuity
    correlation = agreement / sqrt(margins) if margins else 0.0
    mean = later.mean - earlier.mean

    def half(one: float, other: float) -> float:
        return sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    (later_low, later_high), (earlier_low, earlier_high) = later.interval, earlier.interval
    below = half(later.mean - later_low, earlier_high - earlier.mean)
    above = half(later_high - later.mean, earlier.mean - earlier_low)
    return PairedDifference(mean, max(-1.0, mean - below), min(1.0, mean + above), n)
