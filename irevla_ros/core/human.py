"""The human's hand on the arm: a twist that counts only while the deadman is held."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import FloatArray

MOVES, TURNS = ("dx", "dy", "dz"), ("drx", "dry", "drz")


def within(limit_ns: int, ahead_ns: int, stamp_ns: int, now_ns: int, arrived_ns: int, wall_ns: int) -> bool:
    """Fresh by both clocks: stamped at most ``limit_ns`` ago (at most ``ahead_ns`` ahead) and arrived at most ``limit_ns``
    ago of wall time. A clock that jumps can make this false, never wrongly true: the other one has not jumped."""
    return -ahead_ns <= now_ns - stamp_ns <= limit_ns and 0 <= wall_ns - arrived_ns <= limit_ns


class HumanInput:
    """The newest twist and the state of the deadman.

    Errs towards the human: any message with the deadman held takes over, however old; only one that is newer than all
    before lets go, or steers. Silence is not letting go. ``counts``: ``rejected`` and ``late`` messages.
    """

    def __init__(self, spec: ActionSpec, period_ns: int, limit_ns: int, ahead_ns: int) -> None:
        self._spec, self._period_s = spec, period_ns * 1e-9
        self._limit_ns, self._ahead_ns = limit_ns, ahead_ns
        self.held = False
        self.gripper: float | None = None  # normalised; None leaves it as it is
        self._motion: FloatArray | None = None
        self._stamp_ns = self._arrived_ns = -1
        self.counts: Counter[str] = Counter()

    def push(
        self, deadman: bool, linear: npt.ArrayLike, angular: npt.ArrayLike, gripper: float | None, stamp_ns: int, wall_ns: int
    ) -> bool:
        """linear [3] m/s, angular [3] rad/s in the base frame; gripper -1 close to +1 open, None as it is.

        False when it was not taken as a command: malformed (a held deadman then holds the arm still), or late.
        """
        self.held = self.held or deadman
        if stamp_ns <= self._stamp_ns:
            self.counts["late"] += 1
            return False
        motion = self._normalised(linear, angular, gripper)
        self._motion = motion if deadman else None  # a twist without the deadman never counts
        if motion is None:
            self.counts["rejected"] += 1
            return False
        self.held, self.gripper = deadman, gripper
        self._stamp_ns, self._arrived_ns = stamp_ns, wall_ns
        return True

    def reject(self) -> None:
        """A message that could not even be read: the present command is void."""
        self.counts["rejected"] += 1
        self._motion = None

    @property
    def valid(self) -> bool:
        return self._motion is not None

    @property
    def motion(self) -> FloatArray:
        """What one control period of the twist asks for: normalised, unclipped, float32 [A]; the gripper's entry is 0."""
        assert self._motion is not None
        return self._motion

    def fresh(self, now_ns: int, wall_ns: int) -> bool:
        return within(self._limit_ns, self._ahead_ns, self._stamp_ns, now_ns, self._arrived_ns, wall_ns)

    def forget(self) -> None:
        """Let go, and take any stamp next."""
        self.held, self._motion, self._stamp_ns = False, None, -1

    def _normalised(self, linear: npt.ArrayLike, angular: npt.ArrayLike, gripper: float | None) -> FloatArray | None:
        try:
            twist = np.concatenate([np.asarray(linear, np.float64), np.asarray(angular, np.float64)])
            grip = 0.0 if gripper is None else float(gripper)
        except (TypeError, ValueError):
            return None
        if twist.shape != (6,) or np.size(linear) != 3 or not np.isfinite([*twist, grip]).all():
            return None
        physical = dict(zip(MOVES + TURNS, np.clip(twist, -1e6, 1e6) * self._period_s, strict=True))
        wanted = [physical.get(name, 0.0) / limit for name, limit in zip(self._spec.names, self._spec.limits, strict=True)]
        return np.asarray(wanted, np.float32)
