"""The launch files: flat, of the graphs that `irevla up` starts, and on this host alone. Needs ROS 2 for the most part."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest

from irevla_ros.core.config import CONFIG_FOLDER
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.graph import load_graph
from irevla_ros.ros.embedded.parameter_file import load_parameter_file
from irevla_ros.ros.errors import MiddlewareError

ROOT = Path(__file__).resolve().parent.parent
FILES = {path.name.removesuffix(".launch.py"): path for path in (ROOT / "launch").glob("*.launch.py")}


def test_each_shipped_graph_has_a_launch_file_of_one_call() -> None:
    assert set(FILES) == {path.stem for path in (CONFIG_FOLDER / "graphs").glob("*.yaml")}
    for name, path in FILES.items():
        (function,) = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        (only,) = function.body
        assert isinstance(only, ast.Return) and isinstance(only.value, ast.Call)
        assert ast.unparse(only.value.func) == "graph_description"
        assert ast.literal_eval(only.value.args[0]) == name


def test_every_program_of_a_graph_is_a_node() -> None:
    programs = {spec.program or name for graph in FILES for name, spec in load_graph(graph).nodes.items()}
    nodes = ROOT / "irevla_ros" / "nodes"
    assert all((nodes / f"{name}.py").is_file() or (nodes / name / "__main__.py").is_file() for name in programs)


class TestDescription:
    """What `ros2 launch` would do, without doing it."""

    @pytest.fixture(autouse=True)
    def _launch(self) -> None:
        pytest.importorskip("launch_ros", reason="launch_ros is not here: source ROS 2 to test the launch files")

    def expand(self, name: str, **arguments: str) -> tuple[Any, list[Any]]:
        """The context and the actions of a launch file with these arguments."""
        from launch import LaunchContext
        from launch.actions import DeclareLaunchArgument, OpaqueFunction

        context, found = LaunchContext(), []
        context.launch_configurations.update(arguments)
        for entity in runpy.run_path(str(FILES[name]))["generate_launch_description"]().entities:
            if isinstance(entity, (DeclareLaunchArgument, OpaqueFunction)):
                found += entity.execute(context) or []
        return context, found

    @pytest.mark.parametrize("name", FILES)
    def test_it_starts_the_processes_of_the_graph(self, name: str, tmp_path: Path) -> None:
        from launch_ros.actions import Node

        _, actions = self.expand(name, run=str(tmp_path / "run"))
        graph = load_graph(name)
        expected = sorted(spec.program or node for node, spec in graph.nodes.items() if not spec.front
                          for _ in (graph.arms if spec.each == "arm" else ("",)))  # fmt: skip
        assert sorted(action.node_executable for action in actions if isinstance(action, Node)) == expected
        assert {action.node_package for action in actions if isinstance(action, Node)} == {"irevla_ros"}

    def test_arms_and_the_python_of_heavy_nodes_are_arguments(self, tmp_path: Path) -> None:
        from launch.utilities import perform_substitutions
        from launch_ros.actions import Node

        context, actions = self.expand("sim", run=str(tmp_path / "run"), arms="left", python="/venv/bin/python")
        nodes = {action.node_executable: action for action in actions if isinstance(action, Node)}
        assert len(nodes) == 8
        heavy = {name for name, node in nodes.items()
                 if perform_substitutions(context, node.process_description.prefix)}  # fmt: skip
        assert heavy == {"policy", "learner"}

    def test_a_side_is_launched_alone_and_links_are_of_the_embedded_backend(self, tmp_path: Path) -> None:
        from launch_ros.actions import Node

        _, actions = self.expand("sim", run=str(tmp_path / "run"), arms="left", side="robot")
        assert [action.node_executable for action in actions if isinstance(action, Node)] == ["clock", "sim", "arbiter"]
        written = load_parameter_file(str(tmp_path / "run" / "parameters.yaml"))
        assert dict(written)["/**"]["side"] == "robot"
        with pytest.raises(MiddlewareError, match="IREVLA_CONNECT=tls/gpu-box:7447: natively ROS's own middleware links"):
            self.expand("sim", run=str(tmp_path / "run"), side="robot", connect="tls/gpu-box:7447")

    def test_a_franka_collects_without_policy_and_learner(self, tmp_path: Path) -> None:
        from launch_ros.actions import Node

        context, actions = self.expand("franka", run=str(tmp_path / "run"), collect="true")
        nodes = [action for action in actions if isinstance(action, Node)]
        assert {"franka", "arbiter", "recorder"} <= {node.node_executable for node in nodes}
        assert not {"policy", "learner"} & {node.node_executable for node in nodes}
        for node in nodes:
            files = [one.evaluate(context).name for one in node._Node__parameters if hasattr(one, "evaluate")]
            assert files == ["franka.yaml", "collection.yaml", "parameters.yaml"]

    def test_nodes_have_the_time_to_end_that_irevla_up_gives_them(self, tmp_path: Path) -> None:
        """`ros2 launch` sends SIGTERM 5 s after SIGINT where nothing else is said: too soon for a learner in an update."""
        from launch.utilities import perform_substitutions
        from launch_ros.actions import Node

        from irevla_ros.nodes.up import PATIENCE_S

        context, actions = self.expand("sim", run=str(tmp_path / "run"))
        for node in (action for action in actions if isinstance(action, Node)):
            for escalation in ("sigterm", "sigkill"):
                given = getattr(node, f"_ExecuteLocal__{escalation}_timeout")
                assert float(perform_substitutions(context, given)) == PATIENCE_S

    def test_ros_is_kept_on_this_host(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from launch.actions import SetEnvironmentVariable
        from launch.utilities import perform_substitutions

        for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "ROS_DISTRO"):
            monkeypatch.delenv(name, raising=False)

        def variables(**arguments: str) -> dict[str, str]:
            context, actions = self.expand("sim", run=str(tmp_path / "run"), **arguments)
            return {perform_substitutions(context, action.name): perform_substitutions(context, action.value)
                    for action in actions if isinstance(action, SetEnvironmentVariable)}  # fmt: skip

        assert variables() == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        assert variables(network="true") == {}

    def test_a_franka_is_not_moved_unless_it_is_said(self, tmp_path: Path) -> None:
        from launch.actions import DeclareLaunchArgument

        description = runpy.run_path(str(FILES["franka"]))["generate_launch_description"]()
        defaults = {entity.name: entity.default_value[0].text for entity in description.entities
                    if isinstance(entity, DeclareLaunchArgument)}  # fmt: skip
        assert defaults["dry_run"] == "true" and defaults["network"] == "false"
        with pytest.raises(ConfigError, match="dry_run:=no: it is true or false"):
            self.expand("franka", run=str(tmp_path / "run"), dry_run="no")

    def test_the_robots_own_launch_file_is_included_for_each_arm_where_that_is_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from launch.actions import IncludeLaunchDescription
        from launch_ros.actions import Node

        share = tmp_path / "share" / "franka_bringup"
        (share / "launch").mkdir(parents=True)
        (share / "launch" / "franka.launch.py").write_text("")
        index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True)
        (index / "franka_bringup").touch()
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
        run = str(tmp_path / "run")
        _, actions = self.expand("franka", run=run)
        assert not [action for action in actions if isinstance(action, IncludeLaunchDescription)]
        _, actions = self.expand("franka", run=run, bringup="true", arms="left,right", robot_ip="10.0.0.2,10.0.0.3",
                                 arm_prefix="left,right")  # fmt: skip
        included = [dict(action.launch_arguments) for action in actions if isinstance(action, IncludeLaunchDescription)]
        common = {"robot_type": "fr3", "load_gripper": "true", "use_fake_hardware": "false"}
        assert included == [common | {"robot_ip": "10.0.0.2", "arm_prefix": "left", "namespace": "left"},
                            common | {"robot_ip": "10.0.0.3", "arm_prefix": "right", "namespace": "right"}]  # fmt: skip
        with pytest.raises(ConfigError, match="robot_ip:=1,2,3: 3 values for the arms left, right; give one for each"):
            self.expand("franka", run=run, bringup="true", arms="left,right", robot_ip="1,2,3")
        spawners = [action for action in actions if isinstance(action, Node) and action.node_executable == "spawner"]
        assert len(spawners) == 2
