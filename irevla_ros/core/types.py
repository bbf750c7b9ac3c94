"""What flows through the loop: observations, and the episode, the unit of recording, labelling and learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

import numpy as np
import numpy.typing as npt

from irevla_ros.core.errors import DataError

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

CATEGORIES = ("expert", "rl", "unseen")  # of tasks: demonstrated, learned online, never trained on


class Mode(str, Enum):
    """Why an episode was run: only ``TRAIN`` and ``DEMO`` episodes are ever learned from."""

    TRAIN = "train"
    EVAL = "eval"
    DEMO = "demo"


class Outcome(str, Enum):
    """Did the task succeed? Says nothing about why the episode ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class TerminationReason(str, Enum):
    """Why an episode ended. ``SUCCESS`` and ``FAILURE`` terminate, the others truncate."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIME_LIMIT = "time_limit"
    STOPPED = "stopped"
    FAULT = "fault"  # the robot stopped by itself: a reflex, say
    RECOVERED = "recovered"  # the recorder died while the episode was open


class ControlSource(IntEnum):
    """Who commanded the arm in a step."""

    POLICY = 0
    HUMAN = 1
    SCRIPT = 2


@dataclass(frozen=True)
class Observation:
    """What the policy sees at one tick.

    images: camera name -> uint8 RGB [H, W, 3]; proprio: float32 [P] (see ``ProprioSpec``); instruction: in words.
    """

    images: Mapping[str, ByteArray]
    proprio: FloatArray
    instruction: str


@dataclass(frozen=True)
class EpisodeMeta:
    """What is said of an episode as a whole. All values survive a JSON round trip.

    perturbed: a person disturbed the scene in it, on purpose; defects: what the recorder found wrong with the recording itself.
    """

    episode_id: str
    task: str
    instruction: str
    mode: Mode
    seed: int
    run_id: str = ""
    outcome: Outcome = Outcome.UNKNOWN
    termination_reason: TerminationReason = TerminationReason.STOPPED
    operator: str = ""
    backbone_fingerprint: str = ""  # of the backbone that produced ``Episode.latents``
    action_names: tuple[str, ...] = ()
    control_rate_hz: float = 10.0
    perturbed: bool = False
    defects: tuple[str, ...] = ()
    software: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Episode:
    """T steps and T + 1 observations, column-wise: row t + 1 is the explicit next observation of step t.

    images: camera -> uint8 [T+1, H, W, 3]; proprio: float32 [T+1, P]; stamps_ns: int64 [T+1], strictly increasing;
    proposed (what the policy wanted, unclipped), executed (what was asked of the arm after arbitration and clipping)
    and commanded (what the controller was finally given): float32 [T, A], normalised to [-1, 1] by ``ActionSpec``;
    source: uint8 [T] of ``ControlSource``; log_prob: float32 [T], NaN where the policy did not act;
    head_version: int64 [T], -1 where the policy did not act; reward: float32 [T]; terminated, truncated: bool [T], of
    which at most the last row of at most one is true; latents: float16 [T+1, m, d], or None when not (yet) computed.
    """

    meta: EpisodeMeta
    images: Mapping[str, ByteArray]
    proprio: FloatArray
    stamps_ns: IntArray
    proposed: FloatArray
    executed: FloatArray
    commanded: FloatArray
    source: ByteArray
    log_prob: FloatArray
    head_version: IntArray
    reward: FloatArray
    terminated: BoolArray
    truncated: BoolArray
    latents: HalfArray | None = None

    def __post_init__(self) -> None:
        steps, name = len(self.executed), f"episode {self.meta.episode_id!r}"
        per_step = ("proposed", "commanded", "source", "log_prob", "head_version", "reward", "terminated", "truncated")
        for column in per_step:
            self._require(name, column, len(getattr(self, column)), steps)
        for column in ("proprio", "stamps_ns"):
            self._require(name, column, len(getattr(self, column)), steps + 1)
        for camera, frames in self.images.items():
            self._require(name, f"images[{camera!r}]", len(frames), steps + 1)
        if self.latents is not None:
            self._require(name, "latents", len(self.latents), steps + 1)
        if (self.terminated & self.truncated).any() or (self.terminated | self.truncated)[:-1].any():
            raise DataError(name, "terminated and truncated exclude each other and mark the last step only",
                            "fix the recorder that wrote this episode")  # fmt: skip

    @staticmethod
    def _require(name: str, column: str, found: int, wanted: int) -> None:
        if found != wanted:
            raise DataError(f"{name} column {column} has {found} rows", f"{wanted} are required",
                            "record T steps and T + 1 observations")  # fmt: skip

    def __len__(self) -> int:
        """Number of steps T."""
        return len(self.executed)

    @property
    def success(self) -> bool:
        return self.meta.outcome is Outcome.SUCCESS
