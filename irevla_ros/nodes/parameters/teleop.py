"""What the teleoperation node is set to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.teleop import SPACEMOUSE, XBOX, PadMapping, Speeds
from irevla_ros.nodes.parameters.reading import Reader


@dataclass(frozen=True)
class TeleopConfig:
    """frame: of the twist, the arbiter's. axes_of: whether the device steers along the axes of the base or of the hand.
    twist_hz: how often it is sent. key_hold_ns: see ``Keys``; input_ns: a device that has said nothing for so long does not
    steer. answer_ns: patience with services. terminal: see ``Terminal``."""

    device: Literal["keyboard", "gamepad", "spacemouse"] = "keyboard"
    frame: str = "base"
    axes_of: Literal["base", "hand"] = "base"
    twist_hz: float = 20.0
    speeds: Speeds = field(default_factory=Speeds)
    gamepad: PadMapping = XBOX
    spacemouse: PadMapping = SPACEMOUSE
    key_hold_ns: int = SECOND // 4
    input_ns: int = SECOND // 4
    answer_ns: int = 5 * SECOND
    open_m: float = 0.08
    terminal: str = ""

    def __post_init__(self) -> None:
        if not 5.0 <= self.twist_hz <= 100.0 or not 0 < self.open_m < 1 or self.answer_ns <= 0:
            raise ConfigError(f"twist_hz = {self.twist_hz}, open_m = {self.open_m}, answer_s = {self.answer_ns / SECOND}",
                              "5 to 100 Hz, 0 to 1 m, a positive time", "give 20, 0.08 and 5")  # fmt: skip


def settings(read: Reader) -> TeleopConfig:
    return read(TeleopConfig)
