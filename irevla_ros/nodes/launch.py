"""A graph as a launch description: what the files in launch/ share. Loaded by `ros2 launch`, never by a node."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from irevla_ros.core.config import find_config
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.checking import check_names, check_values
from irevla_ros.nodes.graph import COLLECTION, SIDES, GraphSpec, load_graph, serves_arms
from irevla_ros.nodes.preparation import run_id, stay_on_this_host, write_parameters
from irevla_ros.nodes.up import PATIENCE_S
from irevla_ros.ros import hosts
from irevla_ros.ros.errors import CONFIGURATION

RESPAWN_S = 2.0


@dataclass(frozen=True)
class Bringup:
    """The robot's own launch file, ``file`` of ``package``: included for each arm, in its namespace, where the argument
    ``bringup`` is true, and then ``controller`` is loaded, inactive. arguments: name -> (default, description); an empty one is
    left to that launch file, and one of values by commas has one for each arm."""

    package: str
    file: str
    controller: str
    arguments: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def graph_description(name: str, arguments: Mapping[str, tuple[Any, str]] | None = None,
                      bringup: Bringup | None = None) -> LaunchDescription:  # fmt: skip
    """Launch the shipped graph ``name``.

    arguments: ROS parameters of all nodes that are arguments of the launch file: name -> (default, description). The type
    of the default is the parameter's.
    """
    given = dict(arguments or {})
    return LaunchDescription([
        DeclareLaunchArgument("config", default_value=name, description="graph: a shipped one by name, or a YAML file"),
        DeclareLaunchArgument("params_file", default_value=name,
                              description="parameters: a shipped file by name, or a ROS parameter file"),
        DeclareLaunchArgument("arms", default_value="",
                              description="namespaces by commas, such as arm0,arm1; empty: the graph's"),
        DeclareLaunchArgument("run", default_value=f"runs/{name}", description="folder of the run"),
        DeclareLaunchArgument("python", default_value="",
                              description="Python of the nodes that need torch, where it is not ROS's own"),
        DeclareLaunchArgument("network", default_value="false", choices=["true", "false"],
                              description="discover nodes of other hosts, too"),
        DeclareLaunchArgument("collect", default_value=_text(bool(load_graph(name).front)), choices=["true", "false"],
                              description="a person collects: no policy, no learner; `ros2 run irevla_ros desk` beside it"),
        DeclareLaunchArgument("side", default_value="", choices=["", *SIDES],
                              description="of a graph over two hosts: only the nodes of this one"),
        *(DeclareLaunchArgument(_argument(option), default_value="", description=f"{text}; IREVLA_ROS=embedded alone")
          for option, (_, _, text) in hosts.OPTIONS.items()),
        *(DeclareLaunchArgument(key, default_value=_text(default), description=text) for key, (default, text) in given.items()),
        *(_bringup_arguments(bringup) if bringup is not None else ()),
        OpaqueFunction(function=partial(_actions, given, bringup)),
    ])  # fmt: skip


def _bringup_arguments(bringup: Bringup) -> list[DeclareLaunchArgument]:
    where = f"of {bringup.package}, with bringup:=true"
    return [
        DeclareLaunchArgument("bringup", default_value="false", choices=["true", "false"],
                              description=f"include {bringup.file} of {bringup.package}: the robot's drivers"),
        *(DeclareLaunchArgument(key, default_value=default, description=f"{text} ({where})")
          for key, (default, text) in bringup.arguments.items()),
    ]  # fmt: skip


def _actions(given: Mapping[str, tuple[Any, str]], bringup: Bringup | None, context: LaunchContext) -> list[Any]:
    said = context.launch_configurations
    graph = load_graph(said["config"], [f"arms=[{said['arms']}]"] if said["arms"] else [])
    half = graph.half(said["side"]) if said["side"] else graph
    collects = said["collect"] == "true"
    half = half.without(("policy", "learner")) if collects else half
    folder = Path(said["run"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    said_too = [_parameter(key, said[key], default) for key, (default, _) in given.items() if said[key]]
    pinned: dict[str, str] = dict(os.environ)
    hosts.settle(Namespace(**{variable: said[_argument(option)] or None
                              for option, (variable, _, _) in hosts.OPTIONS.items()}), pinned)  # fmt: skip
    if said["network"] != "true":
        stay_on_this_host(pinned)
    variables = [SetEnvironmentVariable(key, value) for key, value in pinned.items() if os.environ.get(key) != value]
    shipped = [find_config(each, "parameters").resolve() for each in (said["params_file"], *([COLLECTION] if collects else []))]
    check_names(graph, shipped)
    files = [*shipped, folder / "parameters.yaml"]
    write_parameters(files[-1], graph, {"run": str(folder), "run_id": run_id(folder), "side": said["side"]}, said_too)
    check_values(half, files)
    nodes = [(spec, _node(half, name, arm, files, said["python"]))
             for name, spec in half.nodes.items() if not spec.front
             for arm in (half.arms if spec.each == "arm" else ("",))]  # fmt: skip
    endings = [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=partial(_when_ended, spec.ends_graph)))
               for spec, node in nodes]  # fmt: skip
    wanted = bringup is not None and said["bringup"] == "true" and said["side"] in ("", "robot")
    robots = _robots(bringup, graph, said) if bringup is not None and wanted else []
    return [*variables, *robots, *(node for _, node in nodes), *endings]


def _robots(bringup: Bringup, graph: GraphSpec, said: Mapping[str, str]) -> list[Any]:
    share = Path(FindPackageShare(bringup.package).find(bringup.package))
    source = PythonLaunchDescriptionSource(str(share / "launch" / bringup.file))
    passed = {key: _for_arms(key, said[key], graph.arms) for key in bringup.arguments if said[key]}
    found: list[Any] = []
    for number, arm in enumerate(graph.arms):
        own = {key: values[number] for key, values in passed.items()}
        found.append(IncludeLaunchDescription(source, launch_arguments={**own, "namespace": arm}.items()))
        found.append(Node(package="controller_manager", executable="spawner", namespace=arm, output="screen",
                          arguments=[bringup.controller, "--inactive"]))  # fmt: skip
    return found


def _for_arms(key: str, text: str, arms: Sequence[str]) -> list[str]:
    """The value of each arm."""
    values = text.split(",") if "," in text else [text] * len(arms)
    if len(values) != len(arms):
        raise ConfigError(f"{key}:={text}", f"{len(values)} values for the arms {', '.join(arms)}", "give one for each, or one")
    return values


def _node(graph: GraphSpec, name: str, arm: str, parameters: Sequence[Path], python: str) -> Node:
    spec = graph.nodes[name]
    arms = [{"arms": list(graph.arms)}] if serves_arms(graph, name) else []
    return Node(
        package="irevla_ros", executable=spec.program or name, name=name, namespace=arm, output="screen",
        parameters=[*map(str, parameters), *arms], remappings=list(spec.remap.items()),
        prefix=python if spec.heavy and python else None, respawn=True, respawn_delay=RESPAWN_S,
        sigterm_timeout=str(PATIENCE_S), sigkill_timeout=str(PATIENCE_S),
    )  # fmt: skip


def _when_ended(ends_graph: bool, event: Any, context: LaunchContext) -> Any:
    """The whole graph ends with a node whose work it was, and with one that was told something wrong."""
    if event.returncode == CONFIGURATION:
        return EmitEvent(event=Shutdown(reason=f"{event.process_name} was told something wrong: see its error above"))
    done = ends_graph and event.returncode == 0
    return EmitEvent(event=Shutdown(reason=f"{event.process_name} has finished")) if done else None


def _argument(option: str) -> str:
    """The launch argument of a command line option: ``--tls-ca`` is ``tls_ca``."""
    return option.lstrip("-").replace("-", "_")


def _text(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _parameter(key: str, text: str, default: Any) -> str:
    if isinstance(default, bool) and text not in ("true", "false"):
        raise ConfigError(f"{key}:={text}", "it is true or false", "give one of them")
    return f"{key}:={json.dumps(text) if isinstance(default, str) else text}"
