"""From streams with stamps of their own to one observation at one tick, or the name of what is missing.

All ``stamp_ns`` and ``tick_ns`` are nanoseconds of the graph's clock; ``wall_ns`` is monotonic and says when something
arrived. Stamps order the samples; wall time bounds how long nothing may have come, whatever the stamps claim.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from irevla_ros.core.durations import MILLISECOND
from irevla_ros.core.errors import ConfigError, unknown_name

T = TypeVar("T")



class Arrival(str, Enum):
    """What a new stamp is to a stream. Only ``NEW`` ones are used."""

    NEW = "new"
    DUPLICATE = "duplicate"
    LATE = "late"
    JUMP = "jump"


class StampGuard:
    """Lets a stream's stamps through in strictly increasing order.

    A stamp equal to the newest is a duplicate, an earlier one late. One that is more than ``jump_ns`` before or after the
    newest tells of another clock, or of an outage: it is not let through but starts the stream anew, so that the next
    one, if it follows within ``jump_ns``, is. A source that repeats an old sample, or two that alternate, never pass.
    """

    def __init__(self, jump_ns: int) -> None:
        if jump_ns <= 0:
            raise ConfigError(f"clock jump limit {jump_ns} ns", "it is positive", "give 2 s, say")
        self.jump_ns = jump_ns
        self.newest_ns: int | None = None
        self.counts: Counter[str] = Counter()

    def check(self, stamp_ns: int) -> Arrival:
        """Note ``stamp_ns`` and say what it is; ``counts`` counts all but ``NEW`` by name."""
        newest = self.newest_ns
        if newest is None:
            arrival = Arrival.NEW
        elif abs(stamp_ns - newest) > self.jump_ns:
            arrival = Arrival.JUMP
        elif stamp_ns == newest:
            arrival = Arrival.DUPLICATE
        else:
            arrival = Arrival.NEW if stamp_ns > newest else Arrival.LATE
        if arrival in (Arrival.NEW, Arrival.JUMP):
            self.newest_ns = stamp_ns
        if arrival is not Arrival.NEW:
            self.counts[arrival.value] += 1
        return arrival

    def forget(self) -> None:
        """Take the next stamp, whatever it is; the counts stay."""
        self.newest_ns = None


@dataclass(frozen=True)
class Sample(Generic[T]):
    """One message of a stream: its stamp, when it arrived, what it says."""

    stamp_ns: int
    wall_ns: int
    value: T


class StreamBuffer(Generic[T]):
    """The last ``capacity`` samples of one stream, stamps strictly increasing (``StampGuard``; a jump empties it)."""

    def __init__(self, capacity: int, jump_ns: int) -> None:
        if capacity < 1:
            raise ConfigError(f"stream capacity {capacity}", "at least one sample is kept", "give 64, say")
        self._capacity, self._guard = capacity, StampGuard(jump_ns)
        self._samples: list[Sample[T]] = []
        self._stamps: list[int] = []

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many samples were not used: ``duplicate``, ``late``, ``jump``."""
        return self._guard.counts

    @property
    def newest(self) -> Sample[T] | None:
        return self._samples[-1] if self._samples else None

    def push(self, stamp_ns: int, value: T, wall_ns: int) -> Arrival:
        """Keep the sample if it is new; the oldest makes room."""
        arrival = self._guard.check(stamp_ns)
        if arrival is Arrival.JUMP:
            self._samples, self._stamps = [], []
        if arrival is Arrival.NEW:
            self._samples.append(Sample(stamp_ns, wall_ns, value))
            self._stamps.append(stamp_ns)
            if len(self._samples) > self._capacity:
                del self._samples[0], self._stamps[0]
        return arrival

    def latest_before(self, tick_ns: int) -> Sample[T] | None:
        """The newest sample stamped at or before ``tick_ns``."""
        index = bisect_right(self._stamps, tick_ns)
        return self._samples[index - 1] if index else None

    def nearest(self, tick_ns: int, tolerance_ns: int) -> Sample[T] | None:
        """The sample stamped nearest to ``tick_ns``, at most ``tolerance_ns`` from it; of two as near, the earlier."""
        index = bisect_left(self._stamps, tick_ns)
        near = self._samples[max(0, index - 1) : index + 1]
        best = min(near, key=lambda sample: abs(sample.stamp_ns - tick_ns), default=None)
        return best if best is not None and abs(best.stamp_ns - tick_ns) <= tolerance_ns else None

    def age_ns(self, tick_ns: int) -> int | None:
        """``tick_ns`` minus the newest stamp (negative when that lies ahead); None when empty."""
        return tick_ns - self._stamps[-1] if self._stamps else None

    def clear(self) -> None:
        """Forget all samples and what their clock said."""
        self._samples, self._stamps = [], []
        self._guard.forget()


@dataclass(frozen=True)
class StreamSpec:
    """How one stream takes part. Durations in ns.

    max_age_ns: of the sample's stamp at the tick. nearest_ns: None takes the newest sample at or before the tick, a number
    the nearest within it (0: exactly the tick, for simulation in lock step). wall_ns: longest time since the sample
    arrived; None: not looked at. latched: a value that holds until the next one, such as the instruction; never stale.
    """

    name: str
    max_age_ns: int = 200 * MILLISECOND
    nearest_ns: int | None = None
    wall_ns: int | None = 1000 * MILLISECOND
    latched: bool = False
    capacity: int = 64

    def __post_init__(self) -> None:
        if self.max_age_ns < 0 or (self.nearest_ns or 0) < 0 or (self.wall_ns is not None and self.wall_ns <= 0):
            raise ConfigError(f"stream {self.name!r} with limits {self.max_age_ns}, {self.nearest_ns}, {self.wall_ns} ns",
                              "limits are not negative", "give nanoseconds")  # fmt: skip


class Lack(str, Enum):
    """Why a stream gives nothing at a tick."""

    MISSING = "missing"  # no sample at all
    STALE = "stale"  # its stamp is too old
    AHEAD = "ahead"  # all its samples are later than the tick
    SILENT = "silent"  # nothing has arrived for too long of wall time


@dataclass(frozen=True)
class Problem:
    """One stream that gives nothing: its newest usable sample's age and the limit (ns); age None without a sample."""

    stream: str
    lack: Lack
    age_ns: int | None
    limit_ns: int

    def __str__(self) -> str:
        if self.age_ns is None:
            return f"{self.stream}: {self.lack.value}"
        return f"{self.stream}: {self.lack.value}, age {self.age_ns / 1e9:.3f} s, limit {self.limit_ns / 1e9:.3f} s"


@dataclass(frozen=True)
class Alignment:
    """The samples that belong to ``tick_ns``, by stream, or the ``problems`` in the order of the streams."""

    tick_ns: int
    samples: Mapping[str, Sample[Any]]
    problems: tuple[Problem, ...]

    @property
    def complete(self) -> bool:
        return not self.problems


class Aligner:
    """Several streams, one tick. The policy node, the recorder and the converters of recorded data use the same one.

    Ticks must not go back. One that does tells of a clock that jumped: everything but the latched values is forgotten, so
    that what was stale cannot look fresh, and ``jumps`` counts it.
    """

    def __init__(self, streams: tuple[StreamSpec, ...], jump_ns: int = 2000 * MILLISECOND) -> None:
        self._specs = {spec.name: spec for spec in streams}
        if len(self._specs) != len(streams) or not streams:
            raise ConfigError(f"streams {[spec.name for spec in streams]}", "at least one, each named once",
                              "rename or remove the repeated one")  # fmt: skip
        self._buffers: dict[str, StreamBuffer[Any]] = {s.name: StreamBuffer(s.capacity, jump_ns) for s in streams}
        self._held: dict[str, Sample[Any]] = {}  # the value of each latched stream
        self._tick_ns: int | None = None
        self.jumps = 0

    def push(self, stream: str, stamp_ns: int, value: Any, wall_ns: int) -> Arrival:
        """Take one sample. ConfigError for an unknown stream."""
        spec = self._specs.get(stream)
        if spec is None:
            raise unknown_name("stream", stream, self._specs)
        if spec.latched:
            self._held[stream] = Sample(stamp_ns, wall_ns, value)
            return Arrival.NEW
        return self._buffers[stream].push(stamp_ns, value, wall_ns)

    def at(self, tick_ns: int, wall_ns: int) -> Alignment:
        """The observation at ``tick_ns``; every stream that gives none is in ``problems``."""
        if self._tick_ns is not None and tick_ns < self._tick_ns:
            self.jumps += 1
            for buffer in self._buffers.values():
                buffer.clear()
        self._tick_ns = tick_ns
        samples: dict[str, Sample[Any]] = {}
        problems = []
        for name, spec in self._specs.items():
            found = self._find(spec, tick_ns, wall_ns)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                samples[name] = found
        return Alignment(tick_ns, samples, tuple(problems))

    def counts(self) -> dict[str, int]:
        """Samples not used, by ``<stream>.<why>``."""
        return {f"{name}.{why}": n for name, buffer in self._buffers.items() for why, n in buffer.counts.items()}

    def _find(self, spec: StreamSpec, tick_ns: int, wall_ns: int) -> Sample[Any] | Problem:
        if spec.latched:
            held = self._held.get(spec.name)
            return held if held is not None else Problem(spec.name, Lack.MISSING, None, spec.max_age_ns)
        buffer = self._buffers[spec.name]
        newest = buffer.newest
        if newest is None:
            return Problem(spec.name, Lack.MISSING, None, spec.max_age_ns)
        limit = spec.max_age_ns
        if spec.nearest_ns is None:
            sample = buffer.latest_before(tick_ns)
        else:
            limit = min(limit, spec.nearest_ns)
            sample = buffer.nearest(tick_ns, limit)
        if sample is None or tick_ns - sample.stamp_ns > limit:
            age = tick_ns - (sample or newest).stamp_ns
            return Problem(spec.name, Lack.STALE if age > 0 else Lack.AHEAD, age, limit)
        silence = wall_ns - sample.wall_ns
        if spec.wall_ns is not None and not 0 <= silence <= spec.wall_ns:
            return Problem(spec.name, Lack.SILENT, silence, spec.wall_ns)
        return sample
