"""Orders: whatever gets lost, comes twice or goes wrong, exactly the wanted episodes are there at the end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.episode_state import EpisodeState, Phase, Start
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import Sealed
from irevla_ros.core.types import Mode, Outcome, TerminationReason
from irevla_ros.jobs.orders import ABSENT, ACCEPTED, OrderBook, OrderConfig, Wanted

FAULTS = ("fine", "order lost", "twice", "stopped", "not sealed", "empty", "seal first", "seal lost", "only idle", "refused",
          "restart", "operator")  # fmt: skip


def wanted(count: int, versions: frozenset[int] | None = None) -> list[Wanted]:
    return [Wanted("push", "push it", Mode.TRAIN, 100 + index, False, 10**9, versions) for index in range(count)]


class FakeGraph:
    """Arms whose episode nodes say what a fault makes of it, and the spool that their recorders fill."""

    def __init__(self, arms: tuple[str, ...], faults: list[str]) -> None:
        self.faults = faults
        self.spool: dict[str, tuple[Start, Outcome]] = {}
        self.state = {arm: EpisodeState(0, Phase.IDLE, f"run-{arm}") for arm in arms}
        self.late: list[tuple[str, Start]] = []
        self.number = 0
        self.now = 0.0
        self.book = OrderBook(arms, self.examine)
        for arm, state in self.state.items():
            self.book.on_state(arm, state, 0.0)

    def examine(self, episode_id: str, one: Wanted) -> str:
        if episode_id not in self.spool:
            return ABSENT
        start, outcome = self.spool[episode_id]
        if (start.task, start.seed, start.mode) != (one.task, one.seed, one.mode):
            return "another"
        return "no outcome" if outcome is Outcome.UNKNOWN else ACCEPTED

    def say(self, arm: str, phase: Phase, heard: bool = True, **values: object) -> None:
        state = self.state[arm]
        ended = {Phase.END: {"termination_reason": TerminationReason.TIME_LIMIT, "truncated": True}}.get(phase, {})
        self.state[arm] = replace(state, sequence=state.sequence + 1, phase=phase, **{**ended, **values})
        if heard:
            self.book.on_state(arm, self.state[arm], self.now)

    def episode(self, arm: str, start: Start, fault: str) -> None:
        if self.state[arm].phase is not Phase.IDLE or fault == "order lost":
            return
        if fault == "operator":
            start = replace(start, task="other", seed=0)
        self.number += 1
        name, run = f"e{self.number:04d}", self.state[arm].run_id
        self.state[arm] = EpisodeState(self.state[arm].sequence, Phase.IDLE, run)
        heard = fault != "only idle"
        self.say(arm, Phase.RESET, heard, episode_id=name, task=start.task, instruction=start.instruction, mode=start.mode,
                 seed=start.seed)  # fmt: skip
        self.say(arm, Phase.RUN, heard)
        if fault == "restart":  # of the episode node: it knows of no episode any more
            self.state[arm] = EpisodeState(self.state[arm].sequence, Phase.RUN, run, name)
            self.say(arm, Phase.IDLE, episode_id="")
            return
        outcome = Outcome.UNKNOWN if fault == "stopped" else Outcome.FAILURE
        if fault not in ("not sealed", "empty"):
            self.spool[name] = start, outcome
        steps = 0 if fault in ("empty", "not sealed") else 3
        sealed = Sealed(name, steps, outcome, TerminationReason.TIME_LIMIT, "the disk is full" if fault == "refused" else "")
        if fault == "refused":
            del self.spool[name]
        if fault == "seal first":
            self.book.on_sealed(arm, sealed, self.now)
        self.say(arm, Phase.END, heard)
        self.say(arm, Phase.IDLE)
        if fault not in ("seal lost", "not sealed", "seal first"):
            self.book.on_sealed(arm, sealed, self.now)
        if fault == "twice":
            self.late.append((arm, start))

    def run(self, limit_s: float) -> int:
        """Until complete; returns the number of orders."""
        sent = 0
        while not self.book.complete:
            assert self.now < limit_s, (self.book.problems(), self.book.accepted)
            self.now += 0.5
            late, self.late = self.late, []
            for arm, start in late:
                self.episode(arm, start, "fine")
            for arm, start in self.book.due(self.now):
                sent += 1
                self.episode(arm, start, self.faults.pop(0) if self.faults else "fine")
        return sent


@settings(max_examples=300)
@given(faults=st.lists(st.sampled_from(FAULTS), max_size=40), arms=st.integers(1, 3), count=st.integers(1, 9))
def test_exactly_the_wanted_episodes_are_there_at_the_end(faults: list[str], arms: int, count: int) -> None:
    graph = FakeGraph(("a", "b", "c")[:arms], list(faults))
    graph.book.want(wanted(count))
    graph.run(limit_s=100 + 60.0 * len(faults))
    found = graph.book.accepted
    assert sorted(found) == list(range(count)) and len(set(found.values())) == count
    for index, name in found.items():
        start, outcome = graph.spool[name]
        assert (start.seed, outcome) == (100 + index, Outcome.FAILURE)


def test_all_arms_work_at_once_and_none_is_asked_for_more_than_is_wanted() -> None:
    graph = FakeGraph(("a", "b", "c"), [])
    graph.book.want(wanted(5))
    first = graph.book.due(0.0)
    assert [(arm, start.seed) for arm, start in first] == [("a", 100), ("b", 101), ("c", 102)]
    assert graph.book.due(0.5) == []  # an order has a second to be taken
    assert [arm for arm, _ in graph.book.due(1.0)] == ["a", "b", "c"]
    for arm, start in first:
        graph.episode(arm, start, "fine")
    assert [(arm, start.seed) for arm, start in graph.book.due(1.5)] == [("a", 103), ("b", 104)]


def test_an_episode_that_a_dead_learner_ordered_counts_and_is_not_ordered_again() -> None:
    graph = FakeGraph(("a",), [])
    graph.book.want(wanted(1))  # the next learner hears of the episode when it is under way
    start = wanted(1)[0].start()
    graph.say("a", Phase.RUN, episode_id="e0001", task=start.task, mode=start.mode, seed=start.seed)
    graph.spool["e0001"] = start, Outcome.FAILURE
    graph.say("a", Phase.END)
    graph.say("a", Phase.IDLE)
    assert graph.book.due(0.5) == [] and graph.book.accepted == {0: "e0001"}


def test_an_arm_that_gives_nothing_is_asked_slower_and_slower_and_somebody_is_told() -> None:
    graph = FakeGraph(("a",), ["stopped"] * 21)
    graph.book.want(wanted(1))
    times = []
    while graph.faults:
        assert graph.now < 700
        graph.now += 0.25
        for arm, start in graph.book.due(graph.now):
            times.append(graph.now)
            graph.episode(arm, start, graph.faults.pop(0))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[:4] == [0.25, 0.25, 0.5, 1.0] and gaps[-1] == 30.0  # at once, then twice as long each time, at most 30 s
    assert graph.book.problems() == ["a: 21 episodes in a row without a result, the last: no outcome"]
    assert graph.book.rejected == 21 and not graph.book.complete
    graph.run(limit_s=800)
    assert graph.book.problems() == []


def test_an_order_that_nobody_takes_is_repeated_ever_slower() -> None:
    graph = FakeGraph(("a",), [])
    graph.book.want(wanted(1))
    times = [at / 2 for at in range(1400) if graph.book.due(at / 2)]
    assert times[:6] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0] and times[6] == 61.0
    assert graph.book.problems() == [f"a: an order was sent {len(times)} times and not taken"]


def test_what_a_silent_arm_has_is_given_to_another() -> None:
    graph = FakeGraph(("a", "b"), [])
    graph.book.want(wanted(1))
    ((arm, start),) = graph.book.due(0.0)
    graph.say(arm, Phase.RESET, episode_id="stuck", task=start.task, instruction=start.instruction, mode=start.mode,
              seed=start.seed)  # fmt: skip
    assert graph.book.due(899.0) == []
    assert [arm for arm, _ in graph.book.due(901.0)] == ["b"]


def test_what_runs_already_is_taken_for_the_order_after_a_restart() -> None:
    graph = FakeGraph(("a",), [])
    graph.say("a", Phase.RUN, episode_id="e9", task="push", instruction="push it", mode=Mode.TRAIN, seed=101)
    graph.book.want(wanted(2))
    assert graph.book.due(0.0) == []
    graph.spool["e9"] = graph.book.wanted[1].start(), Outcome.SUCCESS
    graph.say("a", Phase.END)
    graph.say("a", Phase.IDLE)
    assert graph.book.accepted == {1: "e9"}


def test_an_episode_that_is_discarded_before_it_is_used_is_ordered_again() -> None:
    graph = FakeGraph(("a",), [])
    graph.book.want(wanted(2))
    graph.run(limit_s=60)
    name = graph.book.accepted[0]
    graph.spool[name] = graph.spool[name][0], Outcome.UNKNOWN
    assert not graph.book.recheck()
    assert graph.run(limit_s=120) == 1 and graph.book.recheck() and graph.book.accepted[0] != name


def test_arms_that_were_never_heard_get_no_order() -> None:
    book = OrderBook(("a",), lambda *_: ACCEPTED)
    book.want(wanted(1))
    assert book.due(10.0) == [] and book.silent() == ["a"]
    with pytest.raises(ConfigError, match="durations are positive"):
        OrderConfig(repeat_s=0.0)
