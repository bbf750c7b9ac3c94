from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import Judge, Judged, Phase, Request, Start, Verb, Verdict
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Mode, Observation, Outcome, TerminationReason
from irevla_ros.rewards.classifier import ClassifierReward
from irevla_ros.rewards.detector import Debounce, Detection, RewardDetector
from irevla_ros.rewards.gate import NoEpisode, VerdictGate
from irevla_ros.rewards.human import HumanReward
from irevla_ros.rewards.oracle import OracleReward
from irevla_ros.rewards.progress import ProgressReward

S = 1_000_000_000
SEEN = Observation({"front": np.zeros((8, 8, 3), np.uint8)}, np.zeros(6, np.float32), "press the red button")


class Script:
    """A detector that says what ``info`` says."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def reset(self, task: str) -> None:
        self.tasks.append(task)

    def observe(self, observation: Observation, info: Mapping[str, Any]) -> Detection:
        return info["detection"]


YES, NO, UNKNOWN, LOST = Detection(True), Detection(False), Detection(None), Detection(False, failure=True)


def seen(detector: RewardDetector, *detections: Detection) -> list[bool | None]:
    return [detector.observe(SEEN, {"detection": d}).sure for d in detections]


def test_success_and_failure_at_once_count_as_neither() -> None:
    assert [d.sure for d in (YES, NO, UNKNOWN, LOST, Detection(True, failure=True))] == [True, None, None, False, None]


def test_a_success_must_last_and_is_kept_through_a_flicker() -> None:
    detector = Debounce(Script(), hold=3, release=2)
    detector.reset("t")
    assert seen(detector, YES, YES, NO, YES, YES, YES) == [None] * 5 + [True]
    assert seen(detector, NO, YES, NO, NO) == [True, True, True, None]


def test_what_cannot_be_told_breaks_the_row() -> None:
    detector = Debounce(Script(), hold=2)
    assert seen(detector, YES, UNKNOWN, YES, YES) == [None, None, None, True]
    assert seen(detector, UNKNOWN, UNKNOWN, UNKNOWN) == [True] * 3


def test_failure_is_debounced_alike() -> None:
    detector = Debounce(Script(), hold=2)
    assert seen(detector, LOST, LOST) == [None, False]
    assert seen(detector, UNKNOWN, UNKNOWN, UNKNOWN) == [False] * 3
    detector.reset("t")
    assert seen(detector, YES, LOST, YES, LOST) == [None] * 4


def test_an_episode_starts_from_nothing() -> None:
    inner = Script()
    detector = Debounce(inner, hold=2)
    detector.reset("a")
    seen(detector, YES)
    detector.reset("b")
    assert seen(detector, YES) == [None]
    assert inner.tasks == ["a", "b"]
    with pytest.raises(ConfigError, match="both are at least 1"):
        Debounce(inner, hold=0)


@given(st.lists(st.sampled_from([YES, NO, UNKNOWN, LOST])), st.integers(1, 4))
def test_success_is_believed_only_after_so_many_in_a_row(detections: list[Detection], hold: int) -> None:
    detector = Debounce(Script(), hold=hold, release=10**9)
    first = next((i for i, sure in enumerate(seen(detector, *detections)) if sure is True), None)
    runs = [i for i in range(len(detections)) if i + 1 >= hold and all(d is YES for d in detections[i + 1 - hold : i + 1])]
    if first is not None:
        assert first == runs[0]


def test_the_oracle_believes_the_simulator_about_its_task_only() -> None:
    oracle = OracleReward()
    oracle.reset("press-red")
    state = {"task": "press-red", "success": True, "failure": False, "progress": 0.5}
    assert oracle.observe(SEEN, state) == Detection(True, False, 0.5)
    for wrong in ({**state, "task": "press-blue"}, {**state, "success": 1}, {"task": "press-red", "success": True}, {}):
        assert oracle.observe(SEEN, wrong) == Detection()
    assert oracle.unusable == 4
    assert oracle.observe(SEEN, {**state, "progress": math.nan}).progress is None


class Answers:
    """A classifier that says these one after the other."""

    def __init__(self, *probabilities: float) -> None:
        self._left, self.begun = iter(probabilities), 0

    def begin(self, task: str) -> None:
        self.begun += 1

    def __call__(self, observation: Observation, info: Mapping[str, Any]) -> float:
        return next(self._left)


def test_a_classifier_has_a_threshold_for_each_task() -> None:
    answers = Answers(0.79, 0.8, math.nan, 1.5, 0.9, 0.9)
    classifier = ClassifierReward(answers, {"t": 0.8, "strict": 0.95})
    classifier.reset("t")
    assert [classifier.observe(SEEN, {}).success for _ in range(5)] == [False, True, None, None, True]
    assert classifier.unusable == 2
    classifier.reset("strict")
    assert classifier.observe(SEEN, {}) == Detection(False, False, 0.9)
    classifier.reset("unknown")
    assert classifier.observe(SEEN, {}) == Detection() and (classifier.unusable, answers.begun) == (3, 3)


class Graph:
    """Episode machine and gate, wired as the nodes wire them."""

    def __init__(self, detector: RewardDetector | None = None) -> None:
        self.now, self.wall = 10 * S, 0
        self.machine = EpisodeMachine(EpisodeConfig(participants=()), "run1", 0, self.now, self.wall)
        self.gate = VerdictGate(detector or Debounce(Script(), hold=2))

    def start(self) -> Graph:
        self.machine.handle(Start("press-red", "press the red button", Mode.TRAIN, 0), self.now, self.wall)
        self.gate.follow(self.machine.state)
        return self

    def see(self, detection: Detection, stamp: int | None = None) -> Verdict | Judged | None:
        self.now += S // 10
        judgement = self.gate.observe(stamp or self.now, SEEN, {"detection": detection})
        if judgement is None:
            return None
        self.machine.handle(judgement.message, self.now, self.wall)
        self.gate.follow(self.machine.state)
        return judgement.message


def test_one_verdict_an_episode_on_the_observation_that_showed_it() -> None:
    graph = Graph().start()
    assert isinstance(graph.see(YES), Judged)
    verdict = graph.see(YES)
    assert isinstance(verdict, Verdict)
    assert (verdict.success, verdict.judge, verdict.stamp_ns, verdict.episode_id) == (
        True, Judge.REWARD, 10 * S + S // 5, "run1-000000",
    )  # fmt: skip
    state = graph.machine.state
    assert (state.outcome, state.ended_ns) == (Outcome.SUCCESS, verdict.stamp_ns)
    assert graph.see(YES) is None
    assert graph.gate.counts == {"outside": 1}


def test_a_repeated_or_late_observation_does_not_count_towards_the_debounce() -> None:
    graph = Graph().start()
    graph.see(YES)
    stamp = graph.now
    assert graph.see(YES, stamp) is None
    assert graph.see(YES, stamp - 1) is None
    assert graph.gate.counts == {"late": 2}
    assert isinstance(graph.see(YES), Verdict)


def test_nothing_is_judged_outside_of_a_run() -> None:
    graph = Graph()
    assert graph.see(YES) is None
    graph.start()
    assert graph.see(YES, stamp=graph.now - 1) is None  # seen before the run began
    assert graph.gate.counts == {"outside": 2}


def test_a_late_copy_of_a_state_does_not_restart_the_debounce() -> None:
    graph = Graph().start()
    old = graph.machine.state
    graph.see(YES)
    graph.gate.follow(old)
    graph.gate.follow(replace(old, sequence=0))
    assert isinstance(graph.see(YES), Verdict)


def test_a_late_copy_of_a_state_does_not_reopen_the_episode() -> None:
    graph = Graph().start()
    running = graph.machine.state
    graph.see(YES)
    graph.see(YES)
    graph.gate.follow(running)
    assert graph.see(LOST) is None


@pytest.mark.parametrize("end_is_seen", [True, False])
def test_the_next_episode_is_judged_from_nothing(end_is_seen: bool) -> None:
    inner = Script()
    graph = Graph(Debounce(inner, hold=2)).start()
    graph.see(YES)
    if end_is_seen:
        graph.see(YES)
        assert graph.machine.state.phase is Phase.END
    else:
        graph.machine.handle(Request(Verb.STOP), graph.now, graph.wall)
    graph.machine.handle(Request(Verb.SEALED), graph.now, graph.wall)
    if end_is_seen:
        graph.gate.follow(graph.machine.state)
    graph.now -= S // 20  # its first stamp is not later than the last one judged
    graph.start()
    assert inner.tasks == ["press-red"] * 2
    graph.now -= S // 10
    assert isinstance(graph.see(YES), Judged)
    assert isinstance(graph.see(YES), Verdict)


def test_the_operator_overrides_and_is_not_overridden() -> None:
    graph = Graph().start()
    verdict = graph.gate.operator(False, graph.now)
    assert verdict is not None
    assert graph.see(YES) is None
    assert graph.gate.counts == {"decided": 1}
    graph.machine.handle(verdict, graph.now, graph.wall)
    graph.gate.follow(graph.machine.state)
    assert graph.machine.state.outcome is Outcome.FAILURE
    later = graph.gate.operator(True, graph.now)  # changed their mind while it is being sealed
    assert later is not None
    graph.machine.handle(later, graph.now, graph.wall)
    assert graph.machine.state.outcome is Outcome.SUCCESS
    graph.machine.handle(Request(Verb.SEALED), graph.now, graph.wall)
    graph.gate.follow(graph.machine.state)
    assert graph.gate.operator(True, graph.now).episode_id == "run1-000000"  # sealed: the recorder makes it a label


def test_the_operator_judges_the_last_episode_that_ran_until_the_next_runs() -> None:
    graph = Graph()
    with pytest.raises(NoEpisode, match="no episode has run yet"):
        graph.gate.operator(True, graph.now)
    graph.start()
    graph.machine.handle(Request(Verb.STOP), graph.now, graph.wall)
    graph.machine.handle(Request(Verb.SEALED), graph.now, graph.wall)
    graph.machine.config = EpisodeConfig(participants=("robot",))
    graph.start()  # the next one waits for its reset
    assert graph.gate.operator(True, graph.now).episode_id == "run1-000000"
    graph.machine.handle(Request(Verb.STOP), graph.now, graph.wall)
    graph.gate.follow(graph.machine.state)
    with pytest.raises(NoEpisode, match="episode run1-000001 ended before it ran"):
        graph.gate.operator(True, graph.now)


def test_a_discarded_episode_takes_no_verdict() -> None:
    graph = Graph().start()
    graph.machine.handle(Request(Verb.DISCARD), graph.now, graph.wall)
    graph.gate.follow(graph.machine.state)
    with pytest.raises(NoEpisode, match="run1-000000 was discarded"):
        graph.gate.operator(True, graph.now)


def test_progress_is_paid_by_its_increase() -> None:
    shaping = ProgressReward(2.0)
    shaping.reset()
    paid = [shaping.earned(Detection(progress=p)) for p in (0.25, 0.5, None, 0.375, 0.375)]
    assert paid == [None, 0.5, None, -0.25, None]
    shaping.reset()
    assert shaping.earned(Detection(progress=1.0)) is None
    with pytest.raises(ConfigError, match="finite and not negative"):
        ProgressReward(float("nan"))


def test_the_time_limit_does_not_wait_longer_than_the_reward_needs() -> None:
    graph = Graph().start()
    for _ in range(199):
        graph.see(NO)
    assert graph.machine.state.phase is Phase.RUN
    graph.see(NO)  # the observation at the limit: judged, no success
    state = graph.machine.state
    assert (state.phase, state.termination_reason, state.outcome) == (Phase.END, TerminationReason.TIME_LIMIT, Outcome.FAILURE)
    assert graph.wall == 0


def test_without_a_detector_only_the_operator_decides() -> None:
    graph = Graph(HumanReward()).start()
    assert isinstance(graph.see(YES), Judged)
    assert graph.gate.operator(True, graph.now) is not None
