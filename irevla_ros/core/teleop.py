"""From what an operator's device says to one twist, or to silence; without a clock, so that all of it can be tried.

The deadman is the rule: a twist counts only while it is held and the device is known to be there. A device that falls silent
has not let go: the arm is told to stand still, and then nothing more, until the device is back and was seen released.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.human import within
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import POINTING_DOWN, Vector, inverse, multiply

Motion = tuple[float, float, float, float, float, float]
STILL: Motion = (0.0,) * 6
HISTORY = 32


class Action(str, Enum):
    """What a key or button asks for besides motion."""

    OPEN = "open"
    CLOSE = "close"
    GRIPPER = "gripper"  # the other of the two
    SUCCESS = "success"
    FAILURE = "failure"
    START = "start"
    CONFIRM = "confirm"
    ENGAGE = "engage"
    STOP = "stop"
    DISCARD = "discard"
    DISTURB = "disturb"
    UNDO = "undo"
    ARM_ENGAGE = "arm_engage"
    ARM_DISENGAGE = "arm_disengage"
    ARM_STOP = "arm_stop"
    ARM_RESUME = "arm_resume"

    @property
    def words(self) -> str:
        return self.value.replace("_", " ")


@dataclass(frozen=True)
class Hand:
    """The operator's hand now. fresh: the device is there; motion: x y z roll pitch yaw, -1 to 1; actions: asked for since
    the last look."""

    fresh: bool
    deadman: bool
    motion: Motion = STILL
    actions: tuple[Action, ...] = ()


# ---- keyboard --------------------------------------------------------------------------------------------------

MOTION_KEYS: Mapping[str, tuple[int, float]] = {
    "w": (0, 1.0), "s": (0, -1.0), "a": (1, 1.0), "d": (1, -1.0), "r": (2, 1.0), "f": (2, -1.0),
    "j": (3, -1.0), "l": (3, 1.0), "i": (4, 1.0), "k": (4, -1.0), "q": (5, 1.0), "e": (5, -1.0),
}  # fmt: skip
ACTION_KEYS: Mapping[str, Action] = {
    " ": Action.GRIPPER, "o": Action.OPEN, "p": Action.CLOSE, "y": Action.SUCCESS, "n": Action.FAILURE, "t": Action.START,
    "c": Action.CONFIRM, "g": Action.ENGAGE, "x": Action.STOP, "z": Action.DISCARD,
    "b": Action.DISTURB, "u": Action.UNDO,
    "+": Action.ARM_ENGAGE, "-": Action.ARM_DISENGAGE, "h": Action.ARM_STOP, "H": Action.ARM_STOP, ".": Action.ARM_RESUME,
}  # fmt: skip
GRIPPER_ACTIONS = (Action.OPEN, Action.CLOSE, Action.GRIPPER)
KEYS_HELP = """\
w s  forward, back      a d  left, right       r f  up, down        q e  turn left, right
i k  tilt (pitch)       j l  tilt (roll)       space  gripper       o p  open, close
t  start   c  confirm   g  engage the policy   y n  success, failure   x  stop   z  discard
u  undo the last verdict, else the last episode   b  I disturb the scene   Ctrl-C  quit
the arm itself:  +  engage   -  disengage   h  stop   .  resume"""


class Keys:
    """A terminal tells presses and repeats, never a release: a key acts for ``hold_ns`` after each."""

    def __init__(self, hold_ns: int) -> None:
        if hold_ns <= 0:
            raise ConfigError(f"key_hold_s = {hold_ns * 1e-9}", "it is positive", "give 0.25")
        self._hold_ns = hold_ns
        self._until_ns: dict[str, int] = {}
        self._actions: deque[Action] = deque(maxlen=HISTORY)

    def press(self, text: str, wall_ns: int) -> None:
        """Keys as they came; those without a meaning have none."""
        for key in text:
            if key in ACTION_KEYS:
                self._actions.append(ACTION_KEYS[key])
            if key in MOTION_KEYS or ACTION_KEYS.get(key) in GRIPPER_ACTIONS:
                self._until_ns[key] = wall_ns + self._hold_ns

    def hand(self, wall_ns: int) -> Hand:
        held = [key for key, until_ns in self._until_ns.items() if until_ns - self._hold_ns <= wall_ns < until_ns]
        motion = [0.0] * 6
        for axis, sign in (MOTION_KEYS[key] for key in held if key in MOTION_KEYS):
            motion[axis] += sign
        actions = tuple(self._actions)
        self._actions.clear()
        return Hand(True, bool(held), (motion[0], motion[1], motion[2], motion[3], motion[4], motion[5]), actions)


# ---- gamepad and SpaceMouse ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PadMapping:
    """axes: which of the device's are x y z roll pitch yaw, -1 for none, with their ``signs``; full: what the device says at
    full deflection of each; dead_zone: of it counts as none. Buttons by number, -1 for none. ``irevla teleop calibrate``
    finds all of it."""

    axes: tuple[int, ...] = (1, 0, 4, -1, -1, 3)
    signs: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    full: tuple[float, ...] = (1.0,) * 6
    dead_zone: float = 0.1
    deadman: int = 5
    open: int = 1
    close: int = 0
    gripper: int = -1
    success: int = 3
    failure: int = 2
    start: int = 7
    confirm: int = 8
    engage: int = 4
    stop: int = 6
    discard: int = 9
    disturb: int = -1
    undo: int = 10
    arm_engage: int = -1
    arm_disengage: int = -1
    arm_stop: int = -1
    arm_resume: int = -1

    def __post_init__(self) -> None:
        buttons = [n for n in (self.deadman, *self.buttons.values()) if n >= 0]
        if len(self.axes) != 6 or len(self.signs) != 6 or any(abs(sign) != 1 for sign in self.signs):
            raise ConfigError(f"axes {list(self.axes)}, signs {list(self.signs)}", "six each, signs 1 or -1",
                              "x y z roll pitch yaw, -1 for an axis that is not used")  # fmt: skip
        if len(self.full) != 6 or not all(math.isfinite(one) and one > 0 for one in self.full) or not 0 <= self.dead_zone < 1:
            raise ConfigError(f"full = {list(self.full)}, dead_zone = {self.dead_zone}",
                              "six positive numbers, and 0 to below 1", "give 1.0 for each, and 0.1")  # fmt: skip
        if self.deadman < 0 or len(set(buttons)) != len(buttons):
            raise ConfigError(f"buttons {buttons}", "a deadman, and each button once", "give other numbers")

    @property
    def buttons(self) -> dict[Action, int]:
        return {action: getattr(self, action.value) for action in Action}


XBOX = PadMapping()
SPACEMOUSE = PadMapping(axes=(0, 1, 2, 3, 4, 5), full=(0.7,) * 6, dead_zone=0.08, deadman=0, gripper=1, open=-1, close=-1,
                        success=-1, failure=-1, start=-1, confirm=-1, engage=-1, stop=-1, discard=-1, undo=-1)  # fmt: skip


class Pad:
    """A device of axes and buttons. Both must be fresh: stamped and arrived at most ``limit_ns`` ago.

    A deadman that is pressed when the device appears, or comes back, counts from its next press on.
    """

    def __init__(self, mapping: PadMapping, limit_ns: int) -> None:
        if limit_ns <= 0:
            raise ConfigError(f"input_s = {limit_ns * 1e-9}", "it is positive", "give 0.25")
        self._mapping, self._limit_ns = mapping, limit_ns
        self._motion, self._steered = STILL, (-1, -1)  # stamp, arrival
        self._pressed: frozenset[int] | None = None
        self._told = (-1, -1)
        self._armed = False
        self._actions: deque[Action] = deque(maxlen=HISTORY)

    def steer(self, values: Sequence[float], stamp_ns: int, wall_ns: int) -> None:
        """The device's axes. Raises MessageError when one is missing or not finite; the device then counts as silent."""
        mapping, motion = self._mapping, []
        self._steered = (-1, -1)
        for axis, sign, full in zip(mapping.axes, mapping.signs, mapping.full, strict=True):
            if axis >= len(values):
                raise MessageError(f"{len(values)} axes", f"axis {axis} is mapped", "set `axes` for this device")
            value = float(values[axis]) if axis >= 0 else 0.0
            if not math.isfinite(value):
                raise MessageError(f"axis {axis} is {value}", "it is finite", "check the device's driver")
            motion.append(sign * _beyond(max(-1.0, min(1.0, value / full)), mapping.dead_zone))
        self._motion = (motion[0], motion[1], motion[2], motion[3], motion[4], motion[5])
        self._steered = (stamp_ns, wall_ns)

    def press(self, buttons: Sequence[int], stamp_ns: int, wall_ns: int) -> None:
        """The state of the device's buttons. Raises MessageError when one that is mapped is missing; see ``steer``."""
        wanted = max(self._mapping.deadman, *self._mapping.buttons.values())
        was, new = self._pressed, frozenset(number for number, down in enumerate(buttons) if down)
        absent = not self._fresh(self._told, stamp_ns, wall_ns)
        self._told = (-1, -1)
        if wanted >= len(buttons):
            raise MessageError(f"{len(buttons)} buttons", f"button {wanted} is mapped", "set the buttons for this device")
        if was is not None and not absent:
            self._actions.extend(a for a, number in self._mapping.buttons.items() if number in new and number not in was)
        down = self._mapping.deadman in new
        self._armed = not down or (self._armed and not absent)
        self._pressed, self._told = new, (stamp_ns, wall_ns)

    def hand(self, now_ns: int, wall_ns: int) -> Hand:
        fresh = all(self._fresh(one, now_ns, wall_ns) for one in (self._steered, self._told))
        actions = tuple(self._actions)
        self._actions.clear()
        if not fresh:
            self._armed = False
            return Hand(False, False, STILL, actions)
        down = self._pressed is not None and self._mapping.deadman in self._pressed
        if down and not self._armed:
            return Hand(False, False, STILL, actions)  # not let go of since it came back
        return Hand(True, down, self._motion if down else STILL, actions)

    def _fresh(self, at: tuple[int, int], now_ns: int, wall_ns: int) -> bool:
        return at[1] >= 0 and within(self._limit_ns, self._limit_ns, at[0], now_ns, at[1], wall_ns)


def _beyond(value: float, dead_zone: float) -> float:
    """0 within the dead zone, and from 0 at its edge to 1 at full deflection."""
    return math.copysign(max(0.0, abs(value) - dead_zone) / (1.0 - dead_zone), value)


# ---- what is said ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speeds:
    """At full deflection: linear in m/s, angular in rad/s; of the vector, so that a diagonal is not faster."""

    linear: float = 0.15
    angular: float = 0.6

    def __post_init__(self) -> None:
        if not all(math.isfinite(speed) and speed > 0 for speed in (self.linear, self.angular)):
            raise ConfigError(f"speeds {self.linear} m/s, {self.angular} rad/s", "both are positive", "give 0.15 and 0.6")

    def twist(self, motion: Motion) -> tuple[list[float], list[float]]:
        """(linear, angular)."""
        return _scaled(motion[:3], self.linear), _scaled(motion[3:], self.angular)


def in_hand(vector: Sequence[float], quaternion: Vector) -> list[float]:
    """A vector [3] that was meant in the hand's frame, in the base frame. ``quaternion``: the hand's orientation, xyzw.

    The hand's frame is turned so that for a hand that points straight down it is the base frame: forward is forward, up is up.
    """
    turn = multiply(quaternion, inverse(np.asarray(POINTING_DOWN)))
    moved = multiply(multiply(turn, np.array([*vector, 0.0])), inverse(turn))
    return [float(value) for value in moved[:3]]


def _scaled(part: Sequence[float], speed: float) -> list[float]:
    norm = math.hypot(*part)
    return [speed * value / max(1.0, norm) for value in part]


class Say(Enum):
    """What to publish now."""

    TWIST = "twist"
    STOP = "stop"  # a zero twist with the deadman: stand still
    RELEASED = "released"
    NOTHING = "nothing"


@dataclass
class Deadman:
    """Takes a ``Hand`` at each tick and says what to publish: the release once, a stop once when the device falls silent.

    gripper: the width that the operator wants (m), None for as it is; a wish ends with the release.
    """

    open_m: float = 0.08
    measured: Callable[[], float | None] = field(default=lambda: None)
    gripper: float | None = None
    held: bool = False
    _stopped: bool = False

    def tick(self, hand: Hand) -> Say:
        if not hand.fresh:
            say = Say.STOP if self.held and not self._stopped else Say.NOTHING
            self._stopped = self.held
            return say
        self._stopped = False
        if hand.deadman:
            self.held = True
            for action in hand.actions:
                self._wish(action)
            return Say.TWIST
        was, self.held, self.gripper = self.held, False, None
        return Say.RELEASED if was else Say.NOTHING

    def _wish(self, action: Action) -> None:
        if action is Action.GRIPPER:
            now = self.gripper if self.gripper is not None else self.measured()
            if now is None:
                return
            action = Action.CLOSE if now > self.open_m / 2 else Action.OPEN
        if action in (Action.OPEN, Action.CLOSE):
            self.gripper = self.open_m if action is Action.OPEN else 0.0
