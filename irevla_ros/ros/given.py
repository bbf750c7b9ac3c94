"""What a command line says of parameters, with where it says so; for both backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from irevla_ros.ros.embedded.arguments import parse
from irevla_ros.ros.embedded.parameter_file import Value, load_parameter_file, matches

_FILE, _PARAM = ("--params-file",), ("-p", "--param")
_MIDDLEWARE = ("use_sim_time", "start_type_description_service", "qos_overrides.")


@dataclass(frozen=True)
class Given:
    """``values`` for the nodes that ``pattern`` covers; ``where``: the file or option that gives them. shared: for whichever
    nodes there are, so that a name that one of them lacks may be another's."""

    pattern: str
    values: Mapping[str, Value]
    where: str
    shared: bool = False

    def covers(self, full_name: str) -> bool:
        return matches(self.pattern, full_name)


def of_every_node(name: str) -> bool:
    """Whether the middleware declares this parameter, for every node."""
    return name.startswith(_MIDDLEWARE)


def in_file(path: str | Path) -> list[Given]:
    """The sections of a parameter file. Raises ConfigError naming file, line and rule."""
    return [Given(pattern, values, str(path), shared=pattern.endswith("*"))
            for pattern, values in load_parameter_file(str(path))]  # fmt: skip


def on_command_line(words: Sequence[str]) -> list[Given]:
    """After --ros-args. What is given without a node is for the process's own. Raises ConfigError."""
    found, inside = list[Given](), False
    for word, value in pairwise(words):
        inside = word == "--ros-args" or (inside and word != "--")
        if inside and word in _FILE:
            found += in_file(value)
        elif inside and word in _PARAM:
            found += [Given(pattern, values, f"{word} {value}")
                      for pattern, values in parse(["--ros-args", word, value]).parameters]  # fmt: skip
    return found
