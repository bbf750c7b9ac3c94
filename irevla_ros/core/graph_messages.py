"""What nodes tell each other as JSON beside the episode's state and events (``episode_state``) and ``arbiter/step``.

Stamps are nanoseconds of the graph's clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from irevla_ros.core.messages import Message, MessageError
from irevla_ros.core.types import Mode, Outcome, TerminationReason

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SimState(Message):
    """``sim/state``: what the simulator alone knows at the observation of ``stamp_ns``."""

    KIND: ClassVar[str] = "sim/state"

    stamp_ns: int
    task: str
    success: bool
    failure: bool


@dataclass(frozen=True)
class Consent(Message):
    """``arbiter/consent``: may the arm be moved past the arbiter (a reset, a recovery)? In real time, in every phase, ten times
    a second and on each change.

    engaged: the operator has called ``arbiter/engage``, or need not; hindrance: the fault, stop or deadman that forbids any
    motion, "" without.
    """

    KIND: ClassVar[str] = "arbiter/consent"

    stamp_ns: int
    sequence: int
    engaged: bool
    hindrance: str


@dataclass(frozen=True)
class RewardValue(Message):
    """``reward/value``: a reward earned by reaching the observation of ``stamp_ns``. The verdict itself is not sent so."""

    KIND: ClassVar[str] = "reward/value"

    stamp_ns: int
    value: float


@dataclass(frozen=True)
class Sealed(Message):
    """``episode/sealed``: the episode is in the spool under its id, or, with ``steps`` 0, there was nothing to keep.

    ``refusal``: why recording broke off before the end, "" when the episode is whole; ``latents``: sealed with them.
    """

    KIND: ClassVar[str] = "episode/sealed"

    episode_id: str
    steps: int
    outcome: Outcome
    reason: TerminationReason
    refusal: str = ""
    latents: bool = False


@dataclass(frozen=True)
class Proposal(Message):
    """``task/instruction``: what the learner, or the operator, wants to be done next; latched."""

    KIND: ClassVar[str] = "task/instruction"

    task: str
    instruction: str
    mode: Mode = Mode.TRAIN


@dataclass(frozen=True)
class Announcement(Message):
    """``learner/announcement``: the policy to act with; latched. Paths are relative to the run's folder.

    checkpoint: folder of a whole VLA, with the SHA-256 of its ``config.json`` (which holds those of the tensors); head:
    file of a newer ``GaussianActor`` for that backbone, with its SHA-256, or "" and "" where the checkpoint's own head
    acts. ``version`` becomes the episode's head version.

    Raises MessageError for a path that leaves the run's folder, or a hash that is none.
    """

    KIND: ClassVar[str] = "learner/announcement"

    run_id: str
    version: int
    checkpoint: str
    checkpoint_sha256: str
    head: str = ""
    head_sha256: str = ""

    def __post_init__(self) -> None:
        for path in filter(None, (self.checkpoint, self.head)):
            parts = PurePosixPath(path).parts
            if PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path or "\0" in path:
                raise MessageError(f"announced path {path!r}", "it lies within the run's folder", "announce a relative path")
        for digest in (self.checkpoint_sha256, *([self.head_sha256] if self.head else [])):
            if not _SHA256.fullmatch(digest):
                raise MessageError(f"announced SHA-256 {digest[:70]!r}", "64 hexadecimal digits", "announce the file's hash")
        if not self.checkpoint or self.version < 0 or bool(self.head) != bool(self.head_sha256):
            raise MessageError(f"announcement of checkpoint {self.checkpoint!r}, version {self.version}",
                               "a checkpoint, a version of at least 0, a hash for each file",
                               "see core.graph_messages")  # fmt: skip


@dataclass(frozen=True)
class PolicyVersion(Message):
    """``policy/version``: what each arm acts with from its next reset on; latched. ``version`` is -1 before anything was
    loaded. ``refused``: why the newest announcement was not taken, "" if it was."""

    KIND: ClassVar[str] = "policy/version"

    run_id: str
    version: int
    fingerprint: str
    refused: str = ""


@dataclass(frozen=True)
class LearnerStatus(Message):
    """``learner/status``: where Algorithm 1 is, for people; latched. ``rate``: of the last ``rated`` episodes, None before the
    first."""

    KIND: ClassVar[str] = "learner/status"

    stage: str
    task: str
    done: int
    of: int
    rate: float | None = None
    rated: int = 0
    version: int = 0
    finished: bool = False
    detail: str = ""
