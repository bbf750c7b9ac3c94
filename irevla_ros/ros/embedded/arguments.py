"""ROS arguments: ``--ros-args -r from:=to -p name:=value --params-file f.yaml --log-level debug``.

What stands before ``--ros-args``, or after a ``--`` that ends it, belongs to the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from irevla_ros.core.errors import ConfigError
from irevla_ros.ros.embedded.names import Remap, check_namespace, check_node_name
from irevla_ros.ros.embedded.parameter_file import Value, load_parameter_file, matches, parse_value

LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}
_USAGE = "use -r from:=to, -p name:=value, --params-file FILE or --log-level LEVEL after --ros-args"
_WITH_VALUE = {
    "-r": "remap", "--remap": "remap", "-p": "param", "--param": "param", "--params-file": "file",
    "--log-level": "level", "-e": "enclave", "--enclave": "enclave", "--log-config-file": "ignored",
}  # fmt: skip
_SWITCHES = {f"--{switch}-{what}-logs" for switch in ("enable", "disable") for what in ("rosout", "stdout", "external-lib")}


@dataclass(frozen=True)
class RosArguments:
    """What the command line says about nodes. ``parameters`` are (node pattern, name -> value) in order."""

    remaps: tuple[Remap, ...] = ()
    node_names: tuple[tuple[str | None, str], ...] = ()  # (node that it is for, new name)
    namespaces: tuple[tuple[str | None, str], ...] = ()
    parameters: tuple[tuple[str, Mapping[str, Value]], ...] = ()
    log_levels: Mapping[str, int] = field(default_factory=dict)  # logger name, "" for all -> severity
    rosout: bool = True
    console: bool = True
    others: tuple[str, ...] = ()  # the program's own arguments

    def node_name(self, name: str) -> str:
        return _first(self.node_names, name) or name

    def namespace(self, name: str, namespace: str) -> str:
        return _first(self.namespaces, name) or namespace

    def overrides(self, full_name: str) -> dict[str, Value]:
        """The parameter values for the node ``/namespace/name``: of several patterns that cover it the one that was named
        first for the first time is the weakest, as rclpy has it."""
        sections: dict[str, dict[str, Value]] = {}
        for pattern, values in self.parameters:
            sections.setdefault(pattern, {}).update(values)
        found: dict[str, Value] = {}
        for pattern, values in sections.items():
            if matches(pattern, full_name):
                found |= values
        return found


def parse(args: Sequence[str]) -> RosArguments:
    """Read a command line without its program name. Raises ConfigError with the usage for what ROS would refuse."""
    others: list[str] = []
    found = _Collector()
    words = iter(args)
    inside = False
    for word in words:
        if word == "--ros-args":
            inside = True
        elif not inside:
            others.append(word)
        elif word == "--":
            inside = False
        else:
            found.take(word, words)
    return RosArguments(
        tuple(found.remaps), tuple(found.node_names), tuple(found.namespaces), tuple(found.parameters),
        found.log_levels, found.rosout, found.console, tuple(others),
    )  # fmt: skip


def _first(rules: Sequence[tuple[str | None, str]], node: str) -> str | None:
    return next((new for target, new in rules if target in (None, node)), None)


class _Collector:
    def __init__(self) -> None:
        self.remaps: list[Remap] = []
        self.node_names: list[tuple[str | None, str]] = []
        self.namespaces: list[tuple[str | None, str]] = []
        self.parameters: list[tuple[str, Mapping[str, Value]]] = []
        self.log_levels: dict[str, int] = {}
        self.rosout = self.console = True

    def take(self, word: str, words: Iterator[str]) -> None:
        if word in _SWITCHES:
            self._switch(word)
            return
        kind = _WITH_VALUE.get(word)
        if kind is None:
            raise ConfigError(f"ROS argument {word!r}", "unknown", _USAGE)
        value = next(words, None)
        if value is None:
            raise ConfigError(f"ROS argument {word!r}", "needs a value", _USAGE)
        if kind == "remap":
            self._remap(value)
        elif kind == "param":
            self._param(value)
        elif kind == "file":
            self.parameters += load_parameter_file(value)
        elif kind == "level":
            self._level(value)

    def _switch(self, word: str) -> None:
        _, verb, what, *_ = word.replace("--", "-").split("-")
        if what == "rosout":
            self.rosout = verb == "enable"
        elif what == "stdout":
            self.console = verb == "enable"

    def _remap(self, text: str) -> None:
        match, separator, replacement = text.partition(":=")
        if not separator or not match or not replacement or "*" in match or "\\" in replacement:
            raise ConfigError(f"remap {text!r}", "is not [node:]from:=to with plain names", _USAGE)
        target, colon, name = match.rpartition(":")
        node = target if colon else None
        if name in ("__node", "__name"):
            self.node_names.append((node, check_node_name(replacement)))
        elif name == "__ns":
            self.namespaces.append((node, check_namespace(replacement)))
        else:
            self.remaps.append(Remap(name, replacement, node))

    def _param(self, text: str) -> None:
        match, separator, value = text.partition(":=")
        target, colon, name = match.rpartition(":")
        if not separator or not name:
            raise ConfigError(f"parameter {text!r}", "is not [node:]name:=value", _USAGE)
        # A bare node name stands for the node of that name in any namespace.
        pattern = ("/**/" + target if "/" not in target else target) if colon else "/**"
        self.parameters.append((pattern, {name: parse_value(value, f"parameter {name!r}")}))

    def _level(self, text: str) -> None:
        name, _, level = text.rpartition(":=")
        if level.lower() not in LEVELS:
            raise ConfigError(f"log level {level!r}", f"must be one of {', '.join(LEVELS)}", _USAGE)
        self.log_levels[name] = LEVELS[level.lower()]
