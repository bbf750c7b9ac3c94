"""What the operator's desk is set to: the keyboard of ``teleop``, and what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.parameters.reading import Reader
from irevla_ros.nodes.parameters.teleop import TeleopConfig


@dataclass(frozen=True)
class DeskConfig:
    """goal: successes wanted of each task, 0 for none; rate_hz: of the control, to show lengths in seconds; run: is shown."""

    goal: int = 0
    rate_hz: float = 10.0
    run: str = ""

    def __post_init__(self) -> None:
        if self.goal < 0 or not self.rate_hz > 0:
            raise ConfigError(f"goal = {self.goal}, rate_hz = {self.rate_hz}", "not negative, and positive", "give 20 and 10")


class DeskSettings(NamedTuple):
    desk: DeskConfig
    keyboard: TeleopConfig


def settings(read: Reader) -> DeskSettings:
    return DeskSettings(read(DeskConfig), read(TeleopConfig, device="keyboard"))
