"""ROS parameters from a frozen dataclass: one parameter for each field, checked as a YAML configuration is.

Nested dataclasses become dotted names. A field in nanoseconds, ``wait_ns``, is the parameter ``wait_s`` in seconds.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from irevla_ros.core.config import build_config
from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.ros import Node, ParameterDescriptor

C = TypeVar("C")


def declare(node: Node, cls: type[C], **fixed: Any) -> C:
    """Declare every field of ``cls`` as a read-only parameter of ``node`` and build ``cls`` from what was set.

    ``fixed``: fields that are no parameters. ConfigError names parameter, value and rule.
    """
    tree: dict[str, Any] = {}
    for path, hint, default in _leaves(cls, cls(**fixed)):
        if path[0] in fixed:
            continue
        seconds = path[-1].endswith("_ns")
        name = ".".join((*path[:-1], f"{path[-1][:-3]}_s" if seconds else path[-1]))
        shown = _shown(default, seconds)
        descriptor = ParameterDescriptor(dynamic_typing=True, read_only=True, description=_describe(hint, shown))
        value = node.declare_parameter(name, shown, descriptor).value
        if value is None or (value == shown and type(value) is type(shown)):
            continue
        if seconds and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = round(value * SECOND)
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = list(value) if not isinstance(value, (str, bytes)) and hasattr(value, "__len__") else value
    tree.update(fixed)
    return build_config(cls, tree, f"parameters of {node.get_fully_qualified_name()}")


def run_folder(run: str) -> Path:
    """The parameter ``run``; ConfigError unless it is an absolute path."""
    if not Path(run).is_absolute():
        raise ConfigError(f"run = {run!r}", "the absolute path of the run's folder is required", "set the parameter `run`")
    return Path(run)


def _leaves(cls: Any, values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        value = getattr(values, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(type(value), value, (*path, field.name))
        else:
            yield (*path, field.name), hints[field.name], value


def _shown(default: Any, seconds: bool) -> Any:
    """The default as ROS can hold it; None for an empty list, whose type ROS could not tell."""
    if isinstance(default, Enum):
        return default.value
    if isinstance(default, tuple):
        return [_shown(item, False) for item in default] or None
    return default / SECOND if seconds and default is not None else default


def _describe(hint: Any, shown: Any) -> str:
    name = getattr(hint, "__name__", None) or str(hint)
    return f"{name}; default {shown}"
