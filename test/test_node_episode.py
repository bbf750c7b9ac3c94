"""The episode node: orders, services, numbers and the clock of lock step. On both backends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from arm_toys import NAMESPACE, PERIOD, SECOND, Rest, graph
from irevla_ros.core.collection import Agenda, Job
from irevla_ros.core.episode_state import Judge, Judged, Phase, Request, ResetDone, Start, Verb, Verdict
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Mode, Outcome, TerminationReason
from irevla_ros.nodes import topics
from irevla_ros.nodes.episode import EpisodeNode
from irevla_ros.nodes.orders import EpisodeNumbers
from irevla_ros.ros import Node
from irevla_ros.ros.messages import String
from irevla_ros.ros.qos import EVENT, LATCHED
from ros_toys import spin_for, spin_until


class Bench:
    """The episode node, and the rest of the graph, which does its part of each reset by itself if ``resets``."""

    def __init__(self, episode: EpisodeNode, rest: Rest, resets: bool = True) -> None:
        self.episode, self.rest = episode, rest
        self.done = rest.speak(ResetDone, topics.RESET_DONE)
        if resets:
            rest.follow(lambda state: state.phase is Phase.RESET and self.done(ResetDone("robot", "", state.episode_id)))
        self.spin(lambda: rest.state is not None and rest.count_subscribers(topics.ORDER) > 0)
        self.spin(lambda: rest.count_subscribers(topics.JUDGED) > 0 and rest.count_subscribers(topics.RESET_DONE) > 1)

    def spin(self, predicate: Any) -> None:
        spin_until(predicate, self.episode, self.rest)

    def until(self, phase: Phase, number: int | None = None) -> None:
        self.spin(self.rest.phase(phase, number))

    def trigger(self, service: str) -> tuple[bool, str]:
        response = self.rest.trigger(service, self.episode)
        return response.success, response.message


def episodes(folder: Path, **parameters: Any) -> Any:
    given = {"lock_step": True, "run": str(folder), "run_id": "r"} | parameters
    return graph(EpisodeNode, lambda: Rest(lock_step=bool(given["lock_step"])), **given)


def test_in_lock_step_episode_n_begins_at_n_thousand_seconds_and_what_was_judged_is_the_time(tmp_path: Path) -> None:
    with episodes(tmp_path) as (episode, rest):
        bench = Bench(episode, rest)
        rest.ask(time_limit_ns=3 * PERIOD)
        bench.until(Phase.RUN, 1)
        begin = 1000 * SECOND
        assert rest.state.started_ns == begin
        rest.judged(Judged(begin + 2 * PERIOD, "r-000001"))
        spin_for(0.2, episode, rest)
        assert rest.running()
        rest.judged(Judged(begin + 3 * PERIOD, "r-000001"))
        bench.until(Phase.IDLE, 1)
        ended = next(state for state in rest.states if state.phase is Phase.END)
        assert (ended.ended_ns, ended.termination_reason) == (begin + 3 * PERIOD, TerminationReason.TIME_LIMIT)
        assert ended.outcome is Outcome.FAILURE

        rest.ask(mode=Mode.EVAL)
        bench.until(Phase.RUN, 2)
        assert rest.state.started_ns == 2000 * SECOND
        rest.verdict(Verdict(True, Judge.REWARD, 2000 * SECOND + PERIOD, "r-000002"))
        bench.until(Phase.IDLE, 2)
        assert (rest.state.outcome, rest.state.ended_ns) == (Outcome.SUCCESS, 2000 * SECOND + PERIOD)


def test_in_real_time_the_time_limit_is_on_the_graphs_clock(tmp_path: Path) -> None:
    with episodes(tmp_path, lock_step=False, time_limit_s=0.3) as (episode, rest):
        bench = Bench(episode, rest)
        rest.ask()
        bench.until(Phase.IDLE, 1)
        state = rest.state
        assert (state.ended_ns - state.started_ns, state.termination_reason) == (3 * PERIOD, TerminationReason.TIME_LIMIT)


def test_an_order_in_an_episode_is_ignored(tmp_path: Path) -> None:
    with episodes(tmp_path) as (episode, rest):
        bench = Bench(episode, rest)
        rest.ask(seed=1)
        rest.ask(seed=2)
        bench.until(Phase.RUN, 1)
        assert rest.state.seed == 1
        spin_for(0.2, episode, rest)
        assert EpisodeNumbers(str(tmp_path), "r", "").next == 2


def test_numbers_go_on_after_a_restart_and_above_what_the_spool_holds(tmp_path: Path) -> None:
    with episodes(tmp_path) as (episode, rest):
        bench = Bench(episode, rest)
        rest.ask()
        bench.until(Phase.RUN, 1)
        first = rest.state
    with episodes(tmp_path) as (episode, rest):
        bench = Bench(episode, rest)
        assert rest.state.phase is Phase.IDLE
        assert rest.state.supersedes(first)
        rest.ask()
        bench.until(Phase.RUN, 2)
    (tmp_path / "practice").mkdir()
    (tmp_path / "expert").mkdir()
    for name in ("practice/r-000041.episode.safetensors", "expert/r-000007.log", "practice/r-arm0-000099.log",
                 "practice/other-000500.log", "practice/r-000050x.log"):  # fmt: skip
        (tmp_path / name).touch()
    assert EpisodeNumbers(str(tmp_path), "r", "").next == 42
    assert EpisodeNumbers(str(tmp_path), "r", "arm0").next == 100
    (tmp_path / "graph" / "r.number").write_text("")  # as a power cut may leave it
    assert EpisodeNumbers(str(tmp_path), "r", "").next == 42


def test_a_clock_set_back_before_a_restart_does_not_hide_the_new_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows the old run would else go on with it, deaf to the node that owns the arm's episodes now."""
    with episodes(tmp_path) as (episode, rest):
        bench = Bench(episode, rest)
        rest.ask()
        bench.until(Phase.RUN, 1)
        before = rest.state
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3600 * SECOND)
    for _ in range(2):
        with episodes(tmp_path) as (episode, rest):
            Bench(episode, rest)
            assert rest.state.phase is Phase.IDLE
            assert rest.state.supersedes(before)
            before = rest.state


def test_the_arm_is_part_of_the_episodes_name(tmp_path: Path) -> None:
    with episodes(tmp_path, **{NAMESPACE: "/arm0"}) as (episode, rest):
        bench = Bench(episode, rest)
        rest.ask()
        bench.until(Phase.RUN, 1)
        assert (rest.state.episode_id, rest.state.run_id) == ("r-arm0-000001", "r")
        assert (tmp_path / "graph" / "r-arm0.number").read_text().split()[0] == "2"


def test_the_operator_starts_confirms_engages_and_stops(tmp_path: Path) -> None:
    with episodes(tmp_path, operator_starts=True, confirm_required=True, engage_required=True) as (episode, rest):
        bench = Bench(episode, rest)
        assert bench.trigger("episode/start") == (False, "nothing is ordered, and no tasks are set")
        rest.ask(seed=8)
        spin_for(0.3, episode, rest)
        assert rest.state.phase is Phase.IDLE
        assert bench.trigger("episode/start") == (True, "r-000001 reset")
        bench.until(Phase.READY, 1)
        assert rest.state.seed == 8
        assert bench.trigger("episode/confirm")[0]
        assert bench.trigger("episode/confirm") == (False, "confirm in ready")
        assert bench.trigger("episode/engage") == (True, "r-000001 run")
        rest.seal = False
        assert bench.trigger("episode/stop") == (True, "r-000001 end")
        assert bench.trigger("episode/discard") == (True, "r-000001 end")
        bench.spin(lambda: rest.state.discarded)
        assert rest.state.detail == "by the operator"
        rest.request(Request(Verb.SEALED, "", "r-000001"))
        bench.until(Phase.IDLE, 1)
        assert bench.trigger("episode/start") == (False, "nothing is ordered, and no tasks are set")


def test_an_order_that_waits_outlives_its_learner_and_is_shown_as_next(tmp_path: Path) -> None:
    parameters = {"tasks": ["cup"], "instructions": ["lift the cup"], "operator_starts": True}
    with episodes(tmp_path, **parameters) as (episode, rest):
        bench, agendas = Bench(episode, rest), rest.hear(Agenda, topics.AGENDA, LATCHED)
        bench.spin(lambda: agendas and agendas[-1].next == Job("cup", "lift the cup"))
        learner = Node("learner")
        order = learner.create_publisher(String, topics.ORDER, EVENT)
        spin_until(lambda: order.get_subscription_count() == 1, learner)
        order.publish(String(data=Start("lid", "close the lid", Mode.TRAIN, 8).to_json()))
        bench.spin(lambda: agendas[-1].next == Job("lid", "close the lid"))
        learner.destroy_node()
        assert bench.trigger("episode/start")[0]
        bench.until(Phase.RUN, 1)
        assert (rest.state.task, rest.state.seed) == ("lid", 8)
        bench.spin(lambda: agendas[-1].next == Job("cup", "lift the cup"))  # once
        bench.trigger("episode/stop")
        bench.until(Phase.IDLE, 1)
        assert bench.trigger("episode/start")[0]
        bench.until(Phase.RUN, 2)
        assert rest.state.task == "cup"


def test_without_a_learner_the_operator_goes_through_the_list(tmp_path: Path) -> None:
    parameters = {"tasks": ["cup", "lid"], "instructions": ["lift the cup", "close the lid"], "mode": "demo", "seed": 40}
    with episodes(tmp_path, operator_starts=True, lock_step=False, **parameters) as (episode, rest):
        bench = Bench(episode, rest)
        for number, task in ((1, "lid"), (2, "cup")):
            assert bench.trigger("episode/start")[0]
            bench.until(Phase.RUN, number)
            state = rest.state
            assert (state.task, state.mode, state.seed, state.operator) == (task, Mode.DEMO, 40 + number, "")
            bench.trigger("episode/stop")
            bench.until(Phase.IDLE, number)


def test_auto_takes_instructions_and_limits_from_the_suite_and_stops_after_so_many(tmp_path: Path) -> None:
    with episodes(tmp_path, auto=True, episodes=3, tasks=["press-red", "push-red-cube-left"], suite="demo") as (episode, rest):
        bench = Bench(episode, rest)
        for number, (task, steps) in enumerate([("push-red-cube-left", 30), ("press-red", 25), ("push-red-cube-left", 30)], 1):
            bench.until(Phase.RUN, number)
            state = rest.state
            words = {"press-red": "press the red button", "push-red-cube-left": "push the red cube left"}
            assert (state.task, state.instruction, state.seed) == (task, words[task], number)
            assert state.time_limit_ns == steps * PERIOD
            rest.verdict(Verdict(True, Judge.REWARD, state.started_ns, state.episode_id))
        bench.until(Phase.IDLE, 3)
        spin_for(0.3, episode, rest)
        assert rest.state.phase is Phase.IDLE


def test_auto_rests_after_an_episode_that_came_to_no_run(tmp_path: Path) -> None:
    with episodes(tmp_path, auto=True, tasks=["a"], instructions=["do it"]) as (episode, rest):
        bench = Bench(episode, rest, resets=False)
        bench.until(Phase.RESET, 1)
        begin_ns = rest.wall_ns()
        bench.done(ResetDone("robot", "no such task", "r-000001"))
        bench.until(Phase.RESET, 2)
        assert rest.wall_ns() - begin_ns >= SECOND
        assert any(state.detail == "robot could not reset: no such task" for state in rest.states)


def test_what_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    with episodes(tmp_path) as (episode, rest):
        bench = Bench(episode, rest)
        for topic in (topics.ORDER, topics.RESET_DONE, topics.REQUEST, topics.VERDICT, topics.JUDGED):
            publisher = rest.create_publisher(String, topic, EVENT)
            bench.spin(lambda publisher=publisher: publisher.get_subscription_count() > 0)
            publisher.publish(String(data='{"message": "episode/start"'))
            bench.spin(lambda topic=topic: episode.health.counts[f"{topic}.refused"] == 1)
        assert rest.state.phase is Phase.IDLE


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"run": "runs/x"}, "run = 'runs/x', run_id = 'r': both are needed, the first absolute"),
        ({"auto": True}, "auto without tasks"),
        ({"auto": True, "operator_starts": True}, "either the node starts by itself or the operator does"),
        ({"tasks": ["a", "b"], "instructions": ["do a"]}, "2 tasks with 1 instructions"),
        ({"tasks": ["press-rde"], "suite": "demo"}, "task 'press-rde' of suite 'demo': no such task; did you mean 'press-red'"),
        ({"participants": ["robot", "robot"]}, "each is named once"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(tmp_path: Path, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message), episodes(tmp_path, **parameters):
        pass
