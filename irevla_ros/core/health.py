"""The health of a node: named checks, measured rates and counters, as what a DiagnosticArray shows.

Times are ``wall_ns``: monotonic, given by the caller.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError


class Level(IntEnum):
    """Values as in diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


SEVERITY = (Level.OK, Level.WARN, Level.STALE, Level.ERROR)  # an error is worse than silence


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, how it is, and in words why (with the measured value and its limit)."""

    name: str
    level: Level
    text: str = ""


@dataclass(frozen=True)
class Report:
    """A node's state: the worst level, one line, and key/value pairs in order."""

    level: Level
    message: str
    values: tuple[tuple[str, str], ...]


class RateMeter:
    """Arrivals a second over the last ``window_ns``, and the age of the last one. Keeps at most ``capacity`` arrivals."""

    def __init__(self, window_ns: int = 5 * SECOND, capacity: int = 1024) -> None:
        if window_ns <= 0 or capacity < 2:
            raise ConfigError(f"rate over {window_ns} ns of {capacity} arrivals", "a positive window and 2 or more",
                              "give 5 s and 1024")  # fmt: skip
        self._window_ns = window_ns
        self._arrivals: deque[int] = deque(maxlen=capacity)
        self._last_ns: int | None = None
        self.total = 0

    def arrived(self, wall_ns: int) -> None:
        self._arrivals.append(wall_ns)
        self._last_ns = wall_ns
        self.total += 1

    def hz(self, wall_ns: int) -> float:
        """Intervals completed within the window, by the time from the first of its arrivals until the last, or until now
        once that is overdue: a stream that has stopped sinks towards 0. 0 with fewer than two arrivals in the window."""
        while self._arrivals and wall_ns - self._arrivals[0] > self._window_ns:
            self._arrivals.popleft()
        intervals = len(self._arrivals) - 1
        if intervals < 1:
            return 0.0
        span = self._arrivals[-1] - self._arrivals[0]
        overdue = wall_ns - self._arrivals[-1] > 2 * span / intervals
        span = wall_ns - self._arrivals[0] if overdue else span
        return intervals * SECOND / span if span > 0 else 0.0

    def age_ns(self, wall_ns: int) -> int | None:
        """Since the last arrival; None before the first."""
        return None if self._last_ns is None else wall_ns - self._last_ns


class Health:
    """Collects what a node knows about itself; ``report`` renders it.

    ``check`` sets a named finding, ``watch`` makes one of a stream's rate and age, ``counts`` holds the counters of drops
    and rejects (a Counter of the node's own; other parts' counts are merged in by ``absorb``).
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._checks: dict[str, Check] = {}
        self._meters: dict[str, tuple[RateMeter, float, int, Callable[[], bool]]] = {}
        self._absorbed: dict[str, float] = {}

    def check(self, name: str, level: Level, text: str = "") -> None:
        """Set or replace the finding ``name``."""
        self._checks[name] = Check(name, level, text)

    def watch(self, name: str, *, lowest_hz: float = 0.0, stale_ns: int,
              expected: Callable[[], bool] = lambda: True) -> RateMeter:  # fmt: skip
        """A meter whose stream is STALE after ``stale_ns`` without arrival, and WARN below ``lowest_hz``; while it is not
        ``expected`` that anything comes, its silence is waiting."""
        meter = RateMeter(max(5 * SECOND, 2 * stale_ns))
        self._meters[name] = (meter, lowest_hz, stale_ns, expected)
        return meter

    def absorb(self, prefix: str, counts: Mapping[str, float]) -> None:
        """Show another part's running totals as ``<prefix>.<name>``."""
        self._absorbed.update({f"{prefix}.{name}": n for name, n in counts.items()})

    def report(self, wall_ns: int) -> Report:
        values: list[tuple[str, str]] = []
        checks, waiting = list(self._checks.values()), False
        for name, (meter, lowest_hz, stale_ns, expected) in self._meters.items():
            hz, age = meter.hz(wall_ns), meter.age_ns(wall_ns)
            values.append((f"{name}.hz", f"{hz:.1f}"))
            values.append((f"{name}.age_s", "never" if age is None else f"{age / SECOND:.3f}"))
            silent = age is None or age > stale_ns
            if silent and not expected():
                waiting = True
            elif silent:
                since = "nothing yet" if age is None else f"nothing for {age / SECOND:.1f} s"
                checks.append(Check(name, Level.STALE, f"{since}, limit {stale_ns / SECOND:.1f} s"))
            elif hz < lowest_hz:
                checks.append(Check(name, Level.WARN, f"{hz:.1f} Hz, at least {lowest_hz:.1f} wanted"))
        for check in self._checks.values():
            values.append((check.name, f"{check.level.name}{check.text and ': ' + check.text}"))
        totals = self._absorbed | dict(self.counts)
        values += [(name, str(totals[name])) for name in sorted(totals)]
        level = max((check.level for check in checks), key=SEVERITY.index, default=Level.OK)
        bad = sorted((c for c in checks if c.level is not Level.OK), key=lambda c: -SEVERITY.index(c.level))
        message = "; ".join(f"{check.name}{check.text and ': ' + check.text}" for check in bad)
        message = message or ("waiting for a run" if waiting else "ok")
        return Report(level, message, tuple(values))


class RateLimit:
    """Lets a log message through at most once in ``interval_ns`` for each key, and says how many it has swallowed.

    Keeps at most ``capacity`` keys; the longest unused is forgotten.
    """

    def __init__(self, interval_ns: int = SECOND, capacity: int = 256) -> None:
        self._interval_ns, self._capacity = interval_ns, capacity
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()  # key -> last let through, swallowed since

    def allow(self, key: str, wall_ns: int) -> int | None:
        """None: keep quiet. A number: log it, and say that so many like it were suppressed."""
        last, swallowed = self._seen.pop(key, (None, 0))
        if last is not None and wall_ns - last < self._interval_ns:
            self._seen[key] = last, swallowed + 1
            return None
        self._seen[key] = wall_ns, 0
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return swallowed
