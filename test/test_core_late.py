"""What a late state of a sealed episode adds: a label where it says something new, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from irevla_ros.core.episode_state import EpisodeState, Judge, Phase
from irevla_ros.core.late import LateLabel, Told
from irevla_ros.core.rows import Assembled
from irevla_ros.core.types import Outcome, TerminationReason

FAILED = EpisodeState(7, Phase.END, "run1", "run1-000001", ended_ns=5, started_ns=1, outcome=Outcome.FAILURE, truncated=True,
                      termination_reason=TerminationReason.TIME_LIMIT)  # fmt: skip
WHOLE = Assembled(3, Outcome.FAILURE, TerminationReason.TIME_LIMIT)


def test_the_same_again_adds_nothing() -> None:
    told = Told.of(FAILED, WHOLE)
    assert told.revised(replace(FAILED, sequence=8, phase=Phase.IDLE)) == (told, None)


def test_a_verdict_and_a_discard_are_labels_once_each() -> None:
    success = replace(FAILED, sequence=8, outcome=Outcome.SUCCESS, judge=Judge.OPERATOR, operator="ada")
    told, late = Told.of(FAILED, WHOLE).revised(success)
    assert late == LateLabel(Outcome.SUCCESS, "ada", False)
    assert told.revised(success) == (told, None)
    told, late = told.revised(replace(success, discarded=True, operator=""))
    assert late == LateLabel(None, "operator", True)
    assert told.revised(replace(success, discarded=True))[1] is None


def test_a_verdict_says_nothing_about_a_record_that_broke_off_but_a_discard_does() -> None:
    success = replace(FAILED, sequence=8, outcome=Outcome.SUCCESS, judge=Judge.REWARD)
    for told in (Told.of(FAILED, replace(WHOLE, refusal="lost")), Told.of(FAILED, WHOLE, "disk full"), Told.of(FAILED)):
        assert told.revised(success)[1] is None
        assert told.revised(replace(success, discarded=True))[1] == LateLabel(None, "reward", True)
