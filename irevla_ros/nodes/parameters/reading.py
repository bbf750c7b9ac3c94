"""ROS parameters as frozen dataclasses: one parameter for each field, checked as a YAML configuration is.

Nested dataclasses become dotted names. A field in nanoseconds, ``wait_ns``, is the parameter ``wait_s`` in seconds.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TypeVar

from irevla_ros.core.config import build_config
from irevla_ros.core.durations import LONGEST, SECOND
from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.nodes import parameters

C = TypeVar("C")
S = TypeVar("S")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NAMESPACE = re.compile(rf"{_NAME.pattern}(/{_NAME.pattern})*")


class Reader:
    """``read(cls)`` builds ``cls`` from parameters; ``fixed`` are fields that are no parameters. ``names``: all it asked for.

    where: whose parameters they are, for errors. take: (name, default, description, whether it may be changed while the node
    runs: ``tuning.limit``) -> the value that was set, or the default.
    A name that several dataclasses have is one parameter, with the default of the first. ConfigError names parameter, value
    and rule.
    """

    def __init__(self, where: str, take: Callable[[str, Any, str, bool], Any]) -> None:
        self.names: dict[str, Any] = {}
        self._where, self._take = where, take

    def __call__(self, cls: type[C], **fixed: Any) -> C:
        tree: dict[str, Any] = {}
        for path, hint, default, live in _leaves(cls, cls(**fixed)):
            if path[0] in fixed:
                continue
            seconds = path[-1].endswith("_ns")
            name = ".".join((*path[:-1], f"{path[-1][:-3]}_s" if seconds else path[-1]))
            shown = _shown(default, seconds)
            if name not in self.names:
                described = f"{getattr(hint, '__name__', hint)}; default {shown}"
                self.names[name] = self._take(name, shown, described, live)
            value = self.names[name]
            if value is None or (value == shown and type(value) is type(shown)):
                continue
            branch = tree
            for part in path[:-1]:
                branch = branch.setdefault(part, {})
            branch[path[-1]] = self._nanoseconds(name, value) if seconds else _plain(value)
        tree.update(fixed)
        return build_config(cls, tree, self._where)

    def _nanoseconds(self, name: str, value: Any) -> int:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value * SECOND < LONGEST:
            return round(value * SECOND)
        raise ConfigError(f"{self._where}: {name} = {value!r}", "a time in seconds is required, not negative and finite",
                          "give 1.0, say")  # fmt: skip


@dataclass(frozen=True)
class CommonConfig:
    """run_id: of the run that this node belongs to; what another run's episode node says is then not followed."""

    run_id: str = ""


def read_node(read: Reader, settings: Callable[[Reader], S]) -> tuple[CommonConfig, S]:
    """What every node is set to, and what this one is."""
    return read(CommonConfig), settings(read)


def settings_of(program: str) -> Callable[[Reader], Any]:
    """How the node ``program`` reads its parameters. Raises ConfigError with the nearest names of nodes."""
    known = [module.name for module in iter_modules(parameters.__path__)]
    found = import_module(f"{parameters.__name__}.{program}") if program in known else None
    if not hasattr(found, "settings"):
        raise unknown_name("node", program, (name for name in known if name not in ("reading", "streams")))
    settings: Callable[[Reader], Any] = found.settings  # type: ignore[union-attr]
    return settings


@cache
def parameter_names(program: str) -> frozenset[str]:
    """Of all parameters of the node ``program``."""
    reader = Reader(program, lambda name, default, *_: default)
    read_node(reader, settings_of(program))
    return frozenset(reader.names)


def read_settings(program: str, read: Reader) -> Any:
    """What the node ``program`` makes of its parameters. Raises the ConfigError with which it would refuse them."""
    return read_node(read, settings_of(program))[1]


def reader_of(where: str, values: Mapping[str, Any]) -> Reader:
    """Reads ``values``, by the names of parameters."""
    return Reader(where, lambda name, default, *_: values.get(name, default))


def check_arms(arms: Sequence[str]) -> None:
    """Raises ConfigError unless they are namespaces of their own; one arm may be without, ``("",)``."""
    if not arms or len(set(arms)) != len(arms):
        raise ConfigError(f"arms = {list(arms)}", "each arm has a namespace of its own", "name them arm0, arm1, ...")
    for arm in arms:
        if not (arm == "" and len(arms) == 1) and not _NAMESPACE.fullmatch(arm):
            raise ConfigError(f"arm {arm!r}", "a namespace is letters, digits and _, parted by /", "name it arm0, say")


def check_cameras(cameras: Sequence[str]) -> None:
    """Raises ConfigError unless there is one, and each has a name of its own as topics have."""
    if not cameras or len(set(cameras)) != len(cameras) or not all(map(_NAME.fullmatch, cameras)):
        raise ConfigError(f"cameras = {list(cameras)}", "at least one, each once, of letters, digits and _", "give front, say")


def run_folder(run: str) -> Path:
    """The parameter ``run``; ConfigError unless it is an absolute path."""
    if not Path(run).is_absolute():
        raise ConfigError(f"run = {run!r}", "the absolute path of the run's folder is required", "set the parameter `run`")
    return Path(run)


def _leaves(cls: Any, values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any, bool]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        value = getattr(values, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(type(value), value, (*path, field.name))
        else:
            yield (*path, field.name), hints[field.name], value, "safer" in field.metadata


def _shown(default: Any, seconds: bool) -> Any:
    """The default as ROS can hold it; None for an empty list, whose type ROS could not tell."""
    if isinstance(default, Enum):
        return default.value
    if isinstance(default, tuple):
        return [_shown(item, False) for item in default] or None
    return default / SECOND if seconds and default is not None else default


def _plain(value: Any) -> Any:
    """Lists as lists: rclpy gives arrays."""
    return list(value) if not isinstance(value, (str, bytes)) and hasattr(value, "__len__") else value
