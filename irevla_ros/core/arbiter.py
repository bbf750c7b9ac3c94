"""The single writer to the arm: who moves it, and when nobody does; by how much is in ``core.target``.

Inputs arrive in any order (``pose``, ``joints``, ``wrench``, ``observe``, ``offer``, ``human``); ``tick`` decides on a step,
once an observation, and ``stream`` gives the poses between two steps at the servo rate. A tick acts only when the arbiter is
engaged, no fault is latched, state and command are fresh by two clocks, and nothing was rejected; else it holds: the stream
brakes within its limits, and stays. Times: ``now_ns`` and stamps of the graph's clock, ``wall_ns`` monotonic. A human with the
deadman held always wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from irevla_ros.core.arbiter_config import ArbiterConfig, HandBack, Refused
from irevla_ros.core.arbiter_step import BETWEEN, ArbiterStep, Hold
from irevla_ros.core.chunks import ActionChunk, Due
from irevla_ros.core.faults import Faults, refusal
from irevla_ros.core.human import HumanInput
from irevla_ros.core.limits import Clip
from irevla_ros.core.observations import Observations
from irevla_ros.core.proposals import Proposals
from irevla_ros.core.robot_state import RobotState
from irevla_ros.core.rotation import Pose
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.target import Target
from irevla_ros.core.tuning import riskier
from irevla_ros.core.types import ControlSource, FloatArray

POLICY, HUMAN, SCRIPT = ControlSource.POLICY, ControlSource.HUMAN, ControlSource.SCRIPT


class Arbiter:
    """See the module. ``counts`` says what was refused and why; ``engaged`` who may move the arm, None for nobody."""

    def __init__(self, spec: ActionSpec, config: ArbiterConfig = ArbiterConfig()) -> None:
        self.spec, self.config = spec, config
        self.engaged: ControlSource | None = None
        self.robot, self.target = RobotState(config), Target(spec, config)
        self._counts: Counter[str] = Counter()
        self._human = HumanInput(spec, config.period_ns, config.human_ns, config.ahead_ns)
        self._released_wall_ns: int | None = None
        self._proposals = Proposals(spec, config)
        self._faults = Faults()
        self._observations = Observations(config.jump_ns)
        self._episode_id, self._ticks, self._acts = "", 0, 0
        self._now_ns: int | None = None

    @property
    def fault(self) -> Hold | None:
        """What is latched until ``resume``."""
        return self._faults.latched

    @property
    def human_held(self) -> bool:
        """Whether the human holds the deadman, as far as is known."""
        return self._human.held

    @property
    def moving(self) -> bool:
        """Whether ``stream`` has more to send, be it only to come to rest."""
        return self.target.moving

    @property
    def counts(self) -> dict[str, int]:
        """Inputs refused and steps held, by name; for diagnostics."""
        human = {f"human.{why}": n for why, n in self._human.counts.items()}
        return dict(self._counts) | self._proposals.counts | human | dict(self.robot.counts) | self.robot.stamp_counts

    # ---- inputs --------------------------------------------------------------------------------------------------

    def pose(self, position: npt.ArrayLike, quaternion: npt.ArrayLike, stamp_ns: int, wall_ns: int) -> bool:
        """The measured pose of the tip: m and xyzw, base frame. False when not used: a malformed one voids the last."""
        return self.robot.push_pose(position, quaternion, stamp_ns, wall_ns)

    def joints(self, names: Sequence[str], positions: Sequence[float], stamp_ns: int, wall_ns: int) -> None:
        """The arm's joint positions, rad, in any order, among others or not."""
        self.robot.push_joints(names, positions, stamp_ns, wall_ns)

    def wrench(self, force: npt.ArrayLike, torque: npt.ArrayLike, stamp_ns: int, wall_ns: int) -> None:
        """The external force (N) and torque (Nm) on the tip."""
        self.robot.push_wrench(force, torque, stamp_ns, wall_ns, self.config)
        self._note_fault(wall_ns)  # what is gone again by the next tick counts, too

    def deadman(self, held: bool, stamp_ns: int, now_ns: int, wall_ns: int) -> None:
        """The operator held the deadman at ``stamp_ns``, or did not. That counts for ``deadman_ns`` from then on."""
        self._note_fault(wall_ns)  # silence or a release before the next tick counts, too
        self._counts["deadman.late"] += not self._faults.deadman(self.config, held, now_ns - stamp_ns, wall_ns)
        self._note_fault(wall_ns)

    def observe(self, stamp_ns: int) -> None:
        """An observation that is to be recorded exists: the camera or whatever else times the recording.

        The node ticks right after this while a human drives, and after ``offer`` while the policy does, so that each
        observation is answered by one step. Without this stream, chunks and the pose give the stamps.
        """
        self._observations.push(stamp_ns)

    def offer(self, source: ControlSource, chunk: ActionChunk, now_ns: int, wall_ns: int) -> bool:
        """A chunk of the policy or the script. False when refused: not made for this arm, or its observation is late."""
        if not self._proposals.offer(source, chunk, self._human.held, now_ns, wall_ns):
            return False
        if chunk.stamp_ns > self._observations.last(-1):
            self.observe(chunk.stamp_ns)
        return True

    def human(
        self, deadman: bool, linear: npt.ArrayLike, angular: npt.ArrayLike, gripper: float | None, stamp_ns: int, wall_ns: int
    ) -> bool:
        """A twist (m/s, rad/s, base frame) with the state of the deadman; see ``HumanInput.push``. Takes over at once."""
        held = self._human.held
        taken = self._human.push(deadman, linear, angular, gripper, stamp_ns, wall_ns)
        if self._human.held != held:
            self._proposals.drop()
            self.target.brake()
            self._counts["takeovers"] += not held
            if held:
                self._release(wall_ns)
        return taken

    def reject(self, source: ControlSource) -> None:
        """The node could not read a message of this source: count it, and void what the source said before."""
        if source is HUMAN:
            self._human.reject()
        else:
            self._proposals.reject(source)

    # ---- the operator --------------------------------------------------------------------------------------------

    def engage(self, source: ControlSource, now_ns: int, wall_ns: int, episode_id: str = "") -> None:
        """Let ``source`` move the arm (HUMAN: nobody but the human). Refused as by ``require_ready`` and ``Target.start``."""
        pose = self.require_ready(now_ns, wall_ns)
        if self.engaged is None:
            self.target.start(pose)
        if self._human.held and not self._human.fresh(now_ns, wall_ns):
            self._human.forget()
            self._proposals.drop()  # what came while the human held on was taken as a proposal only
        if episode_id != self._episode_id:
            self._episode_id, self._acts, self._proposals.answered_ns = episode_id, 0, -1
        self._proposals.floor_ns = -1
        self._proposals.clear(used_up_only=True)
        self.engaged = source

    def require_ready(self, now_ns: int, wall_ns: int) -> Pose:
        """The measured pose. Raises Refused where a tick would hold, whoever is engaged."""
        problem = self.fault or self._faults.cause(self.config, self.robot, wall_ns)
        problem, pose = problem or self.robot.problem(self.config, now_ns, wall_ns), self.robot.pose
        if problem is not None or pose is None:
            raise refusal("engage", problem or Hold.POSE_MISSING, self.robot)
        return pose

    def objection(self, wall_ns: int, moving: bool) -> Hold | None:
        """Why nobody may move the arm by another way than this, None where nothing speaks against it. ``moving``: somebody may
        be doing so now; a force above its limit is then latched as when this moves it."""
        problem = self.fault or self._faults.cause(self.config, self.robot, wall_ns)
        if moving and problem is Hold.FORCE and self.fault is None:
            self._fail(problem)
        return problem

    def disengage(self) -> None:
        """Nobody moves the arm any more: it is braked; what was left of a chunk is gone. Tick right after, also at an episode's
        end: that record tells the recorder that no step is to follow."""
        self.target.end()
        self.engaged = None
        self._proposals.clear()

    def stop(self) -> None:
        """Hold until ``resume``, whatever comes."""
        self._fail(Hold.STOPPED)

    def resume(self, wall_ns: int) -> None:
        """Whoever is engaged may go on after a fault, with what comes from now on. Raises Refused while its cause lasts."""
        problem = self._faults.cause(self.config, self.robot, wall_ns)
        if problem is not None:
            raise refusal("resume", problem, self.robot)
        self._faults.latched = None

    def tune(self, config: ArbiterConfig) -> None:
        """Other limits: while somebody is engaged, or the arm comes to rest, safer ones alone (``tuning.riskier``), else
        Refused. Acceleration and jerk count from the next engagement on."""
        risk = riskier(self.config, config) if self.engaged is not None or self.moving else ""
        if risk:
            raise Refused(f"not while the arm is engaged: {risk}", "only safer limits are taken then", "disengage it first")
        self.config = config
        self.target.tune(config)

    # ---- the decision --------------------------------------------------------------------------------------------

    def tick(self, now_ns: int, wall_ns: int, blind: bool = False) -> ArbiterStep:
        """Decide on one step and record it. In lock step publish ``target`` where it is not None; ``gripper`` always.
        ``blind``: the camera has stalled; a human's step would answer what has been answered, and is held back."""
        self._ticks += 1
        jumped = self._now_ns is not None and now_ns < self._now_ns
        self._now_ns = now_ns
        if jumped:
            self._forget_stamps()
        hold = self._hindrance(now_ns, wall_ns, jumped)
        stepped_ns = self.target.stepped_wall_ns
        if hold is None and stepped_ns is not None and wall_ns - stepped_ns < self.config.min_tick_ns:
            hold = Hold.TOO_SOON
        if hold is not None or self.engaged is None:
            return self._hold(hold or Hold.UNENGAGED, wall_ns)
        if self._human.held:
            return self._hold(Hold.WAITING, wall_ns) if blind else self._by_human(now_ns, wall_ns)
        if self.engaged is HUMAN:
            return self._hold(Hold.RELEASED, wall_ns)
        if self._released_wall_ns is not None and wall_ns - self._released_wall_ns < self.config.release_ns:
            return self._hold(Hold.LATCHED, wall_ns)
        due = self._proposals.due(self.engaged, now_ns, wall_ns)
        if isinstance(due, Hold):
            return self._hold(due, wall_ns)
        return self._act(self.engaged, due.action, due.action, self._observations.answered_by(due), due, wall_ns)

    def stream(self, now_ns: int, wall_ns: int) -> Pose | None:
        """Once a servo period: the next pose to send, None while the target stands still. Brakes for what came since the last
        tick."""
        if self.moving and self._hindrance(now_ns, wall_ns) is not None:
            self.target.brake()
        return self.target.stream()

    def _hindrance(self, now_ns: int, wall_ns: int, jumped: bool = False) -> Hold | None:
        """Why nobody moves the arm now, whoever wants to; the human alone where it is the human's."""
        if self.engaged is None:
            return Hold.UNENGAGED
        self._note_fault(wall_ns)
        hold = self.fault or (Hold.CLOCK if jumped else self.robot.problem(self.config, now_ns, wall_ns))
        if hold is None and self._human.held:
            if not self._human.valid:
                return Hold.REJECTED
            return None if self._human.fresh(now_ns, wall_ns) else Hold.HUMAN_STALE
        return hold

    def _note_fault(self, wall_ns: int) -> None:
        if self.engaged is not None and self.fault is None:
            cause = self._faults.cause(self.config, self.robot, wall_ns)
            if cause is not None:
                self._fail(cause)

    def _fail(self, fault: Hold) -> None:
        self._faults.latched = fault
        self._counts[f"fault.{fault.name.lower()}"] += 1
        self._proposals.drop()
        self.target.brake()

    def _by_human(self, now_ns: int, wall_ns: int) -> ArbiterStep:
        wanted = self._human.motion.copy()
        if "gripper" in self.spec.names:
            grip = self._human.gripper if self._human.gripper is not None else self.target.gripper
            wanted[self.spec.names.index("gripper")] = 0.0 if grip is None else grip
        proposal = self._proposals.due(POLICY, now_ns, wall_ns)
        due = proposal if isinstance(proposal, Due) else None
        stamp = self._observations.last(self.robot.pose_ns)
        return self._act(HUMAN, due.action if due else None, wanted, stamp, due, wall_ns)

    def _act(self, source: ControlSource, proposed: FloatArray | None, wanted: FloatArray, stamp_ns: int, due: Due | None,
             wall_ns: int) -> ArbiterStep:  # fmt: skip
        executed = np.clip(wanted, -1.0, 1.0)
        taken = self.target.step(self.robot, executed, source is not HUMAN or self._human.gripper is not None, wall_ns)
        if isinstance(taken, Hold):
            return self._hold(taken, wall_ns)
        clips = (Clip.ACTION,) if (executed != wanted).any() else ()
        self._acts += 1
        self._proposals.answered_ns = stamp_ns
        return self._record(source, None, clips + taken.clips, executed if proposed is None else proposed, executed,
                            taken.commanded, stamp_ns, due, wall_ns)  # fmt: skip

    def _hold(self, hold: Hold, wall_ns: int) -> ArbiterStep:
        if hold not in BETWEEN:
            self.target.brake()
        self._counts[f"hold.{hold.name.lower()}"] += 1
        gripper = float(self.target.gripper or 0)
        still = np.array([gripper if name == "gripper" else 0.0 for name in self.spec.names], np.float32)
        stamp = self._observations.last(-1)
        return self._record(None, hold, (), still, still, still, stamp, None, wall_ns)

    def _record(self, source: ControlSource | None, hold: Hold | None, clips: tuple[Clip, ...], proposed: FloatArray,
                executed: FloatArray, commanded: FloatArray, stamp_ns: int, due: Due | None, wall_ns: int) -> ArbiterStep:
        wanted, done, given = (tuple(map(float, action)) for action in (proposed, executed, commanded))
        chunk_ns, index = (due.chunk.stamp_ns, due.index) if due else (-1, -1)
        return ArbiterStep(self._ticks, wall_ns, self._episode_id, self._acts, stamp_ns, source, hold, clips, wanted, done,
                           given, self.target.pose, self.target.gripper, chunk_ns, index)  # fmt: skip

    # ---- state ---------------------------------------------------------------------------------------------------

    def _release(self, wall_ns: int) -> None:
        self._released_wall_ns = wall_ns
        if self.engaged is POLICY and self.config.hand_back is HandBack.FRESH:
            newest = (self.robot.newest_pose_ns, self._observations.newest_ns, self._proposals.answered_ns)
            self._proposals.floor_ns = max(stamp for stamp in newest if stamp is not None)
        elif self.engaged is not None:
            self.engaged = HUMAN

    def _forget_stamps(self) -> None:
        """The graph's clock went back: what was promised in its stamps cannot be checked any more."""
        self._counts["clock_jumps"] += 1
        self._proposals.clear()
        if self.engaged is POLICY and self._proposals.floor_ns >= 0:
            self.engaged = HUMAN
        self._proposals.floor_ns = self._proposals.answered_ns = -1
        self._observations.forget()

