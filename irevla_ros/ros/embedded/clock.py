"""Clocks: system, steady, and ROS time, which follows ``/clock`` where ``use_sim_time`` is set."""

from __future__ import annotations

import time

from irevla_ros.ros.embedded.time import ClockType, Time


class Clock:
    """A source of time; ``Clock(clock_type=ClockType.STEADY_TIME)`` never jumps."""

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        self._clock_type = clock_type

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    def now(self) -> Time:
        return Time(nanoseconds=self._now_ns(), clock_type=self._clock_type)

    def __repr__(self) -> str:
        return f"Clock(clock_type={self._clock_type.name})"

    @property
    def _epoch(self) -> int:
        """Counts the changes after which times read before mean nothing to a timer."""
        return 0

    def _now_ns(self) -> int:
        return time.monotonic_ns() if self._clock_type is ClockType.STEADY_TIME else time.time_ns()

    def _timer_ns(self) -> int:
        """What timers count by: a step of the system clock must neither stall them nor make them fire in a burst."""
        return time.monotonic_ns()


class ROSClock(Clock):
    """The clock of a node: system time, or the last time heard on ``/clock`` once simulated time is active."""

    def __init__(self) -> None:
        super().__init__(clock_type=ClockType.ROS_TIME)
        self._simulated = False
        self._override_ns = 0
        self._changes = 0

    @property
    def ros_time_is_active(self) -> bool:
        return self._simulated

    def set_ros_time_override(self, time: Time) -> None:
        """Set what the clock shows while simulated time is active."""
        self._override_ns = time.nanoseconds

    def _set_ros_time_is_active(self, enabled: bool) -> None:
        if enabled != self._simulated:
            self._simulated = enabled
            self._changes += 1

    @property
    def _epoch(self) -> int:
        return self._changes

    def _now_ns(self) -> int:
        return self._override_ns if self._simulated else super()._now_ns()

    def _timer_ns(self) -> int:
        return self._override_ns if self._simulated else super()._timer_ns()
