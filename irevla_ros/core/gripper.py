"""When a binary gripper is told something: on a change alone."""

from __future__ import annotations

from dataclasses import dataclass

from irevla_ros.core.errors import ConfigError


@dataclass(frozen=True)
class GripperConfig:
    """widths in m, speed in m/s, force in N. A wish of at least ``open_above_m`` opens, one of at most ``close_below_m``
    closes, one between changes nothing. grasp: close by ``grasp`` with a force, which holds on to whatever is between the
    fingers (false: by ``move``)."""

    open_m: float = 0.08
    open_above_m: float = 0.05
    close_below_m: float = 0.03
    speed_m_s: float = 0.1
    force_n: float = 20.0
    grasp: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.close_below_m < self.open_above_m <= self.open_m <= 0.08:
            raise ConfigError(f"gripper.close_below_m, open_above_m, open_m = {self.close_below_m}, {self.open_above_m}, "
                              f"{self.open_m}", "they rise, from 0 to the hand's 0.08 m",
                              "give 0.03, 0.05 and 0.08")  # fmt: skip
        if not (0 < self.speed_m_s <= 0.2 and 0 < self.force_n <= 70):
            raise ConfigError(f"gripper.speed_m_s, force_n = {self.speed_m_s}, {self.force_n}",
                              "above 0, at most 0.2 m/s and 70 N (the hand's own limits)", "give 0.1 and 20.0")  # fmt: skip


class GripperSwitch:
    """Whether the gripper is to be open (True) or closed (False), None before the first clear wish."""

    def __init__(self, config: GripperConfig) -> None:
        self._config = config
        self.wanted: bool | None = None

    def wish(self, width_m: float) -> bool:
        """Take a wish; whether it changed what is wanted."""
        before = self.wanted
        if width_m >= self._config.open_above_m:
            self.wanted = True
        elif width_m <= self._config.close_below_m:
            self.wanted = False
        return self.wanted is not before

    def forget(self) -> None:
        """What was done since is not known: the next wish counts as a change."""
        self.wanted = None
