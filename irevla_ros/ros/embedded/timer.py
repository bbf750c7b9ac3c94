"""Periodic timers. A late timer skips what it missed, and a clock that jumps back starts its period anew: no bursts."""

from __future__ import annotations

from collections.abc import Callable

from irevla_ros.ros.embedded.clock import Clock
from irevla_ros.ros.embedded.time import ClockType


class Timer:
    """Calls ``callback`` on the executor's thread; made by ``Node.create_timer``."""

    def __init__(self, callback: Callable[[], object], period_ns: int, clock: Clock, wake: Callable[[], None]) -> None:
        if period_ns < 0:
            raise ValueError("timer period must not be negative")
        self.callback = callback
        self._period_ns = period_ns
        self._clock = clock
        self._wake = wake
        self._canceled = False
        self._epoch = 0
        self._last_ns = self._next_ns = 0
        self._restart()

    @property
    def timer_period_ns(self) -> int:
        return self._period_ns

    @property
    def clock(self) -> Clock:
        return self._clock

    def cancel(self) -> None:
        self._canceled = True

    def is_canceled(self) -> bool:
        return self._canceled

    def reset(self) -> None:
        """Start the period anew, also of a cancelled timer."""
        self._restart()
        self._canceled = False
        self._wake()

    def ready(self) -> bool:
        return not self._canceled and self._now() >= self._next_ns

    def take(self) -> Callable[[], object] | None:
        now = self._now()
        if self._canceled or now < self._next_ns:
            return None
        self._last_ns = now
        behind = now - self._next_ns
        # The grid stays where it was; a period of zero is due at once, always.
        self._next_ns += (behind // self._period_ns + 1) * self._period_ns if self._period_ns else behind
        return self.callback

    def wait_s(self) -> float | None:
        """Seconds until the timer is due by a running clock; None where only a message can make it due."""
        simulated = self._clock.clock_type is ClockType.ROS_TIME and getattr(self._clock, "ros_time_is_active", False)
        if self._canceled or simulated:
            return None
        return max(0.0, (self._next_ns - self._now()) / 1e9)

    def _restart(self) -> None:
        self._epoch = self._clock._epoch
        self._last_ns = self._clock._timer_ns()
        self._next_ns = self._last_ns + self._period_ns

    def _now(self) -> int:
        now = self._clock._timer_ns()
        if self._epoch != self._clock._epoch or now < self._last_ns:
            self._restart()
        return now
