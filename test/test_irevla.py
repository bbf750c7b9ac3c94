"""Algorithm 1 as a state machine: the order of commands for each method, convergence, resuming at any event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import CheckpointError, ConfigError, IrevlaError
from irevla_ros.core.types import Mode
from irevla_ros.learn.irevla import (
    AddedToDRL,
    AddToDRL,
    CollectEpisodes,
    Command,
    EndTask,
    EpisodesCollected,
    Evaluate,
    EvaluationDone,
    Event,
    Finish,
    IRevla,
    RunSupervised,
    StartTask,
    State,
    SupervisedDone,
    TaskEnded,
    TaskStarted,
    UpdateDone,
    UpdateHead,
)  # fmt: skip
from irevla_ros.learn.plan import METHODS, Plan, plan

SMALL = {
    "episodes_per_update": 4, "window": 4, "max_episodes": 12, "threshold": 0.75, "demos": 3, "harvest": 0, "newest": 100,
    "rounds": 1, "evaluate_stages": True,
}  # fmt: skip


def answer(command: Command, succeeds: Callable[[int], bool]) -> Event:
    """What a driver reports; ``succeeds`` tells the outcome of an episode by its number."""
    if isinstance(command, RunSupervised):
        return SupervisedDone(command.save_as)
    if isinstance(command, Evaluate):
        return EvaluationDone(command.label)
    if isinstance(command, StartTask):
        return TaskStarted(command.task)
    if isinstance(command, CollectEpisodes):
        numbers = range(command.first, command.first + command.episodes)
        return EpisodesCollected(command.task, tuple(succeeds(number) for number in numbers))
    if isinstance(command, UpdateHead):
        return UpdateDone(command.head_version)
    if isinstance(command, EndTask):
        return TaskEnded(command.save_as)
    assert isinstance(command, AddToDRL)
    return AddedToDRL(command.task)


def run(machine: IRevla, succeeds: Callable[[int], bool] = lambda number: number >= 4) -> list[Command]:
    commands = [machine.next()]
    while not isinstance(commands[-1], Finish):
        machine.handle(answer(commands[-1], succeeds))
        commands.append(machine.next())
        assert len(commands) < 1000
    return commands


def commands_of(method: str, tasks: tuple[str, ...] = ("red",), **changes: object) -> list[Command]:
    return run(IRevla(State(plan(method, tasks, **{**SMALL, **changes}))))


def test_irevla_is_algorithm_1() -> None:
    assert commands_of("irevla", ("red", "blue"), evaluate_stages=False) == [
        RunSupervised(0, "", "", ("expert",), "all", 1000, "sft"),
        Evaluate("stage0", "sft"),
        StartTask("red", "sft", "ppo", "head", 1, 0),
        CollectEpisodes("red", 4, 0, Mode.TRAIN, False, 1),
        UpdateHead("red", "ppo", 2),
        CollectEpisodes("red", 4, 4, Mode.TRAIN, False, 2),
        EndTask("red", "1-red-stage1"),
        AddToDRL("red", 100),
        RunSupervised(2, "sft", "sft", ("expert", "rl"), "all", 400, "1-red-stage2"),
        StartTask("blue", "1-red-stage2", "ppo", "head", 3, 0),
        CollectEpisodes("blue", 4, 0, Mode.TRAIN, False, 3),
        UpdateHead("blue", "ppo", 4),
        CollectEpisodes("blue", 4, 4, Mode.TRAIN, False, 4),
        EndTask("blue", "2-blue-stage1"),
        AddToDRL("blue", 100),
        RunSupervised(2, "1-red-stage2", "1-red-stage2", ("expert", "rl"), "all", 400, "2-blue-stage2"),
        Evaluate("2-blue-stage2", "2-blue-stage2"),
        Finish("2-blue-stage2"),
    ]


def test_a_second_round_counts_the_episodes_on_and_starts_from_the_first() -> None:
    commands = commands_of("irevla", ("red", "blue"), rounds=2, harvest=2, evaluate_stages=False)
    starts = [command for command in commands if isinstance(command, StartTask)]
    assert [(start.task, start.init_from, start.first) for start in starts] == [
        ("red", "sft", 0), ("blue", "1-red-stage2", 0), ("red", "2-blue-stage2", 10), ("blue", "3-red-stage2", 10),
    ]  # fmt: skip
    numbers = [n for c in commands if isinstance(c, CollectEpisodes) and c.task == "red"
               for n in range(c.first, c.first + c.episodes)]  # fmt: skip
    assert numbers == list(range(len(numbers)))
    assert [c.label for c in commands if isinstance(c, Evaluate)] == ["stage0", "4-blue-stage2"]


def test_sft_only_trains_and_evaluates_and_the_control_goes_on_on_expert_data() -> None:
    assert commands_of("sft")[1:] == [Evaluate("stage0", "sft"), Finish("sft")]
    assert commands_of("sft-continued", ("red", "blue"), sft_checkpoint="mine") == [
        Evaluate("stage0", "mine"),
        RunSupervised(2, "mine", "mine", ("expert",), "all", 400, "1-red-stage2"),
        Evaluate("1-red-stage2", "1-red-stage2"),
        RunSupervised(2, "1-red-stage2", "1-red-stage2", ("expert",), "all", 400, "2-blue-stage2"),
        Evaluate("2-blue-stage2", "2-blue-stage2"),
        Finish("2-blue-stage2"),
    ]


def test_ppo_replay_keeps_the_head_of_stage_1_and_has_no_drl() -> None:
    commands = commands_of("ppo-replay")
    assert not any(isinstance(command, AddToDRL) for command in commands)
    assert RunSupervised(2, "sft", "1-red-stage1", ("expert",), "all", 400, "1-red-stage2") in commands


def test_whole_vla_ppo_has_no_stage_2_and_hands_its_weights_on() -> None:
    commands = commands_of("whole-vla-ppo", ("red", "blue"), evaluate_stages=False)
    assert [c for c in commands if isinstance(c, StartTask)] == [
        StartTask("red", "sft", "ppo", "all", 1, 0), StartTask("blue", "1-red-stage1", "ppo", "all", 3, 0)]  # fmt: skip
    assert not any(isinstance(c, (AddToDRL, RunSupervised)) for c in commands[1:])
    assert commands[-2:] == [Evaluate("2-blue-stage1", "2-blue-stage1"), Finish("2-blue-stage1")]


def test_frozen_vlm_trains_the_head_alone_in_stage_2() -> None:
    stage2 = [c for c in commands_of("frozen-vlm") if isinstance(c, RunSupervised) and c.stage == 2]
    assert [(c.trains, c.data) for c in stage2] == [("head", ("expert", "rl"))]


def test_sacfd_first_fills_the_demo_buffer_with_zero_shot_successes() -> None:
    commands = run(IRevla(State(plan("irevla-sacfd", ("red",), **SMALL))), lambda number: number % 2 == 0)
    collected = [(c.mode, c.first) for c in commands if isinstance(c, CollectEpisodes)]
    assert collected == [(Mode.DEMO, 0), (Mode.DEMO, 4), (Mode.TRAIN, 8)]  # 2 + 2 >= 3 successes; 12 episodes in all


def test_sacfd_keeps_half_of_its_budget_for_learning_from_few_successes() -> None:
    never = run(IRevla(State(plan("irevla-sacfd", ("red",), **{**SMALL, "max_episodes": 16}))), lambda number: False)
    collected = [(c.mode, c.first) for c in never if isinstance(c, CollectEpisodes) and not c.deterministic]
    assert collected == [(Mode.DEMO, 0), (Mode.DEMO, 4), (Mode.TRAIN, 8), (Mode.TRAIN, 12)]
    assert sum(isinstance(c, UpdateHead) for c in never) == 2


def test_stage_1_ends_by_the_running_rate_or_by_the_budget() -> None:
    def collected(succeeds: Callable[[int], bool], **changes: object) -> int:
        machine = IRevla(State(plan("irevla", ("red",), **{**SMALL, "max_episodes": 30, **changes})))
        return sum(c.episodes for c in run(machine, succeeds) if isinstance(c, CollectEpisodes))

    assert collected(lambda number: number >= 9) == 12  # the last four: 3 of 4
    assert collected(lambda number: number >= 10) == 16
    assert collected(lambda number: False) == 30  # 7 times 4, then 2
    assert collected(lambda number: True, window=10) == 12  # not before the window is full


def test_harvest_runs_the_final_head_without_noise_before_drl_is_filled() -> None:
    commands = commands_of("irevla", harvest=6)
    place = commands.index(AddToDRL("red", 100))
    assert commands[place - 1] == CollectEpisodes("red", 6, 8, Mode.TRAIN, True, 2)


def test_settings_choose_the_head_of_stage_2_and_what_the_robot_runs_between() -> None:
    for stage2_head, expected in (("pre_stage1", "sft"), ("stage1", "1-red-stage1")):
        stage2 = [c for c in commands_of("irevla", stage2_head=stage2_head) if isinstance(c, RunSupervised)][1]
        assert (stage2.init_from, stage2.head_from) == ("sft", expected)
    for between, expected in (("generalist", "sft"), ("specialist", "1-red-stage1")):
        machine = IRevla(State(plan("irevla", ("red",), between=between, **SMALL)))
        assert machine.deployed == ""
        while not (isinstance(command := machine.next(), RunSupervised) and command.stage == 2):
            machine.handle(answer(command, lambda number: True))
        assert machine.deployed == expected
        machine.handle(SupervisedDone("1-red-stage2"))
        assert machine.deployed == "1-red-stage2"


def test_head_versions_never_repeat() -> None:
    commands = commands_of("irevla", ("red", "blue"))
    versions = [c.head_version for c in commands if isinstance(c, (StartTask, UpdateHead))]
    assert versions == sorted(set(versions))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(METHODS)), st.integers(0, 2**32), st.integers(0, 40), st.booleans(), st.integers(0, 3))
def test_cut_at_any_event_and_restored_from_json_it_goes_on_the_same(
    method: str, outcomes: int, cut: int, evaluate: bool, harvest: int
) -> None:
    def succeeds(number: int) -> bool:
        return bool(outcomes >> (number % 32) & 1)

    settled = plan(method, ("red", "blue"), **{**SMALL, "evaluate_stages": evaluate, "harvest": harvest, "rounds": 2})
    whole = run(IRevla(State(settled)), succeeds)
    machine = IRevla(State(settled))
    for expected in whole[:-1][:cut]:
        assert machine.next() == expected
        machine.handle(answer(machine.next(), succeeds))
    restored = IRevla(State.from_json(machine.state.to_json()))
    assert restored.state == machine.state
    assert restored.deployed == machine.deployed
    assert run(restored, succeeds) == whole[min(cut, len(whole) - 1) :]


def test_an_event_that_answers_another_command_is_refused_and_changes_nothing() -> None:
    machine = IRevla(State(plan("irevla", ("red",), **SMALL)))
    with pytest.raises(IrevlaError, match=r"event EvaluationDone.*: it answers the command RunSupervised.*; report"):
        machine.handle(EvaluationDone("stage0"))
    with pytest.raises(IrevlaError, match="event SupervisedDone"):
        machine.handle(SupervisedDone("another"))
    machine.handle(SupervisedDone("sft"))
    machine.handle(EvaluationDone("stage0"))
    machine.handle(TaskStarted("red"))
    for successes in ((), (True,) * 5):
        with pytest.raises(IrevlaError, match="event EpisodesCollected"):
            machine.handle(EpisodesCollected("red", successes))
    assert len(machine.state.events) == 3
    machine.handle(EpisodesCollected("red", (True, False)))  # two were aborted: the next numbers go on from two
    machine.handle(UpdateDone(2))
    assert machine.next() == CollectEpisodes("red", 4, 2, Mode.TRAIN, False, 2)


def test_a_result_of_stage_2_that_is_not_adopted_leaves_the_generalist_as_it_was() -> None:
    machine = IRevla(State(plan("irevla", ("red", "blue"), **{**SMALL, "evaluate_stages": False})))
    commands = []
    while not isinstance(command := machine.next(), Finish):
        commands.append(command)
        refused = isinstance(command, RunSupervised) and command.save_as == "1-red-stage2"
        machine.handle(SupervisedDone("1-red-stage2", adopted=False) if refused else answer(command, lambda n: n >= 4))
        if refused:
            assert machine.deployed == "sft"
    starts = [(one.task, one.init_from) for one in commands if isinstance(one, StartTask)]
    assert starts == [("red", "sft"), ("blue", "sft")]
    assert commands[-1] == Evaluate("2-blue-stage2", "2-blue-stage2")
    assert IRevla(State.from_json(machine.state.to_json())).deployed == machine.deployed == "2-blue-stage2"

    last = IRevla(State(plan("irevla", ("red",), **{**SMALL, "evaluate_stages": False})))
    while not isinstance(command := last.next(), Finish):
        if isinstance(command, Evaluate) and command.label != "stage0":  # it is still measured what the method came to
            assert command == Evaluate("1-red-stage2", "sft")
        refused = isinstance(command, RunSupervised) and command.stage == 2
        last.handle(SupervisedDone("1-red-stage2", adopted=False) if refused else answer(command, lambda n: n >= 4))
    assert last.next() == Finish("sft")
    with pytest.raises(IrevlaError, match="it answers the command RunSupervised"):
        IRevla(State(plan("irevla", ("red",)))).handle(SupervisedDone("sft", adopted=False))


def test_a_finished_machine_takes_no_event() -> None:
    machine = IRevla(State(plan("sft", ())))
    run(machine)
    with pytest.raises(IrevlaError, match="it answers the command Finish"):
        machine.handle(EvaluationDone("stage0"))


def test_damaged_states_are_refused() -> None:
    text = State(plan("irevla", ("red",)), (SupervisedDone("sft"),)).to_json()
    assert State.from_json(text).events == (SupervisedDone("sft"),)
    with pytest.raises(CheckpointError, match="learner state of format 3: this version reads up to 2; resume with"):
        State.from_json(text.replace('"format": 2', '"format": 3'))
    first = text.replace('"format": 2', '"format": 1').replace(', "adopted": true', "")  # as it was before the gate
    assert "adopted" not in first and State.from_json(first) == State.from_json(text)
    for damaged in (text[:-3], "[]", text.replace("SupervisedDone", "Done"), text.replace('"window"', '"widow"')):
        with pytest.raises(CheckpointError, match="it is JSON written by State.to_json; start the run anew"):
            State.from_json(damaged)
    other = replace(State.from_json(text), events=(TaskEnded("sft"),))
    with pytest.raises(IrevlaError, match="event TaskEnded"):
        IRevla(other)


def test_plans_are_validated() -> None:
    with pytest.raises(ConfigError, match="method 'irevia': no such method; did you mean 'irevla'"):
        plan("irevia", ())
    with pytest.raises(ConfigError, match="algorithm 'pop': no such algorithm; did you mean 'ppo'"):
        Plan("irevla", algorithm="pop")
    with pytest.raises(ConfigError, match=r"threshold = 90: a success rate lies in \(0, 1\]"):
        Plan("irevla", threshold=90)
    with pytest.raises(ConfigError, match="window = 0: it is at least 1"):
        Plan("irevla", window=0)
    with pytest.raises(ConfigError, match=r"tasks \('a', 'a'\): each RL task appears once"):
        Plan("irevla", tasks=("a", "a"))
    with pytest.raises(ConfigError, match="SACfD learns on the latents of a frozen VLM; use ppo"):
        Plan("irevla", algorithm="sacfd", stage1="all")
