"""The arbiter's record of one tick: what was wanted, what was done about it, and why nothing was."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from irevla_ros.core.limits import Clip
from irevla_ros.core.messages import Message, MessageError
from irevla_ros.core.rotation import Pose
from irevla_ros.core.types import ControlSource


class Hold(str, Enum):
    """Why a tick did not move the target."""

    UNENGAGED = "unengaged"
    CLOCK = "clock went back"
    TOO_SOON = "too soon after the last step"
    POSE_MISSING = "no pose"
    POSE_STALE = "pose too old"
    JOINTS_STALE = "joint states missing or too old"
    WRENCH_STALE = "wrench missing or too old"
    DISPLACED = "arm far from its target"
    JOINT_LIMIT = "towards a joint limit"
    SINGULARITY = "towards a singularity"
    FORCE = "external force above its limit"
    DEADMAN = "the deadman was let go"
    STOPPED = "stopped by the operator"
    HUMAN_STALE = "human input too old"
    REJECTED = "input rejected"
    LATCHED = "released by the human a moment ago"
    RELEASED = "released by the human, not engaged again"
    AWAITING_FRESH = "waiting for an observation newer than the release"
    NO_CHUNK = "no chunk"
    SILENT = "nothing from the policy for too long"
    WAITING = "next action not due"
    EXHAUSTED = "chunk used up"
    OBSERVATION_STALE = "observation too old"
    OBSERVATION_AHEAD = "observation ahead of the clock"


FAULTS = (Hold.FORCE, Hold.DEADMAN, Hold.STOPPED)
"""They last until the operator resumes; every other hold ends by itself, with fresh input that is allowed."""
BETWEEN = (Hold.WAITING, Hold.EXHAUSTED, Hold.TOO_SOON)
"""Between two steps, as it should be: the arm goes on to the last target. In every other hold it is braked at once."""


@dataclass(frozen=True)
class ArbiterStep(Message):
    """One record a tick, topic ``arbiter/step``.

    A tick either acts (``hold`` None, ``source`` says for whom) or holds (``source`` None; the actions are then what
    holding is: no motion, the gripper as it is).

    tick: number of the tick since the arbiter began; wall_ns: its time, monotonic on the arbiter's host; episode_id: ""
    outside of episodes; acts: how many ticks of this episode have acted, this one included, so that a lost record shows.
    stamp_ns: the observation that this step starts from, the join key of recording (-1: none is known); chunk_ns and
    chunk_index: of the policy's or script's action, stamp of the observation it was computed from, -1 without one.
    proposed: what the policy wanted, raw, also while a human drives (equal to ``executed`` where it wanted nothing);
    executed: what was asked for, clipped to +-1; commanded: the motion of the target after all limits; each [A],
    normalised by ``ActionSpec``. target: commanded pose, base frame, None when nothing may be commanded; gripper: -1
    closed, +1 open, None before the first command. clips: limits that changed the step, in order of application.
    dry_run: what was commanded was shown, and reached no robot.

    Raises MessageError when the fields contradict each other.
    """

    KIND: ClassVar[str] = "arbiter/step"

    tick: int
    wall_ns: int
    episode_id: str
    acts: int
    stamp_ns: int
    source: ControlSource | None
    hold: Hold | None
    clips: tuple[Clip, ...]
    proposed: tuple[float, ...]
    executed: tuple[float, ...]
    commanded: tuple[float, ...]
    target: Pose | None
    gripper: int | None
    chunk_ns: int = -1
    chunk_index: int = -1
    dry_run: bool = False

    def __post_init__(self) -> None:
        if (self.source is None) != (self.hold is not None):
            raise self._wrong(f"source {self.source} with hold {self.hold}", "a tick acts for a source or holds")
        if self.hold is None and (self.target is None or self.acts < 1 or self.stamp_ns < 0):
            raise self._wrong(f"target {self.target}, acts {self.acts}, stamp {self.stamp_ns}",
                              "a tick that acts has a target, a count and an observation")  # fmt: skip
        if not len(self.proposed) == len(self.executed) == len(self.commanded):
            raise self._wrong(f"{len(self.proposed)}, {len(self.executed)} and {len(self.commanded)} action values",
                              "the three actions have the same dimensions")  # fmt: skip
        actions = np.asarray([self.executed, self.commanded])
        if not np.isfinite(self.proposed).all() or not (np.abs(actions) <= 1).all():
            raise self._wrong(f"executed {self.executed}, commanded {self.commanded}", "both lie within +-1, all is finite")
        if self.gripper not in (None, -1, 1):
            raise self._wrong(f"gripper {self.gripper}", "-1 is closed, 1 open")

    @property
    def acted(self) -> bool:
        return self.hold is None

    def _wrong(self, value: str, rule: str) -> MessageError:
        return MessageError(f"arbiter step {self.tick}: {value}", rule, "take it from the arbiter node as it is")
