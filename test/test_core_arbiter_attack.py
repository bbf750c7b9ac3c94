"""Any sequence of inputs, lawful or not, against a witness that keeps its own books of what was sent and when."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import ArbiterConfig, HandBack, Refused
from irevla_ros.core.arbiter_step import BETWEEN, ArbiterStep, Hold
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.limits import Base, Limits
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import POINTING_DOWN, Pose, angle_between, exp, multiply
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource

MS = 1_000_000
POLICY, HUMAN, SCRIPT = ControlSource.POLICY, ControlSource.HUMAN, ControlSource.SCRIPT
SIX = ActionSpec(("dx", "dy", "dz", "drx", "dry", "drz", "gripper"), (0.04,) * 3 + (0.25,) * 3 + (1.0,))

numbers = st.one_of(st.floats(-3, 3), st.sampled_from([0.0, 1e30, -1e30, math.nan, math.inf, -math.inf]))
ages = st.one_of(st.integers(-20, 100), st.sampled_from([-60_000, -200, -51, 199, 201, 499, 501, 60_000]))  # ms


@dataclass
class Sent:
    """One input as the witness saw it go in."""

    stamp: int
    wall: int
    order: int
    what: Any = field(default=None)


class Attack(RuleBasedStateMachine):
    @initialize(
        base=st.sampled_from(Base), back=st.sampled_from(HandBack), spec=st.sampled_from([ActionSpec(), SIX]),
        step=st.sampled_from([0.01, 0.07, 0.3]), leash=st.sampled_from([0.02, 0.5]),
    )  # fmt: skip
    def begin(self, base: Base, back: HandBack, spec: ActionSpec, step: float, leash: float) -> None:
        self.spec = spec
        self.limits = Limits(base=base, step_m=step, leash_m=leash, step_rad=0.2)
        self.config = ArbiterConfig(self.limits, hand_back=back)
        self.arbiter = Arbiter(spec, self.config)
        self.now, self.wall, self.order = 1_000_000 * MS, 0, 0
        self.poses: list[Sent] = []
        self.pose_void = -1  # order of the last malformed pose
        self.chunks: dict[tuple[ControlSource, int], Sent] = {}
        self.void = {POLICY: -1, SCRIPT: -1}  # order of the last refused chunk of each
        self.driving: Sent | None = None  # the newest human message that was in order
        self.hand_on = False
        self.hand_changed = -1  # order of the last take-over or release
        self.engaged: ControlSource | None = None
        self.target: Pose | None = None
        self.outside = (0.0, 0.0)  # of the limits, where the arm stood when it was engaged
        self.braked = False  # by a hand that came or went since the last tick
        self.released_wall = -1000 * MS
        self.acted: tuple[int, int] | None = None  # wall time, stamp of the last step
        self.last_now: int | None = None

    def sent(self, stamp: int, what: Any = None) -> Sent:
        self.order += 1
        return Sent(stamp, self.wall, self.order, what)

    # ---- inputs --------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 20, 49, 50, 51, 100, 100, 100, 201, 1000]), frozen=st.booleans())
    def time_passes(self, ms: int, frozen: bool) -> None:
        self.wall += ms * MS
        self.now += 0 if frozen else ms * MS

    @rule(ms=st.sampled_from([-60_000, -300, -10, 300, 60_000]))
    def the_graphs_clock_jumps(self, ms: int) -> None:
        self.now = max(0, self.now + ms * MS)

    @rule(place=st.tuples(st.floats(0.25, 0.75), st.floats(-0.35, 0.35), st.floats(-0.02, 0.4)), turn=st.floats(-2, 2),
          tilt=st.floats(-0.3, 0.3), age=ages)  # fmt: skip
    def a_pose(self, place: Any, turn: float, tilt: float, age: int) -> None:
        quaternion = multiply(exp(np.array([tilt, 0, turn])), np.array(POINTING_DOWN))
        stamp = self.now - age * MS
        self.arbiter.pose(place, quaternion, stamp, self.wall)
        self.poses.append(self.sent(stamp, place))

    @rule(ticks=st.integers(1, 4), source=st.sampled_from([POLICY, POLICY, SCRIPT, None]),
          hand=st.sampled_from([True, False, False]))  # fmt: skip
    def an_ordinary_time(self, ticks: int, source: ControlSource | None, hand: bool) -> None:
        """So that runs get somewhere: the arm follows, chunks come, somebody is engaged, the arbiter ticks."""
        for number in range(ticks):
            self.time_passes(100, False)
            here = self.target or Pose((0.5, 0.0, 0.2), POINTING_DOWN)
            self.arbiter.pose(here.position, here.quaternion, self.now, self.wall)
            self.poses.append(self.sent(self.now))
            if hand or self.hand_on:
                self.a_twist(hand, [0.2, 0, 0], [0, 0, 0.1], None, 0)
            if number == 0 and source is not None:
                self.engage(source, "e1")
            for player in (POLICY, SCRIPT):
                self.a_chunk(player, [[0.5] * 7] * 2, 0, "fine")
            self.tick()

    @rule(values=st.lists(numbers, min_size=2, max_size=4), quaternion=st.lists(numbers, min_size=3, max_size=5))
    def a_wild_pose(self, values: list[float], quaternion: list[float]) -> None:
        try:
            Pose.of(values, quaternion)
            lawful = True
        except MessageError:
            lawful = False
        self.arbiter.pose(values, quaternion, self.now, self.wall)
        if lawful:
            self.poses.append(self.sent(self.now))
        else:
            self.pose_void = self.sent(0).order

    @rule(ms=ages)
    def an_observation(self, ms: int) -> None:
        self.arbiter.observe(self.now - ms * MS)

    @rule(source=st.sampled_from([POLICY, SCRIPT]),
          actions=st.lists(st.lists(st.floats(-2, 2), min_size=7, max_size=7), min_size=1, max_size=4), age=ages,
          fault=st.sampled_from(["fine", "fine", "names", "period", "long"]))  # fmt: skip
    def a_chunk(self, source: ControlSource, actions: list[list[float]], age: int, fault: str) -> None:
        names = tuple(reversed(self.spec.names)) if fault == "names" else self.spec.names
        rows = np.array(actions * (70 if fault == "long" else 1), np.float32)[:, : self.spec.size]
        chunk = ActionChunk(max(0, self.now - age * MS), names, rows, (50 if fault == "period" else 100) * MS)
        held_before = self.hand_on
        taken = self.arbiter.offer(source, chunk, self.now, self.wall)
        sent = self.sent(chunk.stamp_ns, (chunk, held_before))
        if taken:
            assert fault == "fine"
            self.chunks[source, chunk.stamp_ns] = sent
        elif fault != "fine":
            self.void[source] = sent.order

    @rule(source=st.sampled_from([POLICY, SCRIPT, HUMAN]))
    def an_unreadable_message(self, source: ControlSource) -> None:
        self.arbiter.reject(source)
        if source is HUMAN:
            if self.driving is not None:
                self.driving = Sent(self.driving.stamp, self.driving.wall, self.driving.order, None)
        else:
            self.void[source] = self.sent(0).order

    @rule(deadman=st.booleans(), linear=st.lists(numbers, min_size=2, max_size=4),
          angular=st.lists(numbers, min_size=3, max_size=3), gripper=st.none() | numbers, age=ages)  # fmt: skip
    def a_twist(self, deadman: bool, linear: Any, angular: Any, gripper: float | None, age: int) -> None:
        stamp = max(0, self.now - age * MS)
        taken = self.arbiter.human(deadman, linear, angular, gripper, stamp, self.wall)
        sent = self.sent(stamp, (linear, angular) if deadman else None)
        in_order = self.driving is None or stamp > self.driving.stamp
        lawful = len(linear) == 3 and np.isfinite([*linear, *angular, gripper or 0]).all()
        assert taken == (in_order and lawful)
        was = self.hand_on
        self.hand_on = (deadman if taken else self.hand_on or deadman)
        if taken:
            self.driving = sent
        elif in_order and self.driving is not None:
            self.driving = Sent(self.driving.stamp, self.driving.wall, self.driving.order, None)
        if was != self.hand_on:
            self.braked = True
            self.released_wall = self.wall if was else self.released_wall
            self.hand_changed = sent.order
            if was and self.engaged is not None and not (self.engaged is POLICY and self.config.hand_back is HandBack.FRESH):
                self.engaged = HUMAN

    @rule(source=st.sampled_from(ControlSource), episode=st.sampled_from(["", "e1", "e2"]))
    def engage(self, source: ControlSource, episode: str) -> None:
        try:
            self.arbiter.engage(source, self.now, self.wall, episode)
        except Refused:
            return
        assert self.fresh_pose()
        if self.engaged is None:
            self.target = None  # the first target is where the arm stands
            assert self.arbiter.robot.pose is not None
            self.outside = self.excess(self.arbiter.robot.pose)  # from there it leads in
            assert self.outside[0] <= self.limits.step_m + 1e-9 and self.outside[1] <= self.limits.step_rad + 1e-6
        if self.hand_on and not self.fresh(self.driving, 200):
            self.hand_on, self.driving = False, None
        self.engaged = source

    @precondition(lambda self: self.engaged is not None)
    @rule()
    def disengage(self) -> None:
        self.arbiter.disengage()
        self.engaged = self.target = None
        self.chunks = {}

    # ---- the verdict ---------------------------------------------------------------------------------------------

    def fresh(self, sent: Sent | None, limit_ms: int, stamp_limit_ms: int | None = None) -> bool:
        if sent is None:
            return False
        age, silence = self.now - sent.stamp, self.wall - sent.wall
        return -50 * MS <= age <= (stamp_limit_ms or limit_ms) * MS and 0 <= silence <= limit_ms * MS

    def fresh_pose(self) -> bool:
        return any(self.fresh(sent, 200) and sent.order > self.pose_void for sent in self.poses)

    @rule()
    def tick(self) -> None:
        jumped = self.last_now is not None and self.now < self.last_now
        self.last_now = self.now
        if jumped:
            self.chunks = {}
        step = self.arbiter.tick(self.now, self.wall)
        # Waiting for something newer than the release cannot be checked across a jump: somebody must engage.
        if jumped and self.engaged is POLICY and self.arbiter.engaged is HUMAN:
            self.engaged = HUMAN
        assert self.arbiter.engaged is self.engaged
        assert ArbiterStep.from_json(step.to_json()) == step
        if step.target is None:
            assert step.hold is Hold.UNENGAGED
            assert self.engaged is None
            return
        assert self.engaged is not None
        self.check_target(step)
        if not step.acted:
            return
        assert not jumped
        assert self.fresh_pose()
        assert self.acted is None or self.wall - self.acted[0] >= 50 * MS
        if step.source is HUMAN:
            self.check_human()
        else:
            self.check_chunk(step)
        self.acted = self.wall, step.stamp_ns

    def check_target(self, step: ArbiterStep) -> None:
        assert step.target is not None
        position, quaternion = step.target.p, step.target.q
        assert np.isfinite([*position, *quaternion]).all()
        assert abs(np.linalg.norm(quaternion) - 1) < 1e-9
        assert all(now <= before + 1e-6 for now, before in zip(self.excess(step.target), self.outside, strict=True))
        braked = not step.acted and step.hold not in BETWEEN  # back to where the stream, which nobody has asked for, rests
        if self.target is not None and not braked and not self.braked:
            assert np.linalg.norm(position - self.target.p) <= self.limits.step_m + 1e-9
            assert angle_between(quaternion, self.target.q) <= self.limits.step_rad + 1e-6
            if not step.acted and step.hold in BETWEEN:
                assert step.target == self.target
        self.target, self.braked = step.target, False

    def excess(self, pose: Pose) -> tuple[float, float]:
        """How far a pose is outside of the box, m, and of the turns that are allowed, rad."""
        beyond = np.maximum(np.array(self.limits.box_low) - pose.p, pose.p - np.array(self.limits.box_high))
        turn = angle_between(pose.q, np.array(POINTING_DOWN)) - self.limits.turn_rad
        return float(np.linalg.norm(np.maximum(beyond, 0))), max(0.0, turn)

    def check_human(self) -> None:
        assert self.hand_on
        assert self.fresh(self.driving, 200)
        assert self.driving is not None
        assert self.driving.what is not None

    def check_chunk(self, step: ArbiterStep) -> None:
        source = step.source
        assert source is not None
        assert self.engaged is source
        assert not self.hand_on
        assert self.wall - self.released_wall >= 500 * MS
        sent = self.chunks[source, step.chunk_ns]
        chunk, while_held = sent.what
        assert self.fresh(sent, 200, 500)
        assert sent.order > self.void[source]
        assert sent.order > self.hand_changed
        assert not while_held
        wanted = chunk.actions[step.chunk_index]
        assert step.proposed == tuple(map(float, wanted))
        assert step.executed == tuple(map(float, np.clip(wanted, -1, 1)))


TestAttack = pytest.mark.timeout(280)(Attack.TestCase)
TestAttack.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
