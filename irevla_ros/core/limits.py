"""Limits of motion: what becomes of a wanted step before anything is commanded. Pure functions of poses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.rotation import POINTING_DOWN, Pose, Vector, angle_between, exp, inverse, log, multiply, unit


class Clip(str, Enum):
    """Which limit changed a step."""

    ACTION = "action"  # beyond +-1 normalised
    LEASH = "leash"  # too far ahead of the measured pose
    BOX = "box"
    TURN = "turn"  # too far from the home orientation
    STEP = "step"  # too far from the last commanded target


class Base(str, Enum):
    """Where a translation starts: the measured position, as in the in-process simulator, or the last commanded one, which
    an arm that gives way under load needs so as not to sag with every step. Rotations start at the commanded one."""

    MEASURED = "measured"
    COMMANDED = "commanded"


@dataclass(frozen=True)
class Limits:
    """box_low, box_high: m, base frame, for the commanded tip; step_m, step_rad: largest move of the commanded target in a
    tick; leash_m, leash_rad: how far the target may be from the measured pose (where the arm is blocked, it does not run
    away from it); home (quaternion xyzw) and turn_rad: orientations allowed, as the angle from home, below pi;
    gripper_band: the normalised gripper action closes at or below -band, opens above +band, keeps between.

    The step limit is the one that holds in any case: after a hold, or when the arm was pushed, it bounds the way back. An arm
    that stands further off (``follows``) was moved by somebody else: its controller may have forgotten the last target, so
    that the next one would be a leap.
    """

    box_low: tuple[float, float, float] = (0.28, -0.32, 0.012)
    box_high: tuple[float, float, float] = (0.70, 0.32, 0.35)
    step_m: float = 0.07
    step_rad: float = 0.26
    leash_m: float = 0.10
    leash_rad: float = 0.60
    home: tuple[float, float, float, float] = POINTING_DOWN
    turn_rad: float = 1.7
    gripper_band: float = 0.1
    base: Base = Base.COMMANDED

    def __post_init__(self) -> None:
        low, high = np.asarray(self.box_low), np.asarray(self.box_high)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ConfigError(f"workspace box {self.box_low} to {self.box_high}", "low lies below high on each axis",
                              "give corners in metres, base frame")  # fmt: skip
        sizes = (self.step_m, self.step_rad, self.leash_m, self.leash_rad, self.turn_rad)
        if not all(math.isfinite(size) and size > 0 for size in sizes) or self.turn_rad >= math.pi:
            raise ConfigError(f"step, leash and turn limits {sizes}", "all are positive and turn_rad is below pi",
                              "give metres and radians")  # fmt: skip
        if not 0 <= self.gripper_band < 1:
            raise ConfigError(f"gripper band {self.gripper_band}", "it lies in [0, 1)", "give 0.1")
        if abs(np.linalg.norm(self.home) - 1) > 1e-6:
            raise ConfigError(f"home orientation {self.home}", "a unit quaternion xyzw", "normalise it")

    def start(self, measured: Pose) -> Pose | None:
        """The first target of an arm at ``measured``: the nearest allowed pose, None when further off than a step."""
        position = self._into_box(measured.p)
        turned = self._into_turn(measured.q)
        far = float(np.linalg.norm(position - measured.p)) > self.step_m
        if far or angle_between(turned, measured.q) > self.step_rad:
            return None
        return Pose.of(position, turned)

    def follows(self, target: Pose, measured: Pose) -> bool:
        """Whether an arm at ``measured`` is where ``target`` can have left it: at most a leash and a step away."""
        turned = angle_between(target.q, measured.q)
        return (float(np.linalg.norm(target.p - measured.p)) <= self.leash_m + self.step_m
                and turned <= self.leash_rad + self.step_rad)  # fmt: skip

    def advance(self, target: Pose, measured: Pose, move: Vector, turn: Vector) -> tuple[Pose, tuple[Clip, ...]]:
        """The next target after ``target`` for a wanted ``move`` [3] (m) and ``turn`` [3] (rad), both finite and in the base
        frame, and which limits changed it. ``target`` is within box and turn already, and so is the answer."""
        clips: list[Clip] = []
        start = measured.p if self.base is Base.MEASURED else target.p
        position = _shortened(measured.p, start + move, self.leash_m, clips, Clip.LEASH)
        boxed = self._into_box(position)
        _note(clips, Clip.BOX, (boxed != position).any())
        stepped = _shortened(target.p, boxed, self.step_m, clips, Clip.STEP)

        wanted = multiply(exp(turn), target.q)
        lead = log(multiply(wanted, inverse(measured.q)))
        angle = float(np.linalg.norm(lead))
        if angle > self.leash_rad:
            wanted = multiply(exp(lead * (self.leash_rad / angle)), measured.q)
            _note(clips, Clip.LEASH, True)
        allowed = self._into_turn(wanted)
        _note(clips, Clip.TURN, allowed is not wanted)
        # Both lie within a cap around home in quaternion space, which holds the arc between them, if signs agree; the
        # shorter way from one to the other might lead out of it.
        arc = log(multiply(self._near_home(allowed), inverse(self._near_home(target.q))), shortest=False)
        angle = float(np.linalg.norm(arc))
        if angle > self.step_rad:
            allowed = multiply(exp(arc * (self.step_rad / angle)), target.q)
            _note(clips, Clip.STEP, True)
        # Rounding may leave the box by the last digit.
        return Pose.of(self._into_box(stepped), unit(allowed)), tuple(clips)

    def gripper(self, action: float, now: int | None) -> int | None:
        """The gripper's target, -1 closed or +1 open, for a normalised action, given the present target (None: none yet)."""
        if action > self.gripper_band:
            return 1
        return -1 if action <= -self.gripper_band else now

    def _into_box(self, position: Vector) -> Vector:
        return np.clip(position, self.box_low, self.box_high)

    def _into_turn(self, q: Vector) -> Vector:
        home = np.asarray(self.home)
        away = log(multiply(q, inverse(home)))
        angle = float(np.linalg.norm(away))
        return q if angle <= self.turn_rad else multiply(exp(away * (self.turn_rad / angle)), home)

    def _near_home(self, q: Vector) -> Vector:
        return q if q @ np.asarray(self.home) >= 0 else -q


def _shortened(start: Vector, end: Vector, longest: float, clips: list[Clip], clip: Clip) -> Vector:
    """``end``, or the point on the way to it from ``start`` that is ``longest`` away."""
    way = end - start
    length = float(np.linalg.norm(way))
    if length <= longest:
        return end
    _note(clips, clip, True)
    return np.asarray(start + way * (longest / length))


def _note(clips: list[Clip], clip: Clip, changed: bool | np.bool_) -> None:
    if changed and clip not in clips:
        clips.append(clip)
