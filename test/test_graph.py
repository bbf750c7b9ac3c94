"""The graph from its YAML file: which processes, with which arguments; wrong files answered in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from irevla_ros.core.config import CONFIG_FOLDER
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.graph import SIDES, GraphSpec, NodeSpec, load_graph, processes

TWO_ARMS = """
arms: [left, cell2/right]
nodes:
  sim: {}
  arbiter: {stop_first: true, remap: {target_pose: crisp/target_pose}}
  wrist: {program: camera}
  policy: {each: graph, heavy: true, ends_graph: true}
"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.yaml"
    path.write_text(TWO_ARMS)
    return path


def test_each_arm_has_its_own_and_the_graph_has_one(graph: Path) -> None:
    found = processes(load_graph(graph), [Path("p.yaml"), Path("q.yaml")], heavy_python="/venv/bin/python",
                      extra=["-p", "use_sim_time:=true"])  # fmt: skip
    names = ["left/sim", "cell2/right/sim", "left/arbiter", "cell2/right/arbiter", "left/wrist", "cell2/right/wrist", "policy"]
    assert [process.name for process in found] == names
    right = found[3]
    assert right.stop_first and not found[0].stop_first
    assert right.argv == (
        sys.executable, "-m", "irevla_ros.nodes.arbiter", "--ros-args", "-r", "__node:=arbiter", "-r", "__ns:=/cell2/right",
        "-r", "target_pose:=crisp/target_pose", "--params-file", "p.yaml", "--params-file", "q.yaml",
        "-p", "use_sim_time:=true",
    )  # fmt: skip
    assert found[4].argv[2:6] == ("irevla_ros.nodes.camera", "--ros-args", "-r", "__node:=wrist")
    assert found[6].argv[0] == "/venv/bin/python" and "__ns:=" not in " ".join(found[6].argv)
    assert 'arms:=["left", "cell2/right"]' in found[6].argv and "arms:=" not in " ".join(right.argv)
    assert [process.name for process in found if process.ends_graph] == ["policy"]


def test_a_single_arm_needs_no_namespace(graph: Path) -> None:
    names = [process.name for process in processes(load_graph(graph, ['arms=[""]']))]
    assert names == ["sim", "arbiter", "wrist", "policy"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes: {}", "a graph without nodes: at least one is needed"),
        ("nodes: {sim: {}}\narms: [a, a]", r"arms = \['a', 'a'\]: each arm has a namespace of its own"),
        ("nodes: {sim: {}}\narms: ['1a']", "arm '1a': a namespace is letters"),
        ("nodes: {sim: {}}\narms: ['', a]", "arm '': a namespace is letters"),
        ("nodes: {Sim-1: {}}", "node 'Sim-1': a node's name is lower-case"),
        ("nodes: {sim: {each: robot}}", "nodes.sim.each.*'robot'"),
        ("nodes: {sim: {remaps: {a: b}}}", "'nodes.sim.remaps': no such key in NodeSpec; did you mean 'nodes.sim.remap'"),
    ],
)
def test_a_wrong_file_is_answered_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_graph(path)
    assert "\n" not in str(caught.value)


def test_a_half_has_the_nodes_of_its_side_and_a_clock(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text("arms: [left, right]\n"
                    "nodes: {sim: {side: robot}, arbiter: {side: robot, stop_first: true}, view: {each: graph}}")  # fmt: skip
    graph = load_graph(path)
    halves = {side: processes(graph.half(side)) for side in SIDES}
    assert [process.name for process in halves["robot"]] == [
        "robot_clock", "left/sim", "right/sim", "left/arbiter", "right/arbiter",
    ]  # fmt: skip
    assert [process.name for process in halves["robot"] if process.stop_first] == ["left/arbiter", "right/arbiter"]
    assert [process.name for process in halves["gpu"]] == ["gpu_clock", "view"]
    assert halves["gpu"][0].argv[2:6] == ("irevla_ros.nodes.clock", "--ros-args", "-r", "__node:=gpu_clock")
    assert 'arms:=["left", "right"]' in halves["gpu"][1].argv
    with pytest.raises(ConfigError, match="side 'robot': no node of this graph is there: sim; give those that belong there"):
        GraphSpec({"sim": NodeSpec()}).half("robot")


@pytest.mark.parametrize("name", [path.stem for path in (CONFIG_FOLDER / "graphs").glob("*.yaml")])
def test_what_touches_the_arm_is_on_the_robots_side_of_shipped_graphs(name: str) -> None:
    graph = load_graph(name)
    arms = {node for node, spec in graph.nodes.items() if spec.side == "robot"}
    assert {"policy", "reward", "episode", "recorder", "learner", "view"} & arms == set()
    assert {"sim", "camera", "arbiter", "teleop"} & set(graph.nodes) <= arms
