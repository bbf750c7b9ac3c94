"""Durations in nanoseconds, the unit of every stamp."""

from __future__ import annotations

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND
