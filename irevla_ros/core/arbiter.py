"""The single writer to the arm: who moves it, by how much, and when nobody does.

Inputs arrive in any order (``pose``, ``observe``, ``offer``, ``human``); ``tick`` decides. A tick acts only when the
arbiter is engaged, pose and command are fresh by two clocks, and nothing was rejected; else it holds the last target.
Times: ``now_ns`` and stamps of the graph's clock, ``wall_ns`` monotonic. A human with the deadman held always wins.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from irevla_ros.core.alignment import Arrival, StampGuard
from irevla_ros.core.arbiter_config import ArbiterConfig, HandBack, Refused
from irevla_ros.core.arbiter_step import ArbiterStep, Hold
from irevla_ros.core.chunks import ActionChunk, ChunkBuffer, Due, Gap
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.human import MOVES, TURNS, HumanInput, within
from irevla_ros.core.limits import Base, Clip
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose, inverse, log, multiply
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource, FloatArray

POLICY, HUMAN, SCRIPT = ControlSource.POLICY, ControlSource.HUMAN, ControlSource.SCRIPT
KEPT_STAMPS = 64
_HOLDS = {
    Gap.NONE: Hold.NO_CHUNK,
    Gap.WAITING: Hold.WAITING,
    Gap.EXHAUSTED: Hold.EXHAUSTED,
    Gap.STALE: Hold.OBSERVATION_STALE,
    Gap.AHEAD: Hold.OBSERVATION_AHEAD,
}


class Arbiter:
    """See the module. ``counts`` says what was refused and why; ``engaged`` who may move the arm, None for nobody."""

    def __init__(self, spec: ActionSpec, config: ArbiterConfig = ArbiterConfig()) -> None:
        unknown = [name for name in spec.names if name not in (*MOVES, *TURNS, "gripper")]
        if unknown:
            raise ConfigError(f"action dimension {unknown[0]!r}", f"the arbiter moves {', '.join(MOVES + TURNS)}, gripper",
                              "rename it, or drive it elsewhere")  # fmt: skip
        self.spec, self.config = spec, config
        self.engaged: ControlSource | None = None
        self._counts: Counter[str] = Counter()
        self._human = HumanInput(spec, config.period_ns, config.human_ns, config.ahead_ns)
        self._chunks = {source: ChunkBuffer(config.chunk_age_ns, config.ahead_ns) for source in (POLICY, SCRIPT)}
        self._arrived_ns = {POLICY: -1, SCRIPT: -1}  # wall
        self._rejected: set[ControlSource] = set()  # whose last chunk was
        self._pose: Pose | None = None
        self._pose_ns = self._pose_wall_ns = -1
        self._pose_guard, self._observed_guard = StampGuard(config.jump_ns), StampGuard(config.jump_ns)
        self._observed: list[int] = []  # stamps of the last observations
        self._floor_ns = -1  # chunks must answer a later observation: the newest thing seen at the human's release
        self._answered_ns = -1  # the observation that the last step answered
        self._target: Pose | None = None
        self._gripper: int | None = None
        self._episode_id, self._ticks, self._acts = "", 0, 0
        self._now_ns: int | None = None
        self._acted_wall_ns: int | None = None

    @property
    def human_held(self) -> bool:
        """Whether the human holds the deadman, as far as is known."""
        return self._human.held

    @property
    def counts(self) -> dict[str, int]:
        """Inputs refused and steps held, by name; for diagnostics."""
        found = dict(self._counts)
        parts = {"policy": self._chunks[POLICY].counts, "script": self._chunks[SCRIPT].counts, "human": self._human.counts,
                 "pose": self._pose_guard.counts}  # fmt: skip
        return found | {f"{name}.{why}": n for name, counts in parts.items() for why, n in counts.items()}

    # ---- inputs --------------------------------------------------------------------------------------------------

    def pose(self, position: npt.ArrayLike, quaternion: npt.ArrayLike, stamp_ns: int, wall_ns: int) -> bool:
        """The measured pose of the tip: m and xyzw, base frame. False when not used: a malformed one voids the last."""
        try:
            pose = Pose.of(position, quaternion)
        except (MessageError, TypeError, ValueError):
            self._counts["pose.rejected"] += 1
            self._pose = None
            return False
        if self._pose_guard.check(stamp_ns) is not Arrival.NEW:
            return False
        self._pose, self._pose_ns, self._pose_wall_ns = pose, stamp_ns, wall_ns
        return True

    def observe(self, stamp_ns: int) -> None:
        """An observation that is to be recorded exists: the camera or whatever else times the recording.

        The node ticks right after this while a human drives, and after ``offer`` while the policy does, so that each
        observation is answered by one step. Without this stream, chunks and the pose give the stamps.
        """
        arrival = self._observed_guard.check(stamp_ns)
        if arrival is Arrival.JUMP:
            self._observed = []
        elif arrival is Arrival.NEW:
            self._observed = [*self._observed[1 - KEPT_STAMPS :], stamp_ns]

    def offer(self, source: ControlSource, chunk: ActionChunk, now_ns: int, wall_ns: int) -> bool:
        """A chunk of the policy or the script. False when refused: not made for this arm, or its observation is late."""
        try:
            chunk.require(self.spec, self.config.period_ns, self.config.longest_chunk)
        except MessageError:
            self.reject(source)
            return False
        if not self._human.held and chunk.stamp_ns <= max(self._floor_ns, self._answered_ns):
            self._counts[f"{source.name.lower()}.answered"] += 1
            return False
        if not self._chunks[source].put(chunk, now_ns):
            return False
        self._arrived_ns[source] = wall_ns
        self._rejected.discard(source)
        if not self._observed or chunk.stamp_ns > self._observed[-1]:
            self.observe(chunk.stamp_ns)
        return True

    def human(
        self, deadman: bool, linear: npt.ArrayLike, angular: npt.ArrayLike, gripper: float | None, stamp_ns: int, wall_ns: int
    ) -> bool:
        """A twist (m/s, rad/s, base frame) with the state of the deadman; see ``HumanInput.push``. Takes over at once."""
        held = self._human.held
        taken = self._human.push(deadman, linear, angular, gripper, stamp_ns, wall_ns)
        if self._human.held != held:
            self._drop_chunks()
            self._counts["takeovers"] += not held
            if held and self.engaged is not None:
                self._release()
        return taken

    def reject(self, source: ControlSource) -> None:
        """The node could not read a message of this source: count it, and void what the source said before."""
        if source is HUMAN:
            self._human.reject()
            return
        self._counts[f"{source.name.lower()}.rejected"] += 1
        self._rejected.add(source)

    def engage(self, source: ControlSource, now_ns: int, wall_ns: int, episode_id: str = "") -> None:
        """Let ``source`` move the arm (HUMAN: nobody but the human). The first target is the measured pose.

        Raises Refused without a fresh pose, or when the arm stands further outside of its limits than one step.
        """
        problem = self._pose_problem(now_ns, wall_ns)
        if problem is not None or self._pose is None:
            raise Refused(f"engage: {(problem or Hold.POSE_MISSING).value}", "a fresh measured pose is required",
                          "check that the robot publishes its pose, and its clock")  # fmt: skip
        if self.engaged is None:
            start = self.config.limits.start(self._pose)
            if start is None:
                limits = self.config.limits
                raise Refused(f"engage at {self._pose.position} {self._pose.quaternion}",
                              f"the arm must stand within a step of the box {limits.box_low} to {limits.box_high} and of "
                              f"{limits.turn_rad} rad around home", "move it there by hand or widen the limits")  # fmt: skip
            self._target = start
        if self._human.held and not self._human.fresh(now_ns, wall_ns):
            self._human.forget()
            self._drop_chunks()  # what came while the human held on was taken as a proposal only
        if episode_id != self._episode_id:
            self._episode_id, self._acts, self._answered_ns = episode_id, 0, -1
        self._floor_ns = -1
        for chunks in self._chunks.values():
            if chunks.chunk is None:
                chunks.clear()
        self.engaged = source

    def disengage(self) -> None:
        """Nothing is commanded any more; what was left of a chunk is gone. Tick right after, also at an episode's end: that
        record tells the recorder that no step is to follow."""
        self.engaged = self._target = None
        for chunks in self._chunks.values():
            chunks.clear()

    # ---- the decision --------------------------------------------------------------------------------------------

    def tick(self, now_ns: int, wall_ns: int) -> ArbiterStep:
        """Decide on one step and record it. Publish ``target`` and ``gripper`` where they are not None."""
        self._ticks += 1
        jumped = self._now_ns is not None and now_ns < self._now_ns
        self._now_ns = now_ns
        if jumped:
            self._forget_stamps()
        hold = Hold.UNENGAGED if self.engaged is None else Hold.CLOCK if jumped else self._pose_problem(now_ns, wall_ns)
        if hold is None and self._acted_wall_ns is not None and wall_ns - self._acted_wall_ns < self.config.min_tick_ns:
            hold = Hold.TOO_SOON
        if hold is None and self._human.held:
            hold = Hold.REJECTED if not self._human.valid else None
            if hold is None and not self._human.fresh(now_ns, wall_ns):
                hold = Hold.HUMAN_STALE
            if hold is None:
                return self._by_human(now_ns, wall_ns)
        if hold is not None or self.engaged is None:
            return self._hold(hold or Hold.UNENGAGED, wall_ns)
        if self.engaged is HUMAN:
            return self._hold(Hold.RELEASED, wall_ns)
        due = self._due(self.engaged, now_ns, wall_ns)
        if isinstance(due, Hold):
            return self._hold(due, wall_ns)
        return self._act(self.engaged, due.action, due.action, self._answers(due), due, wall_ns)

    def _due(self, source: ControlSource, now_ns: int, wall_ns: int) -> Due | Hold:
        if source in self._rejected:
            return Hold.REJECTED
        chunks = self._chunks[source]
        if chunks.chunk is None:
            return Hold.NO_CHUNK if self._floor_ns < 0 else Hold.AWAITING_FRESH
        if not 0 <= wall_ns - self._arrived_ns[source] <= self.config.command_ns:
            return Hold.SILENT
        due = chunks.take(now_ns)
        return due if isinstance(due, Due) else _HOLDS[due]

    def _by_human(self, now_ns: int, wall_ns: int) -> ArbiterStep:
        wanted = self._human.motion.copy()
        if "gripper" in self.spec.names:
            grip = self._human.gripper if self._human.gripper is not None else self._gripper
            wanted[self.spec.names.index("gripper")] = 0.0 if grip is None else grip
        proposal = self._due(POLICY, now_ns, wall_ns)
        due = proposal if isinstance(proposal, Due) else None
        stamp = self._observed[-1] if self._observed else self._pose_ns
        return self._act(HUMAN, due.action if due else None, wanted, stamp, due, wall_ns)

    def _answers(self, due: Due) -> int:
        """The observation that an action was meant for: its chunk's own, or the one current at its planned time."""
        chunk = due.chunk
        if due.index == 0:
            return chunk.stamp_ns
        planned = chunk.stamp_ns + due.index * chunk.period_ns + chunk.period_ns // 2
        return max((s for s in self._observed if chunk.stamp_ns < s <= planned), default=chunk.stamp_ns)

    def _act(self, source: ControlSource, proposed: FloatArray | None, wanted: FloatArray, stamp_ns: int, due: Due | None,
             wall_ns: int) -> ArbiterStep:  # fmt: skip
        limits, before, measured = self.config.limits, self._target, self._pose
        assert before is not None and measured is not None
        if not limits.follows(before, measured):
            return self._hold(Hold.DISPLACED, wall_ns)
        executed = np.clip(wanted, -1.0, 1.0)
        clips = (Clip.ACTION,) if (executed != wanted).any() else ()
        physical = dict(zip(self.spec.names, self.spec.to_physical(executed).astype(np.float64), strict=True))
        move, turn = (np.array([physical.get(name, 0.0) for name in names]) for names in (MOVES, TURNS))
        self._target, limited = limits.advance(before, measured, move, turn)
        grip_unset = source is HUMAN and self._human.gripper is None
        if "gripper" in physical and not grip_unset:
            self._gripper = limits.gripper(float(executed[self.spec.names.index("gripper")]), self._gripper)

        moved = self._target.p - (measured.p if limits.base is Base.MEASURED else before.p)
        turned = log(multiply(self._target.q, inverse(before.q)))
        done = dict(zip(MOVES + TURNS, [*moved, *turned], strict=True)) | {"gripper": float(self._gripper or 0)}
        commanded = self.spec.to_normalised(np.array([done[name] for name in self.spec.names], np.float32))
        self._acts += 1
        self._acted_wall_ns, self._answered_ns = wall_ns, stamp_ns
        return self._record(source, None, clips + limited, executed if proposed is None else proposed, executed, commanded,
                            stamp_ns, due, wall_ns)  # fmt: skip

    def _hold(self, hold: Hold, wall_ns: int) -> ArbiterStep:
        self._counts[f"hold.{hold.name.lower()}"] += 1
        still = np.array([float(self._gripper or 0) if name == "gripper" else 0.0 for name in self.spec.names], np.float32)
        stamp = self._observed[-1] if self._observed else -1
        return self._record(None, hold, (), still, still, still, stamp, None, wall_ns)

    def _record(self, source: ControlSource | None, hold: Hold | None, clips: tuple[Clip, ...], proposed: FloatArray,
                executed: FloatArray, commanded: FloatArray, stamp_ns: int, due: Due | None, wall_ns: int) -> ArbiterStep:
        wanted, done, given = (tuple(map(float, action)) for action in (proposed, executed, commanded))
        chunk_ns, index = (due.chunk.stamp_ns, due.index) if due else (-1, -1)
        return ArbiterStep(self._ticks, wall_ns, self._episode_id, self._acts, stamp_ns, source, hold, clips, wanted, done,
                           given, self._target, self._gripper, chunk_ns, index)  # fmt: skip

    # ---- state ---------------------------------------------------------------------------------------------------

    def measured(self, now_ns: int, wall_ns: int) -> Pose | None:
        """The measured pose, where it is fresh by both clocks."""
        return self._pose if self._pose_problem(now_ns, wall_ns) is None else None

    def _pose_problem(self, now_ns: int, wall_ns: int) -> Hold | None:
        config = self.config
        if self._pose is None:
            return Hold.POSE_MISSING
        fresh = within(config.pose_ns, config.ahead_ns, self._pose_ns, now_ns, self._pose_wall_ns, wall_ns)
        return None if fresh else Hold.POSE_STALE

    def _drop_chunks(self) -> None:
        for chunks in self._chunks.values():
            chunks.drop()

    def _release(self) -> None:
        if self.engaged is POLICY and self.config.hand_back is HandBack.FRESH:
            newest = (self._pose_guard.newest_ns, self._observed_guard.newest_ns, self._answered_ns)
            self._floor_ns = max(stamp for stamp in newest if stamp is not None)
        else:
            self.engaged = HUMAN

    def _forget_stamps(self) -> None:
        """The graph's clock went back: what was promised in its stamps cannot be checked any more."""
        self._counts["clock_jumps"] += 1
        for chunks in self._chunks.values():
            chunks.clear()
        if self.engaged is POLICY and self._floor_ns >= 0:
            self.engaged = HUMAN
        self._observed, self._floor_ns, self._answered_ns = [], -1, -1
        self._observed_guard.forget()
