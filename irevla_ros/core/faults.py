"""Faults: what stops the arm until the operator resumes."""

from __future__ import annotations

from irevla_ros.core.arbiter_config import ArbiterConfig, Refused
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.robot_state import RobotState

_REMEDIES = {
    Hold.FORCE: ("nothing presses on the arm", "free it, then resume"),
    Hold.DEADMAN: ("the operator holds the deadman", "hold it, then resume"),
    Hold.STOPPED: ("the operator has stopped the arm", "resume"),
}


class Faults:
    """``latched``: the one that lasts, None without."""

    def __init__(self) -> None:
        self.latched: Hold | None = None
        self._deadman: tuple[bool, int] | None = None  # held, wall time at which that was so

    def deadman(self, config: ArbiterConfig, held: bool, age_ns: int, wall_ns: int) -> bool:
        """age_ns: of the word when it arrives. False for one that says nothing of now: held, but too old, of the future, or
        from before what is known. Letting go always counts."""
        then_ns = wall_ns - max(age_ns, 0)
        known_ns = self._deadman[1] if self._deadman is not None else then_ns - 1
        if held and not (-config.ahead_ns <= age_ns <= config.deadman_ns and then_ns > known_ns):
            return False
        self._deadman = held, then_ns
        return True

    def cause(self, config: ArbiterConfig, robot: RobotState, wall_ns: int) -> Hold | None:
        """What is wrong at this moment."""
        if config.force.watched and robot.force.pressed(config.force, wall_ns):
            return Hold.FORCE
        held, then_ns = self._deadman or (False, wall_ns)
        if config.deadman_ns and not (held and 0 <= wall_ns - then_ns <= config.deadman_ns):
            return Hold.DEADMAN
        return None


def refusal(what: str, problem: Hold, robot: RobotState) -> Refused:
    """The error for an operator whose wish cannot be met because of ``problem``."""
    rule, remedy = _REMEDIES.get(problem, ("the robot's state is fresh", "check that the robot publishes it, and its clock"))
    measured = f" ({robot.force})" if problem is Hold.FORCE else ""
    return Refused(f"{what}: {problem.value}{measured}", rule, remedy)
