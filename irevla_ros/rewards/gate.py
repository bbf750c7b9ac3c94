"""From detections to the one verdict of an episode: the reward node's logic, sole owner of success."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from irevla_ros.core.episode_state import EpisodeState, Judge, Judged, Phase, Verdict
from irevla_ros.core.types import Observation
from irevla_ros.rewards.detector import Detection, RewardDetector


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
        self._judged_ns = -1
        self._decided = False
        self.counts: Counter[str] = Counter()

    def follow(self, state: EpisodeState) -> None:
        """Take a new episode state; a late copy of an old one changes nothing."""
        if not state.supersedes(self._state):
            return
        was = self._state
        self._state = state
        if state.phase is Phase.RUN and (was is None or was.phase is not Phase.RUN or was.episode_id != state.episode_id):
            self._judged_ns, self._decided = -1, False
            self._detector.reset(state.task)

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

    def operator(self, success: bool, now_ns: int) -> Verdict | None:
        """The operator's verdict on the present or just ended episode: final, whatever the detector said. None when there
        is no such episode."""
        state = self._state
        if state is None or state.phase not in (Phase.RUN, Phase.END) or state.started_ns is None:
            self.counts["outside"] += 1
            return None
        self._decided = True
        return Verdict(success, Judge.OPERATOR, now_ns, state.episode_id)
