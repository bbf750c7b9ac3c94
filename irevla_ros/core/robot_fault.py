"""What can be wrong with a Franka arm as its driver shows it, and how often it may be mended without a human."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError


class RobotMode(IntEnum):
    """``robot_mode`` of franka_msgs/FrankaRobotState."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    AUTOMATIC_ERROR_RECOVERY = 6


BY_HAND = {
    RobotMode.GUIDING: "the arm is guided by hand",
    RobotMode.USER_STOPPED: "the user stop is pressed",
}  # only the human that did it may end it


@dataclass(frozen=True)
class Fault:
    """``what`` in words; ``by_hand``: a human has stopped the arm, and nothing is to be recovered without one."""

    what: str
    by_hand: bool = False


def fault_of(mode: int | None, errors: Collection[str], hardware: str | None, silent_ns: int, limit_ns: int) -> Fault | None:
    """The arm's fault, None where it has none.

    mode: ``RobotMode`` and errors: names of ``current_errors`` that are set, of the newest state (None, none where there is
    no state broadcaster); hardware: lifecycle state of the hardware component, None where it is not known; silent_ns: since
    the newest state of any kind. After a fault franka_ros2's hardware component becomes unconfigured: under Jazzy all
    controllers, the state broadcaster too, are deactivated, so that the reflex itself may never be seen; under Humble they stay
    active and repeat the last state.
    """
    if mode in BY_HAND:
        return Fault(BY_HAND[RobotMode(mode)], by_hand=True)
    if mode == RobotMode.REFLEX:
        return Fault(f"reflex ({', '.join(sorted(errors)) or 'no error named'})")
    if errors:
        return Fault(f"errors: {', '.join(sorted(errors))}")
    if hardware is not None and hardware != "active":
        return Fault(f"the robot's hardware component is {hardware}")
    if silent_ns > limit_ns:
        return Fault(f"no state from the robot for {silent_ns / SECOND:.1f} s")
    return None


@dataclass(frozen=True)
class RecoveryConfig:
    """automatic: recover without being told to; per_episode: at most so often in one episode, its reset included; in_a_row: in
    so many episodes one after the other. Beyond that a human has to look, and to call ``robot/recover``. step_ns: wall time
    that each step of the sequence may take."""

    automatic: bool = True
    per_episode: int = 2
    in_a_row: int = 3
    step_ns: int = 10 * SECOND

    def __post_init__(self) -> None:
        if self.per_episode < 0 or self.in_a_row < 1 or self.step_ns <= 0:
            raise ConfigError(f"recovery.per_episode, in_a_row, step_s = {self.per_episode}, {self.in_a_row}, "
                              f"{self.step_ns / SECOND}", "not negative, at least 1, positive",
                              "give 2, 3 and 10.0")  # fmt: skip


class RecoveryBudget:
    """Counts recoveries: ``refusal`` says why there is to be no further one now, "" while there may be."""

    def __init__(self, config: RecoveryConfig) -> None:
        self._config = config
        self._episode = ""
        self._in_episode = self._in_a_row = 0
        self.total = 0

    def refusal(self, episode_id: str) -> str:
        config = self._config
        if not config.automatic:
            return "recovery.automatic is false"
        if self._in_a_row >= config.in_a_row:
            return f"there was a fault in {self._in_a_row} episodes in a row"
        if self._episode == episode_id and self._in_episode >= config.per_episode:
            return f"this episode has had {self._in_episode} recoveries already"
        return ""

    def spend(self, episode_id: str) -> None:
        """A recovery begins in this episode."""
        if self._episode != episode_id:
            self._in_a_row += 1
            self._episode, self._in_episode = episode_id, 0
        self._in_episode += 1
        self.total += 1

    def ended(self, episode_id: str) -> None:
        """An episode has run to its end: one without a fault ends the row."""
        if episode_id != self._episode:
            self._in_a_row = 0

    def forgive(self) -> None:
        """A human has looked at it."""
        self._episode, self._in_episode, self._in_a_row = "", 0, 0
