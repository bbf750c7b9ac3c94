"""What the replay node is set to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from irevla_ros.core.arm_replay import ReplayLimits
from irevla_ros.core.durations import SECOND, period_ns
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.parameters.reading import Reader, check_cameras


@dataclass(frozen=True)
class ReplayConfig:
    """spool: absolute path of its folder; episode: id in it. cameras: the first one's stamps are the observations'. settle_ns:
    from the last step to the end of the run, so that success shows."""

    spool: str = ""
    episode: str = ""
    cameras: tuple[str, ...] = ("front",)
    rate_hz: float = 10.0
    lock_step: bool = False
    settle_ns: int = 2 * SECOND

    def __post_init__(self) -> None:
        check_cameras(self.cameras)
        period_ns(self.rate_hz)
        if self.lock_step:
            raise ConfigError("replay in lock step", "the arm's own time is needed", "start a graph of real time")


class ReplaySettings(NamedTuple):
    replay: ReplayConfig
    limits: ReplayLimits


def settings(read: Reader) -> ReplaySettings:
    return ReplaySettings(read(ReplayConfig), read(ReplayLimits))
