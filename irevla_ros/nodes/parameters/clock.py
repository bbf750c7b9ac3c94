"""What the clock node is set to."""

from __future__ import annotations

from dataclasses import dataclass

from irevla_ros.nodes.parameters.reading import Reader


@dataclass(frozen=True)
class ClockConfig:
    """side: which host of the graph this is, ``robot`` or ``gpu``; "": the host's own name."""

    side: str = ""


def settings(read: Reader) -> ClockConfig:
    return read(ClockConfig)
