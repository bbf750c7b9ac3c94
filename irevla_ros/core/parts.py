"""The parts of an episode that wait to be joined, by the stamp of their observation, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from irevla_ros.core.rows import SideRecord
from irevla_ros.core.types import Observation


class Parts:
    """Observations, policy records and rewards. The first of each stamp counts.

    Of what no step has answered, the newest ``capacity`` are kept; ``answered`` holds the stamps that steps have named.
    ``counts`` says what was not used.
    """

    def __init__(self, capacity: int, counts: Counter[str]) -> None:
        self._capacity, self._counts = capacity, counts
        self.observations: dict[int, Observation] = {}
        self.sides: dict[int, SideRecord] = {}
        self.answered: set[int] = set()
        self._rewards: dict[int, float] = {}

    def observation(self, stamp_ns: int, observation: Observation) -> None:
        if stamp_ns in self.observations:
            self._counts["observations.repeated"] += 1
            return
        self.observations[stamp_ns] = observation
        spare = self._spare(self.observations)
        if spare is not None:
            del self.observations[spare]
            self._counts["observations.unanswered"] += 1

    def side(self, record: SideRecord) -> None:
        if record.stamp_ns in self.sides:
            self._counts["sides.repeated"] += 1
            return
        self.sides[record.stamp_ns] = record
        spare = self._spare(self.sides)
        if spare is not None:
            del self.sides[spare]
            self._counts["sides.unanswered"] += 1

    def reward(self, stamp_ns: int, value: float) -> None:
        if stamp_ns in self._rewards or not math.isfinite(value):
            self._counts["rewards.unused"] += 1
            return
        self._rewards[stamp_ns] = value
        if len(self._rewards) > 2 * self._capacity:
            del self._rewards[min(self._rewards)]
            self._counts["rewards.unused"] += 1

    def earned(self, after_ns: int, until_ns: int) -> float:
        """The sum of the rewards of the observations after ``after_ns`` up to and with ``until_ns``."""
        return math.fsum(value for stamp, value in self._rewards.items() if after_ns < stamp <= until_ns)

    def done(self, stamp_ns: int, following_ns: int) -> None:
        """The row between these observations is complete: forget what only it needed. Their policy records stay."""
        self.observations = {stamp: o for stamp, o in self.observations.items() if stamp > following_ns}
        self.sides = {stamp: side for stamp, side in self.sides.items() if not stamp_ns < stamp < following_ns}
        self._rewards = {stamp: value for stamp, value in self._rewards.items() if stamp > following_ns}

    def _spare(self, kept: Iterable[int]) -> int | None:
        spare = [stamp for stamp in kept if stamp not in self.answered]
        return min(spare) if len(spare) > self._capacity else None
