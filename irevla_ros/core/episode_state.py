"""What the episode node says and hears: its latched state, and the events that move its machine.

Stamps are in nanoseconds of the graph's clock (simulated time where there is one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from irevla_ros.core.messages import Message, MessageError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import EpisodeMeta, Mode, Outcome, TerminationReason

TERMINAL = (TerminationReason.SUCCESS, TerminationReason.FAILURE)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,119}")  # what the spool can name files by


class Phase(str, Enum):
    """idle -> reset -> ready -> run -> end -> idle; a reset or a wait that fails goes straight to end."""

    IDLE = "idle"
    RESET = "reset"
    READY = "ready"
    RUN = "run"
    END = "end"


class Judge(str, Enum):
    """Who gave a verdict. The operator's is final."""

    REWARD = "reward"
    OPERATOR = "operator"


@dataclass(frozen=True)
class EpisodeState(Message):
    """The latched topic ``episode/state``; everybody follows it.

    ``sequence`` grows with every change, over restarts of the node too, so that a late copy is recognised
    (``supersedes``). ``episode_id`` is that of the running or, when idle, of the last episode ("" before the first).
    ``deterministic``: the policy takes its mean, as it always does in mode eval. ``entered_ns``: when this phase began;
    ``started_ns`` and ``ended_ns``: when the run did, None until then; observations at and after ``ended_ns`` are not acted
    on. ``termination_reason`` says why it ended, ``outcome`` whether the task succeeded; ``terminated`` and ``truncated``
    follow from the reason, both false until the end. ``judge``: who decided the outcome, None when the clock did or
    nobody. ``perturbed``: a person disturbs the scene in it. ``discarded``: not to be recorded or learned from. ``detail``:
    why, in words.

    Raises MessageError when the fields contradict each other.
    """

    KIND: ClassVar[str] = "episode/state"

    sequence: int
    phase: Phase
    run_id: str
    episode_id: str = ""
    task: str = ""
    instruction: str = ""
    mode: Mode = Mode.TRAIN
    seed: int = 0
    deterministic: bool = False
    operator: str = ""
    time_limit_ns: int = 0
    entered_ns: int = 0
    started_ns: int | None = None
    ended_ns: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    termination_reason: TerminationReason | None = None
    terminated: bool = False
    truncated: bool = False
    judge: Judge | None = None
    perturbed: bool = False
    discarded: bool = False
    detail: str = ""

    def __post_init__(self) -> None:
        reason = self.termination_reason
        if self.terminated != (reason in TERMINAL) or self.truncated != (reason is not None and reason not in TERMINAL):
            said = f"terminated={self.terminated}, truncated={self.truncated} with reason {reason and reason.value}"
            raise MessageError(f"episode state: {said}", "success and failure terminate, other reasons truncate",
                               "take these fields from the episode node")  # fmt: skip
        over, idle = self.phase is Phase.END, self.phase is Phase.IDLE
        if (over and reason is None) or (not over and not idle and reason is not None):
            raise MessageError(f"episode state in {self.phase.value} with reason {reason and reason.value}",
                               "an episode has a reason when it has ended", "take it from the episode node")  # fmt: skip
        if (self.episode_id and not _ID.fullmatch(self.episode_id)) or (not idle and not self.episode_id):
            raise MessageError(f"episode id {self.episode_id!r} in {self.phase.value}",
                               "an id names files: 1 to 120 of letters, digits and ._+=-", "choose another run id")  # fmt: skip
        if self.sequence < 0 or self.time_limit_ns < 0:
            raise MessageError(f"sequence {self.sequence}, time limit {self.time_limit_ns}", "neither is negative",
                               "take them from the episode node")  # fmt: skip

    def supersedes(self, other: EpisodeState | None) -> bool:
        """Whether this state is news after ``other``: another run of the node, or a later state of the same."""
        return other is None or self.run_id != other.run_id or self.sequence > other.sequence

    def meta(self, spec: ActionSpec, rate_hz: float, software: Mapping[str, str]) -> EpisodeMeta:
        """What the recorder opens the episode with; outcome and reason are set when it is sealed."""
        return EpisodeMeta(
            episode_id=self.episode_id,
            task=self.task,
            instruction=self.instruction,
            mode=self.mode,
            seed=self.seed,
            run_id=self.run_id,
            operator=self.operator,
            action_names=spec.names,
            control_rate_hz=rate_hz,
            perturbed=self.perturbed,
            software=software,
        )


# ---- events ----------------------------------------------------------------------------------------------------
#
# ``episode_id`` names the episode that the sender means, ``sequence`` the state that it had seen: an event about an
# earlier episode or phase is ignored. Empty and None, as the operator's plain services give them, mean the present one.


@dataclass(frozen=True)
class Start(Message):
    """Request the next episode; ``time_limit_ns`` 0 takes the configured one. Mode eval is always ``deterministic``.
    ``perturbed``: a person is going to disturb the scene."""

    KIND: ClassVar[str] = "episode/start"

    task: str
    instruction: str
    mode: Mode
    seed: int
    time_limit_ns: int = 0
    deterministic: bool = False
    operator: str = ""
    perturbed: bool = False

    def __post_init__(self) -> None:
        if not self.task or not self.instruction:
            raise MessageError(f"task {self.task!r} with instruction {self.instruction!r}", "both are needed",
                               "name the task and say it in words")  # fmt: skip
        if self.time_limit_ns < 0:
            raise MessageError(f"time limit {self.time_limit_ns} ns", "it is not negative", "give 0 for the default")


@dataclass(frozen=True)
class ResetDone(Message):
    """``who`` has finished its part of the reset, or could not: ``failure`` says why, "" when done."""

    KIND: ClassVar[str] = "episode/reset_done"

    who: str
    failure: str = ""
    episode_id: str = ""
    sequence: int | None = None


@dataclass(frozen=True)
class Verdict(Message):
    """``reward/verdict``: the task has succeeded or failed, as seen in the observation of ``stamp_ns``."""

    KIND: ClassVar[str] = "reward/verdict"

    success: bool
    judge: Judge
    stamp_ns: int
    episode_id: str = ""
    sequence: int | None = None


@dataclass(frozen=True)
class Judged(Message):
    """The reward has looked at everything up to ``stamp_ns`` and has no verdict: the time limit need not wait for it."""

    KIND: ClassVar[str] = "reward/judged"

    stamp_ns: int
    episode_id: str = ""
    sequence: int | None = None


class Verb(str, Enum):
    """What an operator, or the node that stands for one, can ask for."""

    CONFIRM = "confirm"  # the scene is as it should be
    ENGAGE = "engage"  # go
    STOP = "stop"  # end now, cleanly
    FAULT = "fault"  # end now: the robot has stopped by itself
    DISCARD = "discard"  # end now, and keep nothing of it
    DISTURB = "disturb"  # a person disturbs the scene: the episode is marked, and in simulation an object is moved
    SEALED = "sealed"  # the recorder has it on disk, or has nothing to keep


@dataclass(frozen=True)
class Request(Message):
    """One verb; ``why`` is kept in the state's ``detail``."""

    KIND: ClassVar[str] = "episode/request"

    verb: Verb
    why: str = ""
    episode_id: str = ""
    sequence: int | None = None


Event = Start | ResetDone | Verdict | Judged | Request
