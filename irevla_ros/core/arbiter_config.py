"""What an arbiter is set to: freshness, timing, limits and how control comes back from the human."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from irevla_ros.core.durations import MILLISECOND
from irevla_ros.core.errors import ConfigError, IrevlaError
from irevla_ros.core.force import ForceConfig
from irevla_ros.core.limits import Limits
from irevla_ros.core.margins import MarginConfig


class Refused(IrevlaError):
    """The arbiter does not do this now; says why, and what would help."""


class HandBack(str, Enum):
    """How the policy gets the arm back when the human lets go."""

    ENGAGE = "engage"  # somebody engages it again
    FRESH = "fresh"  # by itself, with a chunk whose observation is newer than everything seen at the release


@dataclass(frozen=True)
class ArbiterConfig:
    """Durations in ns. period_ns: of control; servo_ns: of the stream between two steps (0: none, as in lock step, where
    simulated time is not wall time); min_tick_ns: wall time between two steps; pose_ns, command_ns, human_ns: freshness;
    chunk_age_ns: of a chunk's observation at each of its actions; ahead_ns: how far stamps may lie ahead of ``now_ns``;
    jump_ns: see ``StampGuard``; release_ns: wall time for which the human must have let go before anybody else moves the arm;
    deadman_ns: how long ago the operator may have been seen to hold the deadman, 0 where there is none; longest_chunk: actions.

    In lock step the simulator waits for slow inference: set the freshness limits to seconds there."""

    limits: Limits = field(default_factory=Limits)
    margins: MarginConfig = field(default_factory=MarginConfig)
    force: ForceConfig = field(default_factory=ForceConfig)
    period_ns: int = 100 * MILLISECOND
    servo_ns: int = 20 * MILLISECOND
    min_tick_ns: int = 50 * MILLISECOND
    pose_ns: int = 200 * MILLISECOND
    command_ns: int = 200 * MILLISECOND
    human_ns: int = 200 * MILLISECOND
    chunk_age_ns: int = 500 * MILLISECOND
    ahead_ns: int = 50 * MILLISECOND
    jump_ns: int = 2000 * MILLISECOND
    release_ns: int = 500 * MILLISECOND
    deadman_ns: int = 0
    longest_chunk: int = 64
    hand_back: HandBack = HandBack.ENGAGE

    def __post_init__(self) -> None:
        positive = (self.period_ns, self.pose_ns, self.command_ns, self.human_ns, self.longest_chunk)
        others = (self.min_tick_ns, self.release_ns, self.deadman_ns)
        if min(positive) <= 0 or min(others) < 0:
            raise ConfigError(f"arbiter durations {positive}, min_tick, release and deadman {others}",
                              "positive, and not negative", "give nanoseconds")  # fmt: skip
        if self.servo_ns and not MILLISECOND <= self.servo_ns <= self.period_ns:
            raise ConfigError(f"servo period {self.servo_ns / MILLISECOND} ms",
                              f"from 1 ms to the control period, {self.period_ns / MILLISECOND} ms, or 0 for none",
                              "give 20 ms")  # fmt: skip
