"""Limits of motion: what becomes of a wanted step before anything is commanded. Pure functions of poses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.rotation import POINTING_DOWN, Pose, Vector, angle_between, exp, inverse, log, multiply, unit
from irevla_ros.core.shaper import Rates
from irevla_ros.core.tuning import Safer, limit
from irevla_ros.core.workspace import Workspace


class Clip(str, Enum):
    """Which limit changed a step."""

    ACTION = "action"  # beyond +-1 normalised
    LEASH = "leash"  # too far ahead of the measured pose
    BOX = "box"  # of the workspace, and its planes
    TURN = "turn"  # too far from the home orientation, or the tool axis too far from home's
    STEP = "step"  # too far from the last commanded target
    SPEED = "speed"  # too far for the time since the last step
    GRIPPER = "gripper"  # too soon after its last change


class Base(str, Enum):
    """Where a translation starts: the measured position, as in the in-process simulator, or the last commanded one, which
    an arm that gives way under load needs so as not to sag with every step. Rotations start at the commanded one."""

    MEASURED = "measured"
    COMMANDED = "commanded"


@dataclass(frozen=True)
class Limits:
    """box_low, box_high: m, base frame, for the commanded tip; planes: half-spaces that cut it, see ``Workspace``; step_m,
    step_rad: largest move of the commanded target in a tick; speed_m_s, speed_rad_s: of it a second; acceleration and jerk:
    of the stream between ticks, see ``shaper``; leash_m, leash_rad: how far the target may be from the measured pose (where
    the arm is blocked, it does not run away from it); home (quaternion xyzw), turn_rad and tilt_rad: orientations allowed,
    as the angle from home, below pi, and as the angle of the tool axis from home's; gripper_band: the normalised gripper
    action closes at or below -band, opens above +band, keeps between; gripper_hold_ns: wall time between two changes.

    The step limit is the one that holds in any case: after a hold, or when the arm was pushed, it bounds the way back. An arm
    that stands further off (``follows``) was moved by somebody else: its controller may have forgotten the last target, so
    that the next one would be a leap.
    """

    box_low: tuple[float, float, float] = limit((0.28, -0.32, 0.012), Safer.HIGHER)
    box_high: tuple[float, float, float] = limit((0.70, 0.32, 0.35), Safer.LOWER)
    planes: tuple[float, ...] = limit((), Safer.PLANES)
    step_m: float = limit(0.07, Safer.LOWER)
    step_rad: float = limit(0.26, Safer.LOWER)
    speed_m_s: float = limit(0.70, Safer.LOWER)
    speed_rad_s: float = limit(2.6, Safer.LOWER)
    acceleration_m_s2: float = 14.0
    acceleration_rad_s2: float = 52.0
    jerk_m_s3: float = 1400.0
    jerk_rad_s3: float = 5200.0
    leash_m: float = limit(0.15, Safer.LOWER)
    leash_rad: float = limit(0.90, Safer.LOWER)
    home: tuple[float, float, float, float] = POINTING_DOWN
    turn_rad: float = limit(1.7, Safer.LOWER)
    tilt_rad: float = limit(1.7, Safer.LOWER)
    gripper_band: float = 0.1
    gripper_hold_ns: int = limit(SECOND // 2, Safer.HIGHER)
    base: Base = Base.COMMANDED

    def __post_init__(self) -> None:
        _ = self.workspace, self.moving, self.turning  # which check themselves
        sizes = (self.step_m, self.step_rad, self.leash_m, self.leash_rad, self.turn_rad, self.tilt_rad)
        if not all(math.isfinite(size) and size > 0 for size in sizes) or self.turn_rad >= math.pi:
            raise ConfigError(f"step, leash, turn and tilt limits {sizes}", "all are positive and turn_rad is below pi",
                              "give metres and radians")  # fmt: skip
        if not 0 <= self.gripper_band < 1 or self.gripper_hold_ns < 0:
            raise ConfigError(f"gripper band {self.gripper_band}, hold {self.gripper_hold_ns / SECOND} s",
                              "the band lies in [0, 1), the time is not negative", "give 0.1 and 0.5")  # fmt: skip
        if abs(np.linalg.norm(self.home) - 1) > 1e-6:
            raise ConfigError(f"home orientation {self.home}", "a unit quaternion xyzw", "normalise it")

    @cached_property
    def workspace(self) -> Workspace:
        return Workspace(self.box_low, self.box_high, self.planes)

    @cached_property
    def moving(self) -> Rates:
        return Rates(self.speed_m_s, self.acceleration_m_s2, self.jerk_m_s3)

    @cached_property
    def turning(self) -> Rates:
        return Rates(self.speed_rad_s, self.acceleration_rad_s2, self.jerk_rad_s3)

    def start(self, measured: Pose) -> Pose | None:
        """The first target of an arm at ``measured``: an allowed pose near it, None when further off than a step."""
        position = self.workspace.nearest(measured.p)
        turned = self._into_turn(measured.q)
        far = float(np.linalg.norm(position - measured.p)) > self.step_m
        if far or angle_between(turned, measured.q) > self.step_rad or not self.workspace.contains(position):
            return None
        return Pose.of(position, turned)

    def follows(self, target: Pose, measured: Pose) -> bool:
        """Whether an arm at ``measured`` is where ``target`` can have left it: at most a leash and a step away."""
        turned = angle_between(target.q, measured.q)
        return (float(np.linalg.norm(target.p - measured.p)) <= self.leash_m + self.step_m
                and turned <= self.leash_rad + self.step_rad)  # fmt: skip

    def advance(
        self, target: Pose, measured: Pose, move: Vector, turn: Vector, elapsed_s: float
    ) -> tuple[Pose, tuple[Clip, ...]]:
        """The next target after ``target`` for a wanted ``move`` [3] (m) and ``turn`` [3] (rad), both finite and in the base
        frame, ``elapsed_s`` after the last one, and which limits changed it. ``target`` is allowed already, and so is the
        answer."""
        clips: list[Clip] = []
        start = measured.p if self.base is Base.MEASURED else target.p
        position = _shortened(measured.p, start + move, self.leash_m, clips, Clip.LEASH)
        boxed = self.workspace.nearest(position)
        _note(clips, Clip.BOX, (boxed != position).any())
        stepped = _shortened(target.p, boxed, self.step_m, clips, Clip.STEP)
        stepped = _shortened(target.p, stepped, self.speed_m_s * elapsed_s, clips, Clip.SPEED)
        if self.workspace.contains(target.p):  # not so when the limits were drawn closer a moment ago
            stepped = self.workspace.reach(target.p, stepped)

        wanted = multiply(exp(turn), target.q)
        lead = log(multiply(wanted, inverse(measured.q)))
        angle = float(np.linalg.norm(lead))
        if angle > self.leash_rad:
            wanted = multiply(exp(lead * (self.leash_rad / angle)), measured.q)
            _note(clips, Clip.LEASH, True)
        allowed = self._into_turn(wanted)
        _note(clips, Clip.TURN, allowed is not wanted)
        # As vectors from home, where allowed orientations are convex: the shortest way from one to the other might lead out.
        # The angle between two is at most the distance of their vectors.
        before, after = self._from_home(target.q), self._from_home(allowed)
        turned = _shortened(before, after, self.step_rad, clips, Clip.STEP)
        turned = _shortened(before, turned, self.speed_rad_s * elapsed_s, clips, Clip.SPEED)
        if turned is not after:
            allowed = multiply(exp(turned), np.asarray(self.home))
        return Pose.of(stepped, unit(allowed)), tuple(clips)

    def gripper(self, action: float, now: int | None) -> int | None:
        """The gripper's target, -1 closed or +1 open, for a normalised action, given the present target (None: none yet)."""
        if action > self.gripper_band:
            return 1
        return -1 if action <= -self.gripper_band else now

    def _from_home(self, q: Vector) -> Vector:
        return log(multiply(q, inverse(np.asarray(self.home))))

    def _into_turn(self, q: Vector) -> Vector:
        """``q`` itself where it is allowed. A vector from home whose part across the tool axis is rho tilts it by at
        most |rho|: the cylinder |rho| <= tilt_rad is within the cone, touches it where there is no spin, and is convex, which
        the cone is not."""
        home = np.asarray(self.home)
        away = nearest = self._from_home(q)
        axis = multiply(multiply(home, np.array([0.0, 0.0, 1.0, 0.0])), inverse(home))[:3]
        across = away - axis * (axis @ away)
        tilt = float(np.linalg.norm(across))
        if tilt > self.tilt_rad:
            nearest = nearest - across * (1 - self.tilt_rad / tilt)
        angle = float(np.linalg.norm(nearest))
        if angle > self.turn_rad:
            nearest = nearest * (self.turn_rad / angle)
        return q if nearest is away else multiply(exp(nearest), home)


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
