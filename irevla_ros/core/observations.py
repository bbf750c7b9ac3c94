"""The stamps of the observations that are to be recorded: which of them a step answers."""

from __future__ import annotations

from irevla_ros.core.alignment import Arrival, StampGuard
from irevla_ros.core.chunks import Due

KEPT = 64


class Observations:
    """``newest_ns``: of all, also of one that was not used."""

    def __init__(self, jump_ns: int) -> None:
        self._guard = StampGuard(jump_ns)
        self._stamps: list[int] = []

    @property
    def newest_ns(self) -> int | None:
        return self._guard.newest_ns

    def push(self, stamp_ns: int) -> None:
        arrival = self._guard.check(stamp_ns)
        if arrival is Arrival.JUMP:
            self._stamps = []
        elif arrival is Arrival.NEW:
            self._stamps = [*self._stamps[1 - KEPT :], stamp_ns]

    def last(self, default: int) -> int:
        return self._stamps[-1] if self._stamps else default

    def answered_by(self, due: Due) -> int:
        """The observation that an action was meant for: its chunk's own, or the one current at its planned time."""
        chunk = due.chunk
        if due.index == 0:
            return chunk.stamp_ns
        planned = chunk.stamp_ns + due.index * chunk.period_ns + chunk.period_ns // 2
        return max((s for s in self._stamps if chunk.stamp_ns < s <= planned), default=chunk.stamp_ns)

    def forget(self) -> None:
        self._stamps = []
        self._guard.forget()
