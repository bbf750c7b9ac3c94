"""Which processes make a graph: read from one YAML file by `irevla up` and by the launch files alike.

::

    arms: [arm0, arm1]            # one namespace each; [""] is one arm without a namespace
    nodes:
      sim:     {side: robot}      # one process for each arm
      arbiter: {side: robot, stop_first: true}
      policy:  {each: graph, heavy: true}

Parameters of the nodes are not said here but in standard ROS parameter files, which both pass on as they are.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from irevla_ros.core.config import find_config, load_config
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.parameters.reading import check_arms, parameter_names

_NODE = re.compile(r"[a-z][a-z0-9_]*")
SIDES = ("robot", "gpu")
COLLECTION = "collection"  # the parameter file that makes a graph collect


@dataclass(frozen=True)
class NodeSpec:
    """One node of the graph.

    side: of a graph over two hosts: the robot's, with the arm and its sensors, or that of policy and disk.
    each: a process for each ``arm``, or one for the whole ``graph``. program: the node's module in ``irevla_ros.nodes`` and
    its `ros2 run` name, where it is not the key of the mapping (two cameras). heavy: needs torch, so it runs under the Python
    that was named for such nodes. stop_first: is stopped before all others, because it then sends the safe command. front:
    needs a terminal and gets that of `irevla up`, in whose process it runs; a launch file leaves it out. ends_graph: once it
    has ended with exit code 0, its work is done and the whole graph stops. remap: relative name -> name. A node of the whole
    graph that has the parameter ``arms`` is told the namespaces.
    """

    each: Literal["arm", "graph"] = "arm"
    side: Literal["robot", "gpu"] = "gpu"
    program: str = ""
    heavy: bool = False
    stop_first: bool = False
    ends_graph: bool = False
    front: bool = False
    remap: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphSpec:
    """The nodes by name, started in this order, and the namespaces of the arms."""

    nodes: Mapping[str, NodeSpec]
    arms: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ConfigError("a graph without nodes", "at least one is needed", "list them under `nodes`")
        check_arms(self.arms)
        for name in (*self.nodes, *(spec.program for spec in self.nodes.values() if spec.program)):
            if not _NODE.fullmatch(name):
                raise ConfigError(f"node {name!r}", "a node's name is lower-case letters, digits and _", "rename it")

    @property
    def front(self) -> str:
        """The node that gets the terminal, "" for none. Raises ConfigError for several, or for several arms."""
        found = [name for name, spec in self.nodes.items() if spec.front]
        if len(found) > 1 or (found and len(self.arms) > 1):
            raise ConfigError(f"nodes in front {found} for arms {list(self.arms)}", "there is one terminal, for one arm",
                              "leave `front` out, and start them in terminals of their own")  # fmt: skip
        return found[0] if found else ""

    def without(self, names: Collection[str]) -> GraphSpec:
        """The other nodes."""
        return replace(self, nodes={name: spec for name, spec in self.nodes.items() if name not in names})

    def half(self, side: str) -> GraphSpec:
        """The nodes of one of two hosts (``SIDES``), and first the one that tells the other host this one's time."""
        nodes = {name: spec for name, spec in self.nodes.items() if spec.side == side}
        if not nodes:
            raise ConfigError(f"side {side!r}", f"no node of this graph is there: {', '.join(self.nodes)}",
                              f"give those that belong there `side: {side}`")  # fmt: skip
        return replace(self, nodes={f"{side}_clock": NodeSpec(each="graph", program="clock"), **nodes})


@dataclass(frozen=True)
class ProcessSpec:
    """One process to run. name: unique in the graph, such as ``arm0/policy``; argv: the program and its arguments."""

    name: str
    argv: tuple[str, ...]
    stop_first: bool = False
    ends_graph: bool = False


def load_graph(name_or_path: str | Path, overrides: Sequence[str] = ()) -> GraphSpec:
    """A graph by the name of a shipped one or by the path of its YAML file; overrides such as ``arms=[a,b]``."""
    return load_config(GraphSpec, find_config(name_or_path, "graphs"), overrides)


def serves_arms(graph: GraphSpec, name: str) -> bool:
    """Whether node ``name`` is told the namespaces of the arms."""
    spec = graph.nodes[name]
    return spec.each == "graph" and "arms" in parameter_names(spec.program or name)


def ros_arguments(graph: GraphSpec, name: str, arm: str, parameters: Sequence[Path] = (),
                  extra: Sequence[str] = ()) -> list[str]:  # fmt: skip
    """What follows `--ros-args` for node ``name`` of ``arm``: namespace, node name, remaps, parameter files, then ``extra``."""
    spec = graph.nodes[name]
    arguments = ["-r", f"__node:={name}"]
    if arm and spec.each == "arm":
        arguments += ["-r", f"__ns:=/{arm}"]
    for before, after in spec.remap.items():
        arguments += ["-r", f"{before}:={after}"]
    for path in parameters:
        arguments += ["--params-file", str(path)]
    if serves_arms(graph, name):
        arguments += ["-p", f"arms:={json.dumps(graph.arms)}"]
    return [*arguments, *extra]


def processes(graph: GraphSpec, parameters: Sequence[Path] = (), *, python: str = sys.executable, heavy_python: str = "",
              extra: Sequence[str] = ()) -> list[ProcessSpec]:  # fmt: skip
    """The processes of ``graph`` but for the one in front, in starting order, each as
    `python -m irevla_ros.nodes.<program> --ros-args ...`."""
    found = []
    for name, spec in graph.nodes.items():
        if spec.front:
            continue
        interpreter = heavy_python if spec.heavy and heavy_python else python
        for arm in graph.arms if spec.each == "arm" else ("",):
            argv = (interpreter, "-m", f"irevla_ros.nodes.{spec.program or name}", "--ros-args",
                    *ros_arguments(graph, name, arm, parameters, extra))  # fmt: skip
            found.append(ProcessSpec(f"{arm}/{name}" if arm else name, argv, spec.stop_first, spec.ends_graph))
    return found
