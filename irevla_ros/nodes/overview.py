"""What all nodes say of themselves on /diagnostics, as one row each: for the status lines and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from irevla_ros.core.durations import SECOND
from irevla_ros.core.health import Level
from irevla_ros.ros.messages import DiagnosticArray

SILENT_NS = 5 * SECOND  # nodes report once a second
CAPACITY = 256  # names; /diagnostics is open to all
_DROPS = ("dropped", "lost", "malformed", "refused", "overwritten")


@dataclass(frozen=True)
class NodeRow:
    """One node. hz, age_s: of the stream that it names first, the age as of now; None where it watches none, or before its
    first message. drops: all that it dropped, lost or refused. silence_s: since its report; values: of that, in order."""

    name: str
    level: Level
    message: str
    hz: float | None
    age_s: float | None
    drops: int
    silence_s: float
    values: Mapping[str, str]


class Overview:
    """The newest report of each node; times are ``wall_ns``, monotonic."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[int, int, str, dict[str, str]]] = {}

    def received(self, message: DiagnosticArray, wall_ns: int) -> None:
        """Reports under fully qualified names. Of too many names the longest silent is forgotten."""
        for status in message.status:
            self._reports.pop(status.name, None)
            values = {pair.key: pair.value for pair in status.values}
            self._reports[status.name] = wall_ns, status.level[0], status.message, values
            if len(self._reports) > CAPACITY:
                del self._reports[next(iter(self._reports))]

    def row(self, name: str, wall_ns: int) -> NodeRow | None:
        """None for a node that has not been heard of. Who is silent for five seconds is STALE."""
        if name not in self._reports:
            return None
        heard_ns, number, message, values = self._reports[name]
        silence = wall_ns - heard_ns
        level = Level(number) if number in tuple(Level) else Level.ERROR
        if silence > SILENT_NS:
            level, message = Level.STALE, f"silent for {silence / SECOND:.0f} s; it said last: {message}"
        hz = _first(values, ".hz")
        age = _first(values, ".age_s")
        drops = sum(int(value) for key, value in values.items() if key.rpartition(".")[2] in _DROPS and value.isdecimal())
        silence_s = silence / SECOND
        return NodeRow(name, level, message, hz, None if age is None else age + silence_s, drops, silence_s, values)

    def rows(self, wall_ns: int) -> list[NodeRow]:
        """All nodes by name."""
        return [row for name in sorted(self._reports) if (row := self.row(name, wall_ns)) is not None]


def _first(values: Mapping[str, str], ending: str) -> float | None:
    text = next((value for key, value in values.items() if key.endswith(ending)), "")
    try:
        return float(text)
    except ValueError:
        return None  # "never", before the first message
