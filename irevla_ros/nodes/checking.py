"""The parameters of a whole graph, before anything is started: no name that nobody has, no value that a node would refuse."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.graph import GraphSpec, ros_arguments
from irevla_ros.nodes.parameters.reading import parameter_names, read_settings, reader_of
from irevla_ros.ros.embedded.arguments import parse
from irevla_ros.ros.given import in_file, of_every_node

ALIKE = ("dry_run", "lock_step", "rate_hz")  # a graph where one node thinks otherwise moves, waits or records something else


def check_names(graph: GraphSpec, files: Sequence[Path]) -> None:
    """Raises ConfigError for a section that is for no node of ``graph``, and for a name that no node of a section has."""
    for given in (section for path in files for section in in_file(path)):
        covered = {node for full_name, node, _ in _processes(graph) if given.covers(full_name)}
        if not covered:
            raise ConfigError(f"{given.where}: parameters of {given.pattern}", "no such node in this graph",
                              f"its nodes are {', '.join(graph.nodes)}")  # fmt: skip
        for name in given.values:
            require_declared(graph, covered, name, f"{given.where}, {given.pattern}")


def require_declared(graph: GraphSpec, nodes: Iterable[str], name: str, where: str) -> list[str]:
    """Those of ``nodes`` that have the parameter ``name``. Raises ConfigError, naming ``where``, when none has."""
    nodes = sorted(nodes)
    found = [node for node in nodes if of_every_node(name) or name in _names(graph, node)]
    if found:
        return found
    owners = {one: [node for node in graph.nodes if one in _names(graph, node)]
              for one in frozenset[str]().union(*(_names(graph, node) for node in graph.nodes))}  # fmt: skip
    near = difflib.get_close_matches(name, sorted(owners), n=2, cutoff=0.5)
    whose = nodes[0] if len(nodes) == 1 else "no node of this graph"
    options = " or ".join(f"{one!r} (of {', '.join(owners[one])})" for one in near)
    raise ConfigError(f"{where}: parameter {name!r}", f"{whose} has {'no such' if len(nodes) == 1 else 'this'} parameter",
                      f"did you mean {options}?" if near else "irevla_ros/nodes/parameters has them all")  # fmt: skip


def check_values(graph: GraphSpec, files: Sequence[Path]) -> dict[str, Any]:
    """Full name of each process -> what it is set to. Raises ConfigError for a value that it would refuse, and where nodes
    differ in what they have to agree on; what only the running node can see is left to it."""
    found: dict[str, Any] = {}
    said: dict[str, tuple[str, Any]] = {}
    for full_name, node, arm in _processes(graph):
        given = parse(["--ros-args", *ros_arguments(graph, node, arm, files)]).overrides(full_name)
        reader = reader_of(f"parameters of {full_name}", given)
        found[full_name] = read_settings(graph.nodes[node].program or node, reader)
        for name in (name for name in ALIKE if name in reader.names):
            other, value = said.setdefault(name, (full_name, reader.names[name]))
            if value != reader.names[name]:
                raise ConfigError(f"parameters of {full_name}: {name} = {reader.names[name]}", f"{other} has {value}",
                                  f"give all nodes one value: -p {name}:=..., or under /**")  # fmt: skip
    return found


def _names(graph: GraphSpec, node: str) -> frozenset[str]:
    return parameter_names(graph.nodes[node].program or node)


def _processes(graph: GraphSpec) -> Iterator[tuple[str, str, str]]:
    """(full name, node, arm) of each."""
    for node, spec in graph.nodes.items():
        for arm in graph.arms if spec.each == "arm" else ("",):
            yield f"/{arm}/{node}" if arm else f"/{node}", node, arm
