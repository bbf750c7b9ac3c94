"""Durations in nanoseconds, the unit of every stamp."""

from __future__ import annotations

from irevla_ros.core.errors import ConfigError

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
LONGEST = 1 << 62  # 146 years: a limit that is none


def period_ns(rate_hz: float) -> int:
    """Of control at ``rate_hz``. Raises ConfigError for a rate that no arm has."""
    if not 0.1 <= rate_hz <= 1000:
        raise ConfigError(f"rate_hz = {rate_hz}", "a rate of control lies in [0.1, 1000]", "give 10.0, say")
    return round(SECOND / rate_hz)
