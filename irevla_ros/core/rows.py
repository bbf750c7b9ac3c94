"""What the assembler takes from the policy's side and gives out: the rows of an episode, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from irevla_ros.core.episode_state import TERMINAL
from irevla_ros.core.messages import MessageError
from irevla_ros.core.types import (
    ControlSource,
    Episode,
    EpisodeMeta,
    FloatArray,
    HalfArray,
    Observation,
    Outcome,
    TerminationReason,
)


@dataclass(frozen=True, eq=False)
class SideRecord:
    """What the policy knows of the observation of ``stamp_ns``: the head and the log-probability of the chunk drawn from it
    (-1 and None where it drew none), and the latents, float16 [m, d], under their backbone's ``fingerprint``, or None.

    Raises MessageError for latents of another type, or without a fingerprint.
    """

    stamp_ns: int
    head_version: int = -1
    log_prob: float | None = None
    latents: HalfArray | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.latents is None:
            return
        if self.latents.dtype != np.float16 or self.latents.ndim != 2 or not self.fingerprint:
            found = f"{self.latents.dtype} {list(self.latents.shape)} of backbone {self.fingerprint!r}"
            raise MessageError(f"latents of stamp {self.stamp_ns}: {found}", "float16 [m, d] with a fingerprint",
                               "store what the policy's act returns")  # fmt: skip


@dataclass(frozen=True, eq=False)
class StepRow:
    """One step as ``data.writer.Step`` takes it, field by field: ``Step(**vars(row))``."""

    proposed: FloatArray
    executed: FloatArray
    commanded: FloatArray
    source: ControlSource
    log_prob: float
    head_version: int
    reward: float


@dataclass(frozen=True, eq=False)
class Append:
    """To be appended in this order: the step (None before the first observation), then the observation that followed it."""

    step: StepRow | None
    stamp_ns: int
    observation: Observation


@dataclass(frozen=True, eq=False)
class Assembled:
    """How an episode came out, once everything has been given out.

    steps: how many; 0 means that there is nothing to seal. outcome and reason are what to seal it with; where ``refusal``
    is not empty, the record broke off there: the steps before it are sound, the outcome is unknown, the reason stopped.
    latents: float16 [T + 1, m, d] of one backbone, or None, as a whole, when those of the stamps ``missing_latents`` did
    not come in time (all of them when none was expected): the back-fill job then encodes the episode. missing_sides:
    observations whose step has no head version, so that on-policy learning must not use the episode. discarded: seal
    nothing.
    """

    steps: int
    outcome: Outcome
    reason: TerminationReason
    refusal: str = ""
    latents: HalfArray | None = None
    fingerprint: str = ""
    missing_latents: tuple[int, ...] = ()
    missing_sides: tuple[int, ...] = ()
    discarded: bool = False


def episode_of(meta: EpisodeMeta, appends: Sequence[Append], result: Assembled) -> Episode:
    """The whole episode, as the spool gives back what was appended."""
    steps = [append.step for append in appends if append.step is not None]
    last = np.arange(len(steps)) == len(steps) - 1
    nobody = np.zeros(len(steps), np.bool_)
    ended = result.reason in TERMINAL
    first = appends[0].observation
    return Episode(
        meta=replace(meta, outcome=result.outcome, termination_reason=result.reason,
                     backbone_fingerprint=result.fingerprint if result.latents is not None else ""),
        images={name: np.stack([a.observation.images[name] for a in appends]) for name in first.images},
        proprio=np.stack([a.observation.proprio for a in appends]),
        stamps_ns=np.array([a.stamp_ns for a in appends], np.int64),
        proposed=np.stack([step.proposed for step in steps]),
        executed=np.stack([step.executed for step in steps]),
        commanded=np.stack([step.commanded for step in steps]),
        source=np.array([step.source for step in steps], np.uint8),
        log_prob=np.array([step.log_prob for step in steps], np.float32),
        head_version=np.array([step.head_version for step in steps], np.int64),
        reward=np.array([step.reward for step in steps], np.float32),
        terminated=last if ended else nobody,
        truncated=nobody if ended else last,
        latents=result.latents,
    )  # fmt: skip
