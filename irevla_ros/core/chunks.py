"""Action chunks: what a policy wants for the next H control steps, and which of these actions is due."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np

from irevla_ros.core.durations import MILLISECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.messages import MAX_INT, MessageError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import FloatArray

_JOINT = re.compile(r"joint|finger|panda|fr3|fer_", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """stamp_ns: of the observation that it answers; names: of the A dimensions; actions: float32 [H, A], normalised, raw
    (a stochastic policy exceeds +-1 at times); period_ns: from one action to the next; head_version: -1 for none;
    log_prob: of the whole chunk, None where the policy is deterministic.

    Raises MessageError unless it is well formed: finite numbers, 1 <= H, A distinct names of which none is that of a
    robot's joint (a joint controller that listens to the wrong topic must not be able to take it).
    """

    stamp_ns: int
    names: tuple[str, ...]
    actions: FloatArray
    period_ns: int
    head_version: int = -1
    log_prob: float | None = None

    def __post_init__(self) -> None:
        try:
            actions = np.array(self.actions, np.float32)  # a copy: nobody changes it under the arbiter
        except (TypeError, ValueError):
            raise self._wrong("its actions are no rectangle of numbers", "give float32 [H, A]") from None
        if actions.ndim != 2 or not len(actions) or actions.shape[1] != len(self.names):
            found = f"its actions have shape {list(actions.shape)} for {len(self.names)} names"
            raise self._wrong(found, "give [H, A] with H >= 1")
        if not np.isfinite(actions).all():
            raise self._wrong(f"{int((~np.isfinite(actions)).sum())} of its numbers are not finite", "check the policy")
        if len(set(self.names)) != len(self.names):
            raise self._wrong(f"names {self.names}", "give each dimension a name of its own")
        joints = [name for name in self.names if _JOINT.search(name)]
        if joints:
            raise self._wrong(f"name {joints[0]!r} is that of a robot's joint", "name dimensions dx, dy, ..., gripper")
        if not 0 <= self.stamp_ns <= MAX_INT or not 0 < self.period_ns <= MAX_INT:
            raise self._wrong(f"stamp {self.stamp_ns} and period {self.period_ns} ns", "stamp it as its observation")
        if self.log_prob is not None and not np.isfinite(self.log_prob):
            raise self._wrong(f"log-probability {self.log_prob}", "send None where there is none")
        actions.setflags(write=False)
        object.__setattr__(self, "actions", actions)

    def __len__(self) -> int:
        """Number of actions H."""
        return len(self.actions)

    def require(self, spec: ActionSpec, period_ns: int, longest: int) -> None:
        """Raises MessageError unless the chunk is made for this arm: names and order, control period (to 1 %), length."""
        if self.names != spec.names:
            raise self._wrong(f"names {self.names}", f"this arm takes {spec.names} in that order")
        if abs(self.period_ns - period_ns) * 100 > period_ns:
            raise self._wrong(f"period {self.period_ns} ns", f"this arm is controlled every {period_ns} ns")
        if len(self) > longest:
            raise self._wrong(f"{len(self)} actions", f"send at most {longest}")

    def _wrong(self, value: str, remedy: str) -> MessageError:
        return MessageError(f"action chunk of stamp {self.stamp_ns}: {value}", "it is refused as a whole", remedy)


class Gap(str, Enum):
    """Why no action is due."""

    NONE = "no chunk"
    WAITING = "the next action is not due yet"
    EXHAUSTED = "the chunk is used up"
    STALE = "its observation is too old"
    AHEAD = "its observation lies ahead of the clock"


@dataclass(frozen=True, eq=False)
class Due:
    """The action that is due, float32 [A] normalised: number ``index`` of ``chunk``."""

    chunk: ActionChunk
    index: int

    @property
    def action(self) -> FloatArray:
        action: FloatArray = self.chunk.actions[self.index]
        return action


class ChunkBuffer:
    """The newest chunk, played one action a period from the first time that it is asked for; each is given once.

    max_age_ns: of the chunk's observation at every action; ahead_ns: how far a stamp may lie ahead of this clock (two
    hosts, or a simulated clock whose message comes after the chunk). ``counts``: chunks refused as ``late`` or
    ``ahead``, ``dropped`` actions (of a chunk replaced or dropped), ``skipped`` ones (their time passed).
    """

    def __init__(self, max_age_ns: int, ahead_ns: int = 50 * MILLISECOND) -> None:
        if max_age_ns <= 0 or ahead_ns < 0:
            raise ConfigError(f"chunk age limit {max_age_ns} ns, ahead {ahead_ns} ns", "positive and not negative",
                              "give the latency of the policy plus the length of a chunk")  # fmt: skip
        self._max_age_ns, self._ahead_ns = max_age_ns, ahead_ns
        self._chunk: ActionChunk | None = None
        self._start_ns: int | None = None  # when its first action was taken
        self._next = 0
        self._newest_ns = -1
        self.counts: Counter[str] = Counter()

    @property
    def chunk(self) -> ActionChunk | None:
        return self._chunk

    def put(self, chunk: ActionChunk, now_ns: int) -> bool:
        """Replace what is left of the present chunk. False, and nothing changes, unless its observation is newer than that
        of every chunk before and not ahead of the clock ``now_ns``."""
        if chunk.stamp_ns <= self._newest_ns:
            self.counts["late"] += 1
            return False
        if chunk.stamp_ns > now_ns + self._ahead_ns:
            self.counts["ahead"] += 1
            return False
        self.drop()
        self._chunk, self._newest_ns = chunk, chunk.stamp_ns
        return True

    def take(self, now_ns: int) -> Due | Gap:
        """The action due at ``now_ns``, or why there is none."""
        chunk = self._chunk
        if chunk is None:
            return Gap.NONE
        age = now_ns - chunk.stamp_ns
        if age < -self._ahead_ns:
            return Gap.AHEAD
        if age > self._max_age_ns:
            return Gap.STALE
        start = now_ns if self._start_ns is None else self._start_ns
        # To the nearest period: a timer that fires a little early or late still gets the next action.
        index = (now_ns - start + chunk.period_ns // 2) // chunk.period_ns
        if index >= len(chunk):
            return Gap.EXHAUSTED
        if index < self._next:
            return Gap.EXHAUSTED if self._next == len(chunk) else Gap.WAITING
        self.counts["skipped"] += index - self._next
        self._start_ns, self._next = start, index + 1
        return Due(chunk, index)

    def drop(self) -> None:
        """Forget what is left of the chunk; older ones stay refused."""
        if self._chunk is not None:
            self.counts["dropped"] += len(self._chunk) - self._next
        self._chunk, self._start_ns, self._next = None, None, 0

    def clear(self) -> None:
        """As ``drop``, and the next chunk may have any stamp: for a new episode, or after a clock jumped."""
        self.drop()
        self._newest_ns = -1
