"""From detections to the one verdict of an episode: the reward node's logic, sole owner of success."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irevla_ros.core.episode_state import EpisodeState, Judge, Judged, Phase, Verdict
from irevla_ros.core.errors import IrevlaError
from irevla_ros.core.types import Observation
from irevla_ros.rewards.detector import Detection, RewardDetector


class NoEpisode(IrevlaError):
    """There is no episode that the operator's verdict could be about."""


@dataclass(frozen=True)
class Judgement:
    """What one observation led to: the detection, and what to tell the episode node: a verdict, or that there is none."""

    stamp_ns: int
    detection: Detection
    message: Verdict | Judged


class VerdictGate:
    """Follows ``episode/state``; judges each observation of a run once, in order; gives at most one verdict an episode.

    ``counts``: observations not judged (``late`` or repeated stamps, ``outside`` of a run, ``decided``).
    """

    def __init__(self, detector: RewardDetector) -> None:
        self._detector = detector
        self._state: EpisodeState | None = None
        self._ran: EpisodeState | None = None  # the newest state of the last episode that has begun to run
        self._judged_ns = -1
        self._decided = False
        self.counts: Counter[str] = Counter()

    def follow(self, state: EpisodeState) -> None:
        """Take a new episode state; a late copy of an old one changes nothing."""
        if not state.supersedes(self._state):
            return
        was = self._state
        self._state = state
        if state.started_ns is not None:
            self._ran = state
        elif was is not None and was.run_id != state.run_id:
            self._ran = None
        if state.phase is Phase.RUN and (was is None or was.phase is not Phase.RUN or was.episode_id != state.episode_id):
            self._judged_ns, self._decided = -1, False
            self._detector.reset(state.task)

    @property
    def running(self) -> bool:
        return self._state is not None and self._state.phase is Phase.RUN

    def observe(self, stamp_ns: int, observation: Observation, info: Mapping[str, Any]) -> Judgement | None:
        """Judge the observation of ``stamp_ns``; None when it is not to be judged (counted)."""
        state = self._state
        if state is None or state.phase is not Phase.RUN or stamp_ns < (state.started_ns or 0):
            self.counts["outside"] += 1
            return None
        if stamp_ns <= self._judged_ns:
            self.counts["late"] += 1
            return None
        if self._decided:
            self.counts["decided"] += 1
            return None
        self._judged_ns = stamp_ns
        detection = self._detector.observe(observation, info)
        verdict = detection.sure
        if verdict is None:
            return Judgement(stamp_ns, detection, Judged(stamp_ns, state.episode_id, state.sequence))
        self._decided = True
        return Judgement(stamp_ns, detection, Verdict(verdict, Judge.REWARD, stamp_ns, state.episode_id, state.sequence))

    def operator(self, success: bool, now_ns: int) -> Verdict:
        """The operator's verdict on the running episode, or else on the last one that ran, also when it is sealed (then it
        becomes a label): final, whatever the detector said. Raises NoEpisode."""
        state, ran = self._state, self._ran
        problem = ""
        if state is None or ran is None:
            problem = "no episode has run yet"
        elif state.phase in (Phase.END, Phase.IDLE) and state.episode_id not in ("", ran.episode_id):
            problem = f"episode {state.episode_id} ended before it ran"
        elif ran.discarded:
            problem = f"episode {ran.episode_id} was discarded"
        if problem or ran is None:
            self.counts["outside"] += 1
            raise NoEpisode("verdict of the operator", problem, "give it during an episode or right after")
        self._decided = self._decided or self.running
        return Verdict(success, Judge.OPERATOR, now_ns, ran.episode_id)
