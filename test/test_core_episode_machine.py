from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine, Handled
from irevla_ros.core.episode_state import (
    EpisodeState,
    Event,
    Judge,
    Judged,
    Phase,
    Request,
    ResetDone,
    Start,
    Verb,
    Verdict,
)
from irevla_ros.core.errors import ConfigError, IrevlaError
from irevla_ros.core.messages import MessageError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import Mode, Outcome, TerminationReason

S = 1_000_000_000
START = Start("press-red", "press the red button", Mode.TRAIN, 7)
ATTENDED = EpisodeConfig(participants=("robot", "policy"), confirm_required=True, engage_required=True)


class Bench:
    """A machine with two clocks that are told apart: the graph's stands at 5 s when wall time is 1000 s."""

    def __init__(self, config: EpisodeConfig = EpisodeConfig(), number: int = 0) -> None:
        self.now, self.wall = 5 * S, 1000 * S
        self.machine = EpisodeMachine(config, "run1", number, self.now, self.wall)

    def send(self, event: Event, *, now: float = 0, wall: float | None = None) -> Handled:
        self.now += int(now * S)
        self.wall += int((now if wall is None else wall) * S)
        return self.machine.handle(event, self.now, self.wall)

    def wait(self, now: float, wall: float | None = None) -> Handled:
        self.now += int(now * S)
        self.wall += int((now if wall is None else wall) * S)
        return self.machine.tick(self.now, self.wall)

    @property
    def state(self) -> EpisodeState:
        return self.machine.state

    def run(self) -> Bench:
        self.send(START)
        self.send(ResetDone("robot"))
        assert self.state.phase is Phase.RUN
        return self


def test_an_attended_episode_from_start_to_sealed() -> None:
    bench = Bench(ATTENDED, number=41)
    assert (bench.state.phase, bench.state.sequence, bench.state.episode_id) == (Phase.IDLE, 0, "")
    handled = bench.send(START)
    assert handled.changed
    assert (bench.state.phase, bench.state.episode_id, bench.state.seed) == (Phase.RESET, "run1-000041", 7)
    assert not bench.send(ResetDone("policy"), now=1).changed
    assert bench.send(ResetDone("robot"), now=1).changed
    assert bench.state.phase is Phase.READY
    bench.send(Request(Verb.ENGAGE))
    assert bench.state.phase is Phase.READY  # the operator has not confirmed the scene
    bench.send(Request(Verb.CONFIRM), now=1)
    assert (bench.state.phase, bench.state.started_ns) == (Phase.RUN, 8 * S)
    bench.send(Verdict(True, Judge.REWARD, 9 * S), now=2)
    state = bench.state
    assert (state.phase, state.outcome, state.termination_reason) == (Phase.END, Outcome.SUCCESS, TerminationReason.SUCCESS)
    assert (state.terminated, state.truncated, state.ended_ns, state.judge) == (True, False, 9 * S, Judge.REWARD)
    bench.send(Request(Verb.SEALED))
    assert (bench.state.phase, bench.state.episode_id) == (Phase.IDLE, "run1-000041")
    assert [bench.send(START).state.episode_id, bench.state.outcome] == ["run1-000042", Outcome.UNKNOWN]
    assert bench.machine.ignored == 0


def test_the_time_limit_truncates_and_is_in_the_graphs_clock() -> None:
    bench = Bench().run()
    assert not bench.wait(now=19.9, wall=100).changed
    bench.send(Judged(25 * S), now=0.1)
    state = bench.state
    assert (state.termination_reason, state.outcome) == (TerminationReason.TIME_LIMIT, Outcome.FAILURE)
    assert (state.phase, state.terminated, state.truncated) == (Phase.END, False, True)
    assert (state.ended_ns, state.judge) == (25 * S, None)


def test_the_time_limit_waits_a_moment_for_the_reward() -> None:
    bench = Bench().run()
    assert not bench.wait(now=21, wall=0.1).changed
    assert not bench.wait(now=0.1).changed
    assert bench.wait(now=0.1).changed  # 0.2 s of wall time have passed
    assert bench.state.ended_ns == 25 * S

    seen_in_time = Bench().run()
    seen_in_time.wait(now=20.05, wall=0.05)
    seen_in_time.send(Verdict(True, Judge.REWARD, 25 * S))
    assert (seen_in_time.state.outcome, seen_in_time.state.terminated) == (Outcome.SUCCESS, True)

    too_late = Bench().run()
    too_late.wait(now=20.05, wall=0.05)
    assert "after the time limit" in too_late.send(Verdict(True, Judge.REWARD, 25 * S + 1)).ignored
    assert too_late.state.phase is Phase.RUN


def test_a_look_at_an_earlier_observation_does_not_end_the_waiting() -> None:
    bench = Bench().run()
    for _ in range(2):  # nor does what was left of an episode before
        bench.wait(now=20.05, wall=0.05)
        assert not bench.send(Judged(bench.now - S)).changed
        assert bench.wait(now=0, wall=0.2).changed
        assert bench.state.termination_reason is TerminationReason.TIME_LIMIT
        bench.send(Request(Verb.SEALED))
        bench.run()


def test_what_the_reward_saw_before_the_limit_counts_when_told_after_it() -> None:
    bench = Bench().run()
    bench.wait(now=21, wall=0)
    bench.wait(now=0, wall=1)
    assert bench.state.termination_reason is TerminationReason.TIME_LIMIT
    bench.send(Verdict(True, Judge.REWARD, 24 * S, "run1-000000", sequence=3))
    state = bench.state
    assert (state.outcome, state.termination_reason, state.terminated, state.ended_ns) == (
        Outcome.SUCCESS, TerminationReason.SUCCESS, True, 24 * S,
    )  # fmt: skip


def test_stopped_cleanly_and_succeeded_are_different_facts() -> None:
    bench = Bench().run()
    bench.send(Request(Verb.STOP, why="hand in view"), now=3)
    state = bench.state
    assert (state.termination_reason, state.outcome) == (TerminationReason.STOPPED, Outcome.UNKNOWN)
    assert (state.truncated, state.detail) == (True, "hand in view")
    bench.send(Verdict(True, Judge.REWARD, 7 * S))
    assert (bench.state.termination_reason, bench.state.outcome) == (TerminationReason.STOPPED, Outcome.SUCCESS)
    assert bench.state.ended_ns == 8 * S


def test_a_fault_of_the_robot_ends_the_run_and_is_named() -> None:
    bench = Bench().run()
    bench.send(Request(Verb.FAULT, why="reflex (cartesian_reflex)"), now=3)
    state = bench.state
    assert (state.termination_reason, state.outcome) == (TerminationReason.FAULT, Outcome.UNKNOWN)
    assert (state.truncated, state.terminated, state.discarded) == (True, False, False)
    assert state.detail == "reflex (cartesian_reflex)"


def test_the_operators_verdict_is_final() -> None:
    bench = Bench().run()
    bench.send(Verdict(True, Judge.REWARD, 6 * S), now=1)
    assert "a second verdict of the reward" in bench.send(Verdict(False, Judge.REWARD, 6 * S)).ignored
    bench.send(Verdict(False, Judge.OPERATOR, 0))
    assert (bench.state.outcome, bench.state.judge) == (Outcome.FAILURE, Judge.OPERATOR)
    assert bench.state.termination_reason is TerminationReason.SUCCESS  # why it ended stays why it ended
    bench.send(Verdict(True, Judge.REWARD, 6 * S))
    assert bench.state.outcome is Outcome.FAILURE
    bench.send(Verdict(True, Judge.OPERATOR, 0))
    assert bench.state.outcome is Outcome.SUCCESS


def test_the_operator_ends_a_run_now() -> None:
    bench = Bench().run()
    bench.send(Verdict(False, Judge.OPERATOR, stamp_ns=0), now=2)
    assert (bench.state.ended_ns, bench.state.outcome, bench.state.terminated) == (7 * S, Outcome.FAILURE, True)


@pytest.mark.parametrize("phase", [Phase.RESET, Phase.READY, Phase.RUN, Phase.END])
def test_every_phase_but_idle_ends_by_itself_though_the_graphs_clock_stands_still(phase: Phase) -> None:
    config = EpisodeConfig(confirm_required=phase is Phase.READY)
    bench = Bench(config)
    bench.send(START)
    if phase is not Phase.RESET:
        bench.send(ResetDone("robot"))
    if phase is Phase.END:
        bench.send(Request(Verb.STOP))
    assert bench.state.phase is phase
    limit = {Phase.RESET: 60, Phase.READY: 300, Phase.RUN: 600, Phase.END: 30}[phase]
    assert not bench.wait(now=0, wall=limit - 0.001).changed
    assert bench.wait(now=0, wall=0.001).changed
    detail = {Phase.RESET: "reset not done in time, still waiting for robot",
              Phase.READY: "nobody confirmed and engaged in time",
              Phase.RUN: "the run's wall-clock limit passed",
              Phase.END: "stopped; nobody reported it sealed in time"}  # fmt: skip
    assert bench.state.detail == detail[phase]
    assert bench.state.phase is (Phase.IDLE if phase is Phase.END else Phase.END)
    assert bench.state.termination_reason is TerminationReason.STOPPED
    assert bench.state.outcome is Outcome.UNKNOWN
    bench.wait(now=0, wall=30)
    assert bench.state.phase is Phase.IDLE


def test_a_failed_reset_ends_the_episode_and_says_why() -> None:
    bench = Bench(ATTENDED)
    bench.send(START)
    bench.send(ResetDone("policy", failure="head 12 has another hash"))
    assert bench.state.phase is Phase.END
    assert bench.state.detail == "policy could not reset: head 12 has another hash"
    assert bench.state.started_ns is None


def test_what_comes_late_twice_or_out_of_turn_is_ignored_and_counted() -> None:
    bench = Bench(ATTENDED)
    cases: list[tuple[Event, str]] = [
        (Verdict(True, Judge.REWARD, 0), "a verdict in idle of an episode that does not run"),
        (Request(Verb.STOP), "stop in idle"),
        (START, ""),
        (START, "start while episode 'run1-000000' is in reset"),
        (ResetDone("robot", sequence=0), "it answers state 0, out of date since 1"),
        (ResetDone("robot", episode_id="run0-000007"), "it is about episode 'run0-000007', now is 'run1-000000'"),
        (ResetDone("camera"), "reset done by 'camera', waiting for ['policy', 'robot']"),
        (ResetDone("robot", episode_id="run1-000000", sequence=1), ""),
        (ResetDone("robot"), "reset done by 'robot', waiting for ['policy']"),
        (Request(Verb.ENGAGE), "engage in reset"),
        (ResetDone("policy"), ""),
        (Request(Verb.ENGAGE), ""),
        (Request(Verb.ENGAGE), "engage in ready"),
        (ResetDone("policy"), "reset done in ready"),
        (Judged(0), "judged in ready"),
        (Request(Verb.CONFIRM), ""),
        (Verdict(True, Judge.REWARD, 5 * S - 1), "a verdict on stamp 4999999999, before the run began at 5000000000"),
        (Request(Verb.SEALED), "sealed in run"),
        (Request(Verb.DISCARD), ""),
        (Request(Verb.DISCARD), "discard in end"),
        (Verdict(True, Judge.REWARD, 5 * S + 1), "a verdict on stamp 5000000001, after the end at 5000000000"),
        (Request(Verb.SEALED, sequence=3), "it answers state 3, out of date since 4"),
        (Request(Verb.SEALED), ""),
    ]
    for event, ignored in cases:
        before = bench.state
        assert bench.send(event).ignored == ignored, event
        if ignored:
            assert bench.state is before
    assert bench.machine.ignored == sum(bool(ignored) for _, ignored in cases)
    assert bench.state.discarded


def test_an_operators_key_meant_for_the_last_episode_does_not_end_this_one() -> None:
    bench = Bench().run()
    seen = bench.state.sequence
    bench.send(Request(Verb.STOP))
    bench.send(Request(Verb.SEALED))
    bench.run()
    assert "out of date" in bench.send(Verdict(True, Judge.OPERATOR, 0, sequence=seen)).ignored
    assert bench.state.phase is Phase.RUN


def test_a_deadline_that_has_passed_comes_before_the_event() -> None:
    bench = Bench()
    bench.send(START)
    handled = bench.send(ResetDone("robot"), now=0, wall=61)
    assert handled.ignored == "reset done in end"
    assert handled.changed


def test_without_participants_and_requirements_a_start_runs_at_once() -> None:
    bench = Bench(EpisodeConfig(participants=()))
    bench.send(Start("t", "i", Mode.EVAL, 1, time_limit_ns=2 * S, operator="ann"))
    assert (bench.state.phase, bench.state.time_limit_ns, bench.state.sequence) == (Phase.RUN, 2 * S, 3)
    meta = bench.state.meta(ActionSpec(), 10.0, {"irevla_ros": "1"})
    assert (meta.episode_id, meta.task, meta.mode, meta.operator, meta.action_names) == (
        "run1-000000", "t", Mode.EVAL, "ann", ActionSpec().names,
    )  # fmt: skip


def test_bad_configurations() -> None:
    with pytest.raises(ConfigError, match="every wait ends: durations are positive"):
        EpisodeConfig(ready_ns=0)
    with pytest.raises(ConfigError, match="each is named once"):
        EpisodeConfig(participants=("robot", "robot"))
    with pytest.raises(IrevlaError, match="an id names files"):
        EpisodeMachine(EpisodeConfig(), "run 1/2", 0, 0, 0)


events = st.one_of(
    st.just(START),
    st.builds(ResetDone, st.sampled_from(["robot", "policy", "x"]), st.sampled_from(["", "broken"])),
    st.builds(Verdict, st.booleans(), st.sampled_from(Judge), st.integers(-S, 60 * S), sequence=st.none() | st.integers(0, 9)),
    st.builds(Judged, st.integers(0, 60 * S)),
    st.builds(Request, st.sampled_from(Verb), episode_id=st.sampled_from(["", "run1-000000", "run1-000001"])),
)
waits = st.tuples(st.integers(-5 * S, 30 * S), st.integers(0, 100 * S))  # the graph's clock may jump back
FOLLOWS = {
    Phase.IDLE: {Phase.RESET, Phase.READY, Phase.RUN},  # one event may pass several phases
    Phase.RESET: {Phase.READY, Phase.RUN, Phase.END},
    Phase.READY: {Phase.RUN, Phase.END},
    Phase.RUN: {Phase.END},
    Phase.END: {Phase.IDLE},
}


@settings(max_examples=300)
@given(
    st.lists(st.tuples(waits, st.none() | events), max_size=40),
    st.booleans(),
    st.sampled_from([(), ("robot",), ("robot", "policy")]),
)
def test_whatever_happens(script: list[tuple[Any, Any]], attended: bool, participants: tuple[str, ...]) -> None:
    config = EpisodeConfig(participants, confirm_required=attended, engage_required=attended)
    bench = Bench(config)
    ids = [bench.state.episode_id]
    final: Outcome | None = None
    for (now, wall), event in script:
        before = bench.state
        bench.wait(now / S, wall / S)
        ticked = bench.state
        assert ticked.phase in {before.phase} | FOLLOWS[before.phase]
        handled = bench.send(event) if event is not None else None
        after = bench.state
        assert after.phase in {ticked.phase} | FOLLOWS[ticked.phase]
        assert after.sequence >= ticked.sequence >= before.sequence
        assert (after.sequence > ticked.sequence) == (after != ticked)
        assert EpisodeState.from_json(after.to_json()) == after
        assert not (after.terminated and after.truncated)
        if after.episode_id != ids[-1]:
            assert after.episode_id not in ids
            ids.append(after.episode_id)
            final = None
        if isinstance(event, Verdict) and event.judge is Judge.OPERATOR and handled is not None and not handled.ignored:
            final = Outcome.SUCCESS if event.success else Outcome.FAILURE
        if final is not None:
            assert after.outcome is final
    # However it stands now, the wall clock alone brings it to rest.
    for limit in (60, 300, 600, 30):
        bench.wait(0, limit)
        bench.wait(0, 30)
    assert bench.state.phase is Phase.IDLE


@given(events)
def test_events_survive_json(event: Any) -> None:
    assert type(event).from_json(event.to_json()) == event


def test_a_late_copy_does_not_supersede() -> None:
    bench = Bench()
    old = bench.state
    bench.send(START)
    assert bench.state.supersedes(old)
    assert bench.state.supersedes(None)
    assert not old.supersedes(bench.state)
    assert not old.supersedes(old)
    restarted = EpisodeMachine(EpisodeConfig(), "run2", 0, 0, 0).state
    assert restarted.supersedes(bench.state)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"terminated": False}, "success and failure terminate, other reasons truncate"),
        ({"truncated": True}, "success and failure terminate, other reasons truncate"),
        ({"termination_reason": None, "terminated": False}, "an episode has a reason when it has ended"),
        ({"phase": "run"}, "an episode has a reason when it has ended"),
        ({"episode_id": "../etc"}, "an id names files"),
        ({"episode_id": ""}, "an id names files"),
        ({"sequence": -1}, "neither is negative"),
        ({"phase": "paused"}, "one of 'idle', 'reset', 'ready', 'run', 'end' is required"),
        ({"format": 2}, "this release reads 1"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(values: dict[str, Any], message: str) -> None:
    bench = Bench().run()
    bench.send(Verdict(True, Judge.REWARD, 6 * S))
    tree = json.loads(bench.state.to_json()) | values
    with pytest.raises(MessageError, match=message):
        EpisodeState.from_json(json.dumps(tree))


def test_a_start_needs_a_task_in_words() -> None:
    with pytest.raises(MessageError, match="name the task and say it in words"):
        Start("press-red", "", Mode.TRAIN, 0)
    with pytest.raises(MessageError, match="it is not negative"):
        Start("press-red", "press", Mode.TRAIN, 0, time_limit_ns=-1)
