"""The learner node on real topics, with toy arms that take its orders and seal episodes into the spool."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from irevla_ros.core.episode_state import EpisodeState, Phase, Start
from irevla_ros.core.graph_messages import Announcement, LearnerStatus, PolicyVersion, Proposal, Sealed
from irevla_ros.core.health import Level
from irevla_ros.nodes import topics
from irevla_ros.nodes.learner import STOPPED, LearnerNode
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros import SingleThreadedExecutor
from irevla_ros.ros.messages import DiagnosticArray
from irevla_ros.ros.qos import EVENT, LATCHED
from learner_toys import SMALL, TASK, ToyArm, demonstrations, fresh_policy
from ros_toys import context, opened, spin_until  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
LONG_S = 600.0  # a busy machine takes minutes to import torch in each process

pytestmark = pytest.mark.timeout(1200)


class ToyGraph(GraphNode):
    """The other nodes of two arms in one: each order leads to an episode that is in the spool at its end."""

    def __init__(self, run: Path) -> None:
        super().__init__("toy")
        self.arms = {name: ToyArm(name, run) for name in ("a", "b")}
        self.orders: list[tuple[str, Start]] = []
        self.statuses: list[LearnerStatus] = []
        self.proposals: list[Proposal] = []
        self.health_of: dict[str, DiagnosticArray] = {}
        self.deaf = False  # takes no orders
        self._state: dict[str, Callable[[EpisodeState], None]] = {}
        self._sealed: dict[str, Callable[[Sealed], None]] = {}
        for name, toy in self.arms.items():
            self._state[name] = self.speak(EpisodeState, topics.of(name, topics.STATE), LATCHED)
            self._sealed[name] = self.speak(Sealed, topics.of(name, topics.SEALED))
            self.listen(Start, topics.of(name, topics.ORDER), partial(self._ordered, name))
            self._state[name](toy.state)
        self.version = self.speak(PolicyVersion, topics.VERSION, LATCHED)
        self.listen(Announcement, topics.ANNOUNCEMENT, self._announced, LATCHED)
        self.listen(LearnerStatus, topics.STATUS, self.statuses.append, LATCHED)
        self.listen(Proposal, topics.PROPOSAL, self.proposals.append, LATCHED)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._diagnosed, EVENT)

    def _announced(self, announced: Announcement) -> None:
        for toy in self.arms.values():
            toy.announced = announced

    def _ordered(self, name: str, start: Start) -> None:
        toy = self.arms[name]
        self.orders.append((name, start))
        if self.deaf or toy.announced is None or toy.state.phase is not Phase.IDLE:
            return
        for said in toy.whole(start):
            (self._sealed[name] if isinstance(said, Sealed) else self._state[name])(said)  # type: ignore[operator]

    def _diagnosed(self, message: DiagnosticArray) -> None:
        self.health_of[message.status[0].name] = message.status[0]


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_policy(tmp_path_factory.mktemp("vla") / "fresh")


def arguments(run: Path, sft: Path, *more: str) -> list[str]:
    given = {"run": str(run), "run_id": "toy", "arms": "[a, b]", "sft": str(sft), "tasks": f"[{TASK}]", "gate": "4",
             "gate_margin": "0.5", "overrides": f"[{', '.join(SMALL)}]"}  # fmt: skip
    return ["--ros-args", *(word for name, value in given.items() for word in ("-p", f"{name}:={value}")), *more]


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ToyGraph]:
    demonstrations(tmp_path / "run")
    graph = ToyGraph(tmp_path / "run")
    yield graph
    graph.destroy_node()


def in_process(run: Path, sft: Path, test: Callable[[LearnerNode, ToyGraph], None]) -> None:
    demonstrations(run)
    with opened(arguments(run, sft)):
        graph, node = ToyGraph(run), LearnerNode()
        try:
            test(node, graph)
        finally:
            node.on_shutdown()
            node.destroy_node()
            graph.destroy_node()


def test_a_learner_does_the_whole_of_algorithm_1_with_its_arms(tmp_path: Path, sft: Path) -> None:
    run = tmp_path / "run"

    def test(node: LearnerNode, graph: ToyGraph) -> None:
        spin_until(lambda: graph.statuses and graph.statuses[-1].finished, node, graph, timeout_s=LONG_S)
        assert {name for name, _ in graph.orders} == {"a", "b"}
        summary = json.loads((run / "summary.json").read_text())
        assert summary["complete"] is True and summary["methods"]["irevla-sacfd"]["rl"] == {"successes": 2, "episodes": 4}
        seeds = sorted({start.seed for _, start in graph.orders if start.seed < 1_000_000})
        assert seeds == list(range(200_000, 200_014))
        assert Proposal(TASK, "push the blue cube left") in graph.proposals
        assert {one.stage for one in graph.statuses} >= {"stage 1", "stage 2", "finished"}

    with_context_closed(partial(in_process, run, sft, test))


def test_trouble_is_told_and_does_not_end_it(tmp_path: Path, sft: Path) -> None:
    run = tmp_path / "run"

    def test(node: LearnerNode, graph: ToyGraph) -> None:
        graph.deaf = True
        graph.version(PolicyVersion("toy", 0, "", "its cameras are others"))
        spin_until(lambda: "/learner" in graph.health_of and graph.health_of["/learner"].level != bytes([Level.OK])
                   and len(graph.orders) >= 3, node, graph)  # fmt: skip
        assert "the policy refuses what was announced: its cameras are others" in graph.health_of["/learner"].message
        graph.deaf = False
        graph.version(PolicyVersion("toy", 1, "f"))
        spin_until(lambda: graph.statuses and graph.statuses[-1].stage == "stage 1", node, graph, timeout_s=LONG_S)
        spin_until(lambda: graph.health_of["/learner"].level == bytes([Level.OK]), node, graph)

    with_context_closed(partial(in_process, run, sft, test))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_learner_that_is_stopped_before_the_end_does_not_end_the_graph_as_done(
    number: signal.Signals, toy: ToyGraph, tmp_path: Path, sft: Path
) -> None:
    command = [sys.executable, "-m", "irevla_ros.nodes.learner",
               *arguments(tmp_path / "run", sft, "-p", "exit_when_finished:=true")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    executor = SingleThreadedExecutor()
    executor.add_node(toy)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + LONG_S
        while not toy.orders and process.poll() is None:
            assert time.monotonic() < deadline, toy.statuses[-1:]
            executor.spin_once(timeout_sec=0.02)
        process.send_signal(number)
        errors = process.communicate(timeout=LONG_S)[1].decode()
        assert process.returncode == STOPPED, errors
    finally:
        process.kill()
        executor.remove_node(toy)
        executor.shutdown()


@pytest.mark.nightly  # its logic is killed in test_graph_learning.py too
def test_a_killed_learner_goes_on_and_ends_with_code_0(toy: ToyGraph, tmp_path: Path, sft: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "irevla_ros.nodes.learner",
               *arguments(run, sft, "-p", "exit_when_finished:=true")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    executor = SingleThreadedExecutor()
    executor.add_node(toy)

    def life(until: Callable[[], bool]) -> int:
        """Run the node until then, and kill it; its exit code."""
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + LONG_S
        while process.poll() is None:
            assert time.monotonic() < deadline, toy.statuses[-1:]
            executor.spin_once(timeout_sec=0.02)
            if until():
                process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1].decode()
        assert process.returncode in (0, -signal.SIGKILL), errors
        return process.returncode

    try:
        practised = lambda: len(list((run / "practice").glob("*.episode.safetensors")))  # noqa: E731
        assert life(lambda: practised() >= 2) == -signal.SIGKILL  # in the first evaluation
        assert life(lambda: practised() >= 9) == -signal.SIGKILL  # in stage 1
        assert life(lambda: (run / "gates.json").exists()) == -signal.SIGKILL
        assert life(lambda: False) == 0
    finally:
        executor.remove_node(toy)
        executor.shutdown()
    assert json.loads((run / "summary.json").read_text())["complete"] is True
    assert toy.statuses[-1].finished
    seeds = [start.seed for _, start in toy.orders if start.seed < 1_000_000]
    assert set(seeds) == set(range(200_000, 200_014))


def with_context_closed(test: Callable[[], None]) -> None:
    """Parameters come from the context: these tests open one of their own."""
    from irevla_ros.ros import init, try_shutdown

    try_shutdown()
    try:
        test()
    finally:
        init(args=[])
