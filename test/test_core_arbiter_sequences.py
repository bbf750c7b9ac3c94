"""Generated sequences of commands and robot states, servo period by servo period, against a witness with books of its own.

No commanded pose leaves the limits, no step, speed, acceleration or jerk exceeds them, and whatever is stale, malformed or
latched ends in a hold. 2,000 sequences here, 100,000 with ``-m nightly``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import ArbiterConfig, HandBack, Refused
from irevla_ros.core.arbiter_step import FAULTS, ArbiterStep
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.force import ForceConfig
from irevla_ros.core.kinematics import Arm
from irevla_ros.core.limits import Limits
from irevla_ros.core.margins import MarginConfig
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import POINTING_DOWN, Pose, inverse, log, multiply
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource
from irevla_ros.core.workspace import Workspace

MS = 1_000_000
SERVO = 20 * MS
POLICY, HUMAN, SCRIPT = ControlSource.POLICY, ControlSource.HUMAN, ControlSource.SCRIPT
SIX = ActionSpec(("dx", "dy", "dz", "drx", "dry", "drz", "gripper"), (0.04,) * 3 + (0.25,) * 3 + (1.0,))
SLACK = 1e-8
JOINTS = np.array([0.0, 0.02, 0.0, -2.35, 0.0, 2.37, 0.785])
NAMES = [f"panda_joint{n}" for n in range(1, 8)]
HERE = Pose((0.5, 0.0, 0.2), POINTING_DOWN)
STREAMS = ("pose", "policy", "joints", "wrench", "deadman", "clock", "human")
KINDS = (*["go"] * 6, *["aim"] * 6, *["engage"] * 4, "steer", "steer", "release", "release", "mute", "unmute", "unmute",
         "garble", "press", "shove", "jump", "human", "script", "disengage", "stop", *["resume"] * 4, "tighten")  # fmt: skip

numbers = st.one_of(st.floats(-1.5, 1.5), st.sampled_from([1.0, -1.0, 1e30, math.nan, math.inf, -math.inf]))
operations = st.lists(st.tuples(st.sampled_from(KINDS), numbers, st.integers(0, 12)), min_size=1, max_size=14)
setups = st.integers(0, 255)


def configuration(setup: int) -> ArbiterConfig:
    """Each bit of ``setup`` turns something on."""
    bit = [bool(setup >> n & 1) for n in range(8)]
    planes = (0.6, 0.0, 0.8, 0.48, 0.0, 1.0, 0.0, 0.05) if bit[0] else ()
    slow = {"speed_m_s": 0.2, "speed_rad_s": 0.5, "acceleration_m_s2": 1.5, "jerk_m_s3": 20.0} if bit[1] else {}
    limits = Limits(planes=planes, tilt_rad=0.1 if bit[2] else 1.7, turn_rad=0.4 if bit[3] else 1.7, **slow)
    back = HandBack.FRESH if bit[7] else HandBack.ENGAGE
    return ArbiterConfig(limits, margins=MarginConfig(Arm.PANDA if bit[4] else None), force=ForceConfig(bit[5]),
                         deadman_ns=200 * MS if bit[6] else 0, hand_back=back)  # fmt: skip


def excess(workspace: Workspace, p: Any) -> float:
    """How far beyond a wall a point lies, m."""
    walls = np.concatenate((workspace.low - p, p - workspace.high, workspace.normals @ p - workspace.offsets))
    return max(0.0, float(walls.max()))


class World:
    """An arm that goes where the stream says, and books of what was sent and when (wall time of the last good one)."""

    def __init__(self, setup: int) -> None:
        self.config = configuration(setup)
        self.arbiter = Arbiter(SIX, self.config)
        self.now, self.wall, self.period = 1_000_000 * MS, 0, 0
        self.alive = dict.fromkeys(STREAMS, True) | {"human": False}
        self.seen = dict.fromkeys((*STREAMS, "released"), -(10**12))
        self.at, self.action, self.twist, self.force = HERE, np.array([1.0, 0.5, -0.3, 0.2, 0.0, 1.0, 1.0]), np.zeros(6), 0.0
        self.pressed_since: int | None = None
        self.newest: dict[str, int] = {}  # stamps
        self.latched = False
        self.vectors: list[Any] = []  # position and rotation vector, once a servo period, of one engagement
        self.acted_wall: int | None = None
        self.stale_since: int | None = None
        self.acts = 0
        self.servo()
        self.engage(POLICY)
        for _ in range(6):
            self.servo()

    # ---- what happens -------------------------------------------------------------------------------------------

    def do(self, kind: str, value: float, number: int) -> None:
        stream = STREAMS[number % len(STREAMS)]
        if kind == "aim":
            self.action[number % 7] = value
        elif kind == "steer":
            self.alive["human"] = True
            self.twist[number % 6] = value
        elif kind == "release":
            self.alive["human"] = False
            if self.arbiter.human_held and self.arbiter.human(False, (0, 0, 0), (0, 0, 0), None, self.now, self.wall):
                self.seen["released"] = self.wall
        elif kind in ("mute", "unmute"):
            self.alive[stream] = kind == "unmute"
        elif kind == "garble":
            self.garble(stream, value)
        elif kind == "press":
            self.force = 100 * value
        elif kind == "shove" and abs(value) < 2:
            self.at = Pose.of(self.at.p + np.eye(3)[number % 3] * value, self.at.q)
        elif kind == "jump" and abs(value) < 2:
            self.now = max(0, self.now + round(value * 300 * MS))
        elif kind in ("engage", "human", "script"):
            self.engage({"engage": POLICY, "human": HUMAN, "script": SCRIPT}[kind])
        elif kind == "disengage":
            self.arbiter.disengage()
            self.check(self.arbiter.tick(self.now, self.wall))
        elif kind == "stop":
            self.arbiter.stop()
            self.latched = True
        elif kind == "resume":
            self.resume()
        elif kind == "tighten" and abs(value) < 2:
            self.tighten(value)
        for _ in range(number):
            self.servo()

    def engage(self, source: ControlSource) -> None:
        before = self.arbiter.engaged
        try:
            self.arbiter.engage(source, self.now, self.wall, "e")
        except Refused:
            return
        assert not self.stale() and not self.latched
        if before is None:
            self.check_rates()
            self.engaged_with = self.arbiter.config
            start = self.arbiter.target.pose
            self.vectors = [self.vector(start)] * 4  # at rest
            assert start is not None
            self.outside = excess(self.engaged_with.limits.workspace, start.p)  # from there it leads in

    def resume(self) -> None:
        try:
            self.arbiter.resume(self.wall)
        except Refused:
            return
        self.latched = False

    def tighten(self, value: float) -> None:
        """A fraction of every limit of motion; refused, were it looser, while somebody is engaged."""
        limits = self.arbiter.config.limits
        wanted = replace(limits, step_m=limits.step_m * abs(value) + 1e-3, step_rad=limits.step_rad * abs(value) + 1e-3,
                         speed_m_s=limits.speed_m_s * max(abs(value), 0.1))  # fmt: skip
        tuned = replace(self.arbiter.config, limits=wanted)
        try:
            self.arbiter.tune(tuned)
        except Refused:
            assert self.arbiter.config.limits is limits

    def garble(self, stream: str, value: float) -> None:
        """A message that is rubbish: a number that is none, or one too few."""
        wrong = value if not math.isfinite(value) else math.nan
        arbiter = self.arbiter
        self.now += 1
        if stream == "pose":
            assert not arbiter.pose((wrong, 0, 0), POINTING_DOWN, self.now, self.wall)
        elif stream == "policy":
            try:
                ActionChunk(self.now, SIX.names, np.full((1, 7), wrong), 100 * MS)
            except MessageError:
                arbiter.reject(POLICY)
                arbiter.reject(SCRIPT)
        elif stream == "joints":
            arbiter.joints(NAMES, [wrong] * 7, self.now, self.wall)
        elif stream == "wrench":
            arbiter.wrench((0, 0, wrong), (0, 0, 0), self.now, self.wall)
            self.in_order("wrench")
        elif stream == "human":
            assert not arbiter.human(True, (wrong, 0, 0), (0, 0, 0), None, self.now, self.wall)
        else:
            return
        self.seen[stream] = -(10**12)

    # ---- one servo period ----------------------------------------------------------------------------------------

    def servo(self) -> None:
        self.wall += SERVO
        self.now += SERVO if self.alive["clock"] else 0
        self.period += 1
        self.robot_says()
        decided = self.period % 5 == 0
        if decided:
            self.policy_says()
            self.arbiter.observe(self.now)
        before = self.arbiter.target.pose
        if decided or not self.arbiter.human_held:
            self.check(self.arbiter.tick(self.now, self.wall), before)
        self.check_stream(self.arbiter.stream(self.now, self.wall))

    def robot_says(self) -> None:
        arbiter = self.arbiter
        if self.alive["pose"] and arbiter.pose(self.at.position, self.at.quaternion, self.now, self.wall):
            self.seen["pose"] = self.wall
        if self.alive["joints"]:
            arbiter.joints(NAMES, JOINTS.tolist(), self.now, self.wall)
            self.seen["joints"] = self.wall if self.in_order("joints") else self.seen["joints"]
        if self.alive["wrench"]:
            arbiter.wrench((0, 0, self.force), (0, 0, 0), self.now, self.wall)
            in_order = self.in_order("wrench")
            if not math.isfinite(self.force):
                self.seen["wrench"] = -(10**12)
            elif abs(self.force) > 30:
                self.pressed_since = self.pressed_since or self.wall
            elif in_order:
                self.pressed_since = None
            if in_order and math.isfinite(self.force):
                self.seen["wrench"] = self.wall
        if self.alive["deadman"]:
            arbiter.deadman(True, self.now, self.now, self.wall)
            self.seen["deadman"] = self.wall
        if self.alive["human"] and self.period % 2 == 0:
            twist = self.twist.copy()
            if arbiter.human(True, twist[:3], twist[3:], None, self.now, self.wall):
                self.seen["human"] = self.wall
            elif not np.isfinite(twist).all():
                self.seen["human"] = -(10**12)

    def in_order(self, stream: str) -> bool:
        """Whether a stamp of now is later than all of the stream before."""
        later = self.now > self.newest.get(stream, -1)
        self.newest[stream] = max(self.now, self.newest.get(stream, -1))
        return later

    def policy_says(self) -> None:
        for source in (POLICY, SCRIPT) if self.alive["policy"] else ():
            try:
                chunk = ActionChunk(self.now, SIX.names, np.array([self.action, self.action]), 100 * MS)
            except MessageError:
                self.arbiter.reject(source)
                self.seen["policy"] = -(10**12)
                continue
            if self.arbiter.offer(source, chunk, self.now, self.wall):
                self.seen["policy"] = self.wall

    # ---- the verdict ---------------------------------------------------------------------------------------------

    def age(self, stream: str) -> int:
        return self.wall - self.seen[stream]

    def stale(self) -> bool:
        """Whether something that is required to move the arm at all is not there."""
        config = self.config
        return (self.age("pose") > config.pose_ns or (config.margins.arm is not None and self.age("joints") > 200 * MS)
                or (config.force.watched and self.age("wrench") > 200 * MS))  # fmt: skip

    def fault(self) -> bool:
        config = self.config
        pressed = self.pressed_since is not None and self.wall - self.pressed_since >= config.force.debounce_ns
        return (config.force.watched and pressed) or (config.deadman_ns > 0 and self.age("deadman") > config.deadman_ns)

    def check(self, step: ArbiterStep, before: Pose | None = None) -> None:
        self.latched = self.latched or step.hold in FAULTS
        if not step.acted:
            return
        self.acts += 1
        assert not self.stale() and not self.fault() and not self.latched
        if step.source is HUMAN:
            assert self.arbiter.human_held and self.age("human") <= 200 * MS
        else:
            assert not self.arbiter.human_held and self.age("released") >= 500 * MS
            assert self.age("policy") <= 200 * MS
        assert step.target is not None and before is not None
        limits = self.arbiter.config.limits
        elapsed = 0.1 if self.acted_wall is None else min(self.wall - self.acted_wall, 200 * MS) * 1e-9
        far = np.linalg.norm(step.target.p - before.p)
        turned = np.linalg.norm(log(multiply(step.target.q, inverse(before.q))))
        assert far <= min(limits.step_m, limits.speed_m_s * elapsed) + SLACK
        assert turned <= min(limits.step_rad, limits.speed_rad_s * elapsed) + SLACK
        self.acted_wall = self.wall

    def check_stream(self, pose: Pose | None) -> None:
        if pose is not None:
            self.at = pose
            self.check_place(pose)
        if not self.vectors:
            return
        self.vectors.append(self.vectors[-1] if pose is None else self.vector(pose))
        # Whatever is wrong ends in a target that stands.
        wrong = self.arbiter.engaged is None or self.stale() or self.fault() or self.latched
        self.stale_since = (self.stale_since or self.wall) if wrong else None
        if self.stale_since is not None:
            windows = max(rates.stop_s for rates in (self.engaged_with.limits.moving, self.engaged_with.limits.turning))
            assert pose is None or self.wall - self.stale_since <= windows * 1e9 + 3 * SERVO

    def check_rates(self) -> None:
        """Of the whole motion of an engagement."""
        if not self.vectors:
            return
        limits, seconds = self.engaged_with.limits, SERVO * 1e-9
        for part, rates in ((slice(0, 3), limits.moving), (slice(3, 6), limits.turning)):
            x = np.array(self.vectors)[:, part]
            for order, limit in ((1, rates.speed), (2, rates.acceleration), (3, rates.jerk)):
                found = np.linalg.norm(np.diff(x, order, axis=0), axis=1).max() / seconds**order
                assert found <= limit * (1 + 1e-6) + 1e-9 / seconds**order, f"derivative {order} of {part}"

    def check_place(self, pose: Pose) -> None:
        limits = self.engaged_with.limits
        assert limits.workspace.contains(pose.p, SLACK + self.outside)
        turn = self.vector(pose)[3:]
        assert np.linalg.norm(turn) <= limits.turn_rad + SLACK
        down = multiply(multiply(pose.q, np.array([0.0, 0.0, 1.0, 0.0])), inverse(pose.q))[:3]
        assert math.acos(min(1.0, -down[2])) <= limits.tilt_rad + 1e-6

    def vector(self, pose: Pose | None) -> Any:
        assert pose is not None
        return np.concatenate((pose.p, log(multiply(pose.q, inverse(np.array(POINTING_DOWN))))))


def run(setup: int, operations: Any) -> World:
    world = World(setup)
    for kind, value, number in operations:
        world.do(kind, value, number)
    world.check_rates()
    return world


@settings(max_examples=2000, deadline=None)
@given(setups, operations)
@example(0, [("disengage", 0.0, 4), ("shove", 0.375, 1), ("engage", 0.0, 1)])  # outside by less than a step
def test_no_sequence_leaves_the_limits_or_moves_on_what_is_stale(setup: int, operations: Any) -> None:
    run(setup, operations)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@settings(max_examples=100_000, deadline=None)
@given(setups, operations)
def test_no_sequence_of_very_many_does(setup: int, operations: Any) -> None:
    run(setup, operations)
