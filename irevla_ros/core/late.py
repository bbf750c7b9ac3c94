"""What becomes known of an episode after it was sealed: a verdict or a discard that came late is a label, not a change."""

from __future__ import annotations

from dataclasses import dataclass, replace

from irevla_ros.core.episode_state import EpisodeState
from irevla_ros.core.rows import Assembled
from irevla_ros.core.types import Outcome


@dataclass(frozen=True)
class LateLabel:
    """outcome: None keeps that of before; discard: whether the episode is not to be learned from."""

    outcome: Outcome | None
    who: str
    discard: bool


@dataclass(frozen=True)
class Told:
    """What was known of an episode when it was closed.

    sound: whether it was sealed to its end, so that a verdict says something about what is in it.
    """

    episode_id: str
    outcome: Outcome
    discarded: bool
    sound: bool

    @classmethod
    def of(cls, state: EpisodeState, result: Assembled | None = None, broken: str = "") -> Told:
        """``result``: of the join, None for an episode that was not recorded; ``broken``: why the disk did not take it all."""
        sound = result is not None and result.steps > 0 and not (result.refusal or result.discarded or broken)
        return cls(state.episode_id, state.outcome, state.discarded, sound)

    def revised(self, state: EpisodeState) -> tuple[Told, LateLabel | None]:
        """What a later state of the same episode adds to it; None for nothing."""
        outcome = state.outcome if self.sound and state.outcome is not self.outcome else None
        if outcome is None and state.discarded == self.discarded:
            return self, None
        who = state.operator or (state.judge.value if state.judge is not None else "operator")
        later = replace(self, outcome=state.outcome, discarded=state.discarded)
        return later, LateLabel(outcome, who, state.discarded)

    def judged(self, outcome: Outcome, who: str) -> tuple[Told, LateLabel | None]:
        """What a verdict adds that came when the episode node had gone on, so that no state tells of it."""
        if not self.sound or outcome is self.outcome:
            return self, None
        return replace(self, outcome=outcome), LateLabel(outcome, who, self.discarded)
