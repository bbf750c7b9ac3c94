"""What an arbiter is set to: freshness, timing, limits and how control comes back from the human."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from irevla_ros.core.durations import MILLISECOND
from irevla_ros.core.errors import ConfigError, IrevlaError
from irevla_ros.core.limits import Limits


class Refused(IrevlaError):
    """The arbiter does not do this now; says why, and what would help."""


class HandBack(str, Enum):
    """How the policy gets the arm back when the human lets go."""

    ENGAGE = "engage"  # somebody engages it again
    FRESH = "fresh"  # by itself, with a chunk whose observation is newer than everything seen at the release


@dataclass(frozen=True)
class ArbiterConfig:
    """Durations in ns. period_ns: of control; min_tick_ns: wall time between two steps, which bounds the speed to
    step / min_tick however often ``tick`` is called (0 in lock step, where simulated time is not wall time); pose_ns,
    command_ns, human_ns: freshness; chunk_age_ns: of a chunk's observation at each of its actions; ahead_ns: how far
    stamps may lie ahead of ``now_ns``; jump_ns: see ``StampGuard``; longest_chunk: actions.

    In lock step the simulator waits for slow inference: set the freshness limits to seconds there."""

    limits: Limits = field(default_factory=Limits)
    period_ns: int = 100 * MILLISECOND
    min_tick_ns: int = 50 * MILLISECOND
    pose_ns: int = 200 * MILLISECOND
    command_ns: int = 200 * MILLISECOND
    human_ns: int = 200 * MILLISECOND
    chunk_age_ns: int = 500 * MILLISECOND
    ahead_ns: int = 50 * MILLISECOND
    jump_ns: int = 2000 * MILLISECOND
    longest_chunk: int = 64
    hand_back: HandBack = HandBack.ENGAGE

    def __post_init__(self) -> None:
        positive = (self.period_ns, self.pose_ns, self.command_ns, self.human_ns, self.longest_chunk)
        if min(positive) <= 0 or self.min_tick_ns < 0:
            raise ConfigError(f"arbiter durations {positive}, min_tick_ns {self.min_tick_ns}", "positive, and not negative",
                              "give nanoseconds")  # fmt: skip
