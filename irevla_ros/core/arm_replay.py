"""An episode's commands once more on an arm: as scripted motion through the arbiter, one action for each that was taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irevla_ros.core.arbiter_step import FAULTS, ArbiterStep, Hold
from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.rotation import Pose, yaw
from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.core.types import ControlSource, Episode, FloatArray

LEASH_M = 0.2  # how far commands may lead an arm: more, and they are no continuous motion of one target


@dataclass(frozen=True)
class ReplayLimits:
    """start_m, start_rad: from where the episode began, the arm may stand at most so far; lag_m: of the target behind the
    recorded one, which limits cause; stall_ns: without a step, whatever holds the arm."""

    start_m: float = 0.03
    start_rad: float = 0.15
    lag_m: float = 0.05
    stall_ns: int = SECOND

    def __post_init__(self) -> None:
        if min(self.start_m, self.start_rad, self.lag_m, self.stall_ns) <= 0:
            raise ConfigError(f"start_m, start_rad, lag_m, stall_s = {self.start_m}, {self.start_rad}, {self.lag_m}, "
                              f"{self.stall_ns / SECOND}", "all are positive", "give 0.03, 0.15, 0.05 and 1.0")  # fmt: skip


class ReplayPlan:
    """Where the target went, from where the arm stood: ``commanded`` summed up, so that a step that was cut is made up for by
    the next. Raises DataError for an episode that cannot be repeated so."""

    def __init__(self, episode: Episode, rate_hz: float, spec: ActionSpec = ActionSpec(), state: ProprioSpec = ProprioSpec()):
        name, meta = f"episode {episode.meta.episode_id!r}", episode.meta
        if meta.action_names != spec.names or meta.control_rate_hz != rate_hz or not len(episode):
            raise DataError(f"{name}: {len(episode)} steps of {meta.action_names} at {meta.control_rate_hz:g} Hz",
                            f"this arm takes {spec.names} at {rate_hz:g} Hz", "replay an episode of such an arm")  # fmt: skip
        raw = episode.proprio * np.asarray(state.scale) + np.asarray(state.centre)
        self.tips = raw[:, [state.names.index(axis) for axis in "xyz"]]  # [T + 1, 3] m
        self._yaw = float(np.arctan2(raw[0, state.names.index("sin_yaw")], raw[0, state.names.index("cos_yaw")]))
        moves = spec.to_physical(episode.commanded).astype(np.float64)
        self._spec = spec
        self._at = [spec.names.index(one) for one in ("dx", "dy", "dz")]
        self._turn, self._grip = spec.names.index("drz"), spec.names.index("gripper")
        self.goals = self.tips[0] + np.cumsum(moves[:, self._at], axis=0)  # [T, 3] m
        self._yaws = self._yaw + np.cumsum(moves[:, self._turn])
        self._grips = episode.commanded[:, self._grip]
        strayed = float(np.linalg.norm(self.goals - self.tips[1:], axis=1).max())
        if strayed > LEASH_M:
            raise DataError(f"{name}: its commands lead {100 * strayed:.0f} cm away from where the arm was",
                            f"on an arm they stay within {100 * LEASH_M:.0f} cm", "replay it in simulation")  # fmt: skip

    def __len__(self) -> int:
        return len(self.goals)

    def too_far(self, pose: Pose, limits: ReplayLimits) -> str:
        """Why an arm that stands at ``pose`` may not begin, "" when it may."""
        away, turned = float(np.linalg.norm(pose.p - self.tips[0])), abs(_wrapped(yaw(pose.q) - self._yaw))
        if away <= limits.start_m and turned <= limits.start_rad:
            return ""
        return (f"the arm stands {100 * away:.1f} cm and {turned:.2f} rad from where the episode began (at most "
                f"{100 * limits.start_m:g} cm and {limits.start_rad:g} rad)")  # fmt: skip

    def action(self, index: int, target: Pose) -> FloatArray:
        """Normalised float32 [A] of step ``index`` for an arbiter whose target stands at ``target``."""
        wanted = np.zeros(self._spec.size, np.float32)
        wanted[self._at] = self.goals[index] - target.p
        wanted[self._turn] = _wrapped(self._yaws[index] - yaw(target.q))
        action = self._spec.to_normalised(wanted)
        action[self._grip] = self._grips[index]
        return action


class ArmReplay:
    """One run of a plan. ``index``: steps taken; ``failure``: why it was given up, "" so far.

    The next action is given once the arbiter has taken the one before, so that nothing is left out and nothing done twice.
    """

    def __init__(self, plan: ReplayPlan, limits: ReplayLimits) -> None:
        self._plan, self._limits = plan, limits
        self.index, self.failure = 0, ""
        self._target: Pose | None = None
        self._sent: tuple[int, int] | None = None  # stamp, wall time of what was not taken yet
        self._hold: Hold | None = None

    @property
    def done(self) -> bool:
        return self.index == len(self._plan)

    def due(self, stamp_ns: int, wall_ns: int) -> FloatArray | None:
        """The action [A] that answers the observation of ``stamp_ns``; None when none is due."""
        if self._target is None or self._sent is not None or self.done or self.failure:
            return None
        self._sent = stamp_ns, wall_ns
        return self._plan.action(self.index, self._target)

    def told(self, step: ArbiterStep) -> None:
        """The arbiter's record of a tick in this run."""
        self._hold = step.hold
        if step.source is ControlSource.HUMAN:
            self._give_up("a human took the arm")
        elif step.hold in FAULTS:
            self._give_up(step.hold.value)
        elif step.hold is Hold.NO_CHUNK and self._target is None:
            self._target = step.target  # engaged, and nothing else is to move it
        elif step.acted and self._sent is not None and step.chunk_ns == self._sent[0] and step.target is not None:
            lag = float(np.linalg.norm(self._plan.goals[self.index] - step.target.p))
            self.index, self._target, self._sent = self.index + 1, step.target, None
            if lag > self._limits.lag_m:
                cut = f" by {', '.join(clip.value for clip in step.clips)}" if step.clips else ""
                self._give_up(f"the target is {100 * lag:.1f} cm behind the recorded one, cut{cut}")

    def look(self, wall_ns: int) -> None:
        """Once in a while: an arm that is held for long does not go on by itself when the hold ends."""
        if self._sent is not None and wall_ns - self._sent[1] > self._limits.stall_ns:
            self._give_up(f"no step in {self._limits.stall_ns / SECOND:g} s: {self._hold.value if self._hold else 'no answer'}")

    def _give_up(self, why: str) -> None:
        self.failure = self.failure or f"{why} after {self.index} of {len(self._plan)} steps"


def _wrapped(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
