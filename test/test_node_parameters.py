"""Parameters that cannot be silently wrong: every name and value, given where a user gives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.config import CONFIG_FOLDER, find_config
from irevla_ros.core.episode_state import EpisodeState, Phase
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes import topics
from irevla_ros.nodes.checking import check_names, check_values
from irevla_ros.nodes.graph import load_graph
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import sim
from irevla_ros.nodes.parameters.reading import parameter_names, read_settings, reader_of
from irevla_ros.ros.errors import CONFIGURATION
from irevla_ros.ros.messages import String
from irevla_ros.ros.qos import LATCHED
from ros_toys import Process, opened, spin_until

GRAPHS = sorted(path.stem for path in (CONFIG_FOLDER / "graphs").glob("*.yaml"))
PROGRAMS = sorted({spec.program or name for graph in GRAPHS for name, spec in load_graph(graph).nodes.items()})


@pytest.mark.parametrize("name", GRAPHS)
def test_every_shipped_parameter_is_declared_by_its_node_with_a_value_that_it_takes(name: str, tmp_path: Path) -> None:
    graph, file = load_graph(name), find_config(name, "parameters")
    ours = tmp_path / "ours.yaml"
    ours.write_text(f"/**: {{ros__parameters: {{run: {tmp_path}, run_id: r}}}}\n")
    check_names(graph, [file])
    settings = check_values(graph, [file, ours])
    assert len(settings) == sum(len(graph.arms) if spec.each == "arm" else 1 for spec in graph.nodes.values())


values = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=8),
                   st.lists(st.text(max_size=4), max_size=3), st.lists(st.floats(), max_size=7),
                   st.lists(st.integers(-(2**31), 2**31), max_size=7))  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
@given(data=st.data())
def test_any_value_of_any_parameter_is_taken_or_refused_in_one_line(program: str, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(parameter_names(program))), min_size=1, max_size=3, unique=True))
    given: dict[str, Any] = {name: data.draw(values, label=name) for name in names}
    refusal = None
    try:
        read_settings(program, reader_of("parameters of /x", given))
    except ConfigError as error:
        refusal = error
    assert refusal is None or ("\n" not in str(refusal) and refusal.rule and refusal.remedy)


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_float_may_be_nan_or_infinite_and_no_time_negative(program: str) -> None:
    for name in parameter_names(program):
        bad = [float("nan"), float("inf")] + ([-1.0] if name.endswith("_s") else [])
        for value in bad:
            with pytest.raises(ConfigError):
                read_settings(program, reader_of("parameters of /x", {name: value}))


def test_a_name_that_only_another_node_has_is_right_for_all_and_wrong_for_one(tmp_path: Path) -> None:
    graph, file = load_graph("sim", ["arms=[a, b]"]), tmp_path / "p.yaml"

    def refused(text: str) -> str:
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            check_names(graph, [file])
        return str(caught.value).removeprefix(f"{file}")

    for pattern in ("/**", "/a/*", "/**/recorder", "/a/recorder", "/*/recorder"):
        file.write_text(f"{pattern}: {{ros__parameters: {{backlog: 9, use_sim_time: true}}}}\n")
        check_names(graph, [file])
    assert refused("/**/sim: {ros__parameters: {backlog: 9}}\n") == (
        ", /**/sim: parameter 'backlog': sim has no such parameter; did you mean 'backlog' (of recorder) "
        "or 'hand_back' (of arbiter)?")  # fmt: skip
    assert "/**: parameter 'limits.step': no node of this graph has this parameter; did you mean 'limits.step_m'" in refused(
        "/**: {ros__parameters: {limits: {step: 0.1}}}\n")  # fmt: skip
    assert ": parameters of /c/sim: no such node in this graph" in refused("/c/sim: {ros__parameters: {suite: demo}}\n")


@pytest.mark.parametrize(("graph", "lines", "message"), [
    # Else the robot would stand still, and what the arbiter says would be recorded as if it had moved.
    ("franka", "/**/arbiter: {ros__parameters: {dry_run: false}}", "/franka: dry_run = True: /arbiter has False"),
    ("sim", "/**/sim: {ros__parameters: {lock_step: false}}", "/arm0/arbiter: lock_step = True: /arm0/sim has False"),
    ("sim", "/**/learner: {ros__parameters: {rate_hz: 5.0}}", "/learner: rate_hz = 5.0: /arm0/sim has 10.0"),
])  # fmt: skip
def test_nodes_agree_on_what_they_have_to_agree_on(graph: str, lines: str, message: str, tmp_path: Path) -> None:
    ours = tmp_path / "ours.yaml"
    ours.write_text(f"/**: {{ros__parameters: {{run: {tmp_path}, run_id: r}}}}\n{lines}\n")
    with pytest.raises(ConfigError) as caught:
        check_values(load_graph(graph), [find_config(graph, "parameters"), ours])
    assert str(caught.value).startswith(f"parameters of {message}")


# ---- a node by itself --------------------------------------------------------------------------------------------------


def alone(program: str, *words: object, at_most_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"irevla_ros.nodes.{program}", "--ros-args", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=at_most_s)


@pytest.mark.parametrize(
    ("program", "words", "message"),
    [
        ("view", ["-p", "prot:=0"], "parameter 'prot' of /view, given by -p prot:=0: no such parameter; did you mean 'port'"),
        ("view", ["-r", "__node:=page", "--params-file", "FILE"], "parameter 'prot' of /page, given by FILE: no such param"),
        ("view", ["-p", "port:=70000"], "parameters of /view: port = 70000: a port is 0 to 65535"),
        ("sim", ["-p", "cameras:=[fron]"], "camera 'fron': no such camera; did you mean 'front'?"),
        ("recorder", [], "run = '': the absolute path of the run's folder is required"),
    ],
)
def test_a_node_that_was_told_something_wrong_says_so_in_its_last_line(tmp_path: Path, program: str, words: list[str],
                                                                      message: str) -> None:  # fmt: skip
    file = tmp_path / "p.yaml"
    file.write_text("/**: {ros__parameters: {of_another: 1}}\n/page: {ros__parameters: {port: 0, prot: 0}}\n")
    ended = alone(program, *(str(file) if word == "FILE" else word for word in words))
    assert ended.returncode == CONFIGURATION
    assert ended.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in ended.stderr
    assert message.replace("FILE", str(file)) in ended.stderr


def test_the_franka_node_without_rclpy_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IREVLA_ROS", "embedded")
    ended = alone("franka")
    assert ended.returncode == CONFIGURATION
    assert ended.stderr.startswith("error: the franka node on the embedded middleware: ") and ended.stderr.count("\n") == 1


def test_a_graph_ends_with_the_message_of_the_node_that_was_told_something_wrong(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text("nodes: {arbiter: {stop_first: true}, view: {each: graph}}\n")
    starter = tmp_path / "start.py"
    starter.write_text("import sys\nfrom irevla_ros.cli.main import main\nsys.exit(main(sys.argv[1:]))\n")
    words = ["up", tmp_path / "graph.yaml", "--run", tmp_path / "run", "-p", "view:port:=0", "-p", "view:host:=192.0.2.1"]
    with Process(*words, script=starter) as graph:  # an address that this machine has not: only the running node finds out
        code, output, errors = graph.finish()
    assert code == 2 and "view was told something wrong" in output and "restarted" not in output
    assert output.splitlines()[-1] == "stopping"
    (last,) = errors.splitlines()
    assert last.startswith("irevla: error: node view: page on 192.0.2.1, port 0: cannot be opened")


# ---- whose episodes are followed ----------------------------------------------------------------------------------------


class Follower(GraphNode):
    def __init__(self) -> None:
        super().__init__("follower")
        self.declare(sim.settings)
        self.states: list[str] = []
        self.follow(lambda state: self.states.append(state.run_id))


@pytest.mark.parametrize(("own", "followed"), [("mine", ["mine"]), ("''", ["theirs", "mine"])])
def test_the_episodes_of_another_run_are_not_followed(own: str, followed: list[str]) -> None:
    with opened(["--ros-args", "-p", f"run_id:={own}"]):
        node = Follower()
        say = node.create_publisher(String, topics.STATE, LATCHED)
        spin_until(lambda: say.get_subscription_count() > 0, node)
        for run_id in ("theirs", "mine"):
            say.publish(String(data=EpisodeState(1, Phase.IDLE, run_id).to_json()))
            spin_until(lambda run_id=run_id: run_id in node.states or node.health.counts["episode/state.refused"], node)
        spin_until(lambda: "mine" in node.states, node)
        assert node.states == followed
        assert node.health.counts["episode/state.refused"] == (own == "mine")
        node.destroy_node()
