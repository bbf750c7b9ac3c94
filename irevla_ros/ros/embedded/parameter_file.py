"""Parameter values as rcl reads them: YAML text on the command line, and parameter files.

YAML 1.1 as rcl understands it, which is not quite PyYAML's: ``yes``, ``on`` and ``y`` are booleans, ``1e3`` is a float,
``010`` and ``0x10`` are integers, and a list holds values of one type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from irevla_ros.core.errors import ConfigError

Value = bool | int | float | str | list[Any]

_TRUE = {"Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_SPECIAL = re.compile(r"([+-]?)\.(nan|NaN|NAN|inf|Inf|INF)")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
_STRING_TAG = "tag:yaml.org,2002:str"
_KEY = "ros__parameters"


class _Loader(yaml.SafeLoader):
    """Leaves plain scalars untyped, so that only quoted ones and those marked ``!!str`` are strings already."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return "!plain"
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


def parse_value(text: str, where: str) -> Value:
    """The value of ``name:=text``. Raises ConfigError naming ``where``."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {text!r}", "is not YAML", f"quote it ({_brief(error)})") from error
    if node is None:
        raise ConfigError(f"{where}: {text!r}", "no value", "write '' for an empty string")
    return _value(node, where)


def load_parameter_file(path: str) -> list[tuple[str, dict[str, Value]]]:
    """(node pattern, parameter -> value) in the order of the file; nested parameter names are joined by dots.

    Raises ConfigError naming file, line and rule.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"parameter file {path!r}", f"cannot be read ({error.strerror})", "check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"parameter file {path!r}", "is not YAML", f"mend it ({_brief(error)})") from error
    if root is None:
        return []
    return [(_pattern(names), values) for names, values in _nodes(root, (), path)]


def matches(pattern: str, full_name: str) -> bool:
    """Whether a node pattern covers a node: ``*`` is one token, ``**`` any number, also none."""
    parts = ["(/[^/]+)*" if token == "**" else "/" + re.escape(token).replace(r"\*", "[^/]*")
             for token in pattern.strip("/").split("/")]  # fmt: skip
    return re.fullmatch("".join(parts), full_name) is not None


def _nodes(node: yaml.Node, names: tuple[str, ...], path: str) -> Iterator[tuple[tuple[str, ...], dict[str, Value]]]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(_at(node, path), f"no {_KEY!r} below {'/'.join(names) or 'the top'}", _remedy())
    for key, child in node.value:
        if key.value != _KEY:
            yield from _nodes(child, (*names, key.value), path)
        elif not names:
            raise ConfigError(_at(key, path), f"{_KEY!r} belongs to no node", _remedy())
        elif not isinstance(child, yaml.MappingNode):
            raise ConfigError(_at(child, path), f"{_KEY!r} is not a mapping", _remedy())
        else:
            yield names, dict(_flatten(child, "", path))


def _pattern(names: tuple[str, ...]) -> str:
    return "/" + "/".join(name.strip("/") for name in names if name.strip("/"))


def _flatten(node: yaml.MappingNode, prefix: str, path: str) -> Iterator[tuple[str, Value]]:
    for key, child in node.value:
        name = prefix + key.value
        if isinstance(child, yaml.MappingNode):
            yield from _flatten(child, name + ".", path)
        else:
            yield name, _value(child, f"{_at(child, path)}, {name}")


def _value(node: yaml.Node, where: str) -> Value:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, where)
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigError(where, "a mapping is no parameter value", "use dots in the parameter's name")
    values: list[Any] = []
    for child in node.value:
        if not isinstance(child, yaml.ScalarNode):
            raise ConfigError(where, "lists of lists are no parameter values", "flatten the list")
        values.append(_scalar(child, where))
    kinds = {type(value) for value in values}
    if len(kinds) > 1:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ConfigError(f"{where}: list of {found}", "a list holds values of one type", "write 1.0 instead of 1")
    return values


def _scalar(node: yaml.ScalarNode, where: str) -> bool | int | float | str:
    text: str = node.value
    if node.tag == _STRING_TAG:
        return text
    if not text:
        raise ConfigError(where, "no value", "write '' for an empty string")
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return _integer(text, where)
    special = _SPECIAL.fullmatch(text)
    if special:
        return float(special.group(1) + special.group(2))
    return float(text) if _FLOAT.fullmatch(text) else text


def _integer(text: str, where: str) -> int | float:
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits.startswith("0") and digits[1] not in "xX"
    value = int(digits, 8 if octal else 0) * (-1 if text.startswith("-") else 1)
    # What does not fit 64 bits is read as a float, as strtoll and strtod have it.
    return value if -(2**63) <= value < 2**63 else float(text)


def _at(node: yaml.Node, path: str) -> str:
    return f"parameter file {path!r}, line {node.start_mark.line + 1}"


def _remedy() -> str:
    return f"write /**: {{{_KEY}: {{name: value}}}}"


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())
