"""Configuration: frozen dataclasses say what exists and check it; YAML files and ``a.b=3`` overrides only fill them.

Understood field types: bool, int, float, str, Path, Enum (by value), Literal, None, unions, ``tuple[T, ...]``,
``tuple[A, B]``, ``Mapping[str, T]`` and nested dataclasses. A nested dataclass keeps the values of its field's default
for the keys that are not given; tuples and mappings are replaced as a whole.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union

import yaml

from irevla_ros.core.errors import ConfigError, IrevlaError, unknown_name

C = TypeVar("C")
CONFIG_FOLDER = Path(__file__).resolve().parent.parent / "config"


def find_config(name_or_path: str | Path, kind: str = "") -> Path:
    """A YAML file given by path, or by the bare name of one that ships in ``config/<kind>/`` of the package.

    Raises ConfigError with the nearest shipped names.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    folder = CONFIG_FOLDER / kind
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(f"configuration {str(path)!r}", "no such file", "check the path and the working directory")
    shipped = folder / f"{path}.yaml"
    if not shipped.is_file():
        raise unknown_name(kind.rstrip("s") or "configuration", str(path), (p.stem for p in folder.glob("*.yaml")))
    return shipped


def load_config(cls: type[C], path: str | Path | None = None, overrides: Sequence[str] = ()) -> C:
    """Build ``cls``, a frozen dataclass, from its defaults, then a YAML file, then overrides such as ``ppo.lr=1e-4``.

    Raises ConfigError that names file (or override), dotted key, value and what is required.
    """
    tree = read_yaml(Path(path)) if path is not None else {}
    source = str(path) if path is not None else "command line"
    for text in overrides:
        _apply_override(tree, text)
    return config_from(cls, tree, source)


def config_from(cls: type[C], tree: object, source: str) -> C:
    """Build ``cls`` from plain dictionaries, lists, strings and numbers; ``source`` names their origin in errors.

    Raises ConfigError that names source, dotted key, value and what is required.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source} holds a {type(tree).__name__}", "a configuration is a mapping", "write keys and values")
    config: C = _Builder(cls, source).dataclass(cls, tree, "", None)
    return config


def build_config(cls: type[C], tree: Mapping[str, Any], source: str) -> C:
    """``cls`` from plain values, as a YAML file would give them; ``source`` says in errors where they come from."""
    config: C = _Builder(cls, source).dataclass(cls, tree, "", None)
    return config


def to_dict(config: object) -> dict[str, Any]:
    """A configuration as plain dictionaries, lists, strings and numbers: what YAML and JSON can hold."""
    assert dataclasses.is_dataclass(config)
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def dump_yaml(config: object) -> str:
    """YAML text from which ``load_config`` rebuilds an equal configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, default_flow_style=None, width=120)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML would silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if any(key.value == earlier.value for earlier in keys[:index]):
                problem = f"key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[Any, Any]:
    """A YAML mapping; {} for an empty file. Raises ConfigError on anything else, and on a key that is given twice."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.load(text, Loader=_UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror})", "check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8 text", "save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(str(path), f"is not valid YAML ({line}{error.problem})", "correct that line") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(str(path), f"is not valid YAML ({reason})", "correct it") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds a {type(tree).__name__}", "a configuration is a mapping",
                          "write `key: value` lines")  # fmt: skip
    return tree


@dataclasses.dataclass(frozen=True)
class _Typed:
    """The right side of an override: its meaning depends on the field's type (``name=12`` is text for a str)."""

    text: str
    override: str

    @property
    def source(self) -> str:
        return f"override {self.override!r}"

    def parsed(self) -> Any:
        try:
            return yaml.safe_load(self.text)
        except yaml.YAMLError:
            return self.text


class _Patch(dict[Any, Any]):
    """A mapping that only overrides mention: it adds to the default instead of replacing it."""


def _apply_override(tree: dict[Any, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {text!r}", "an override is key=value with a dotted key",
                          "write for example ppo.epochs=4")  # fmt: skip
    for part in parts[:-1]:
        if not isinstance(tree.get(part), dict):
            tree[part] = _Patch()
        tree = tree[part]
    tree[parts[-1]] = _Typed(value.strip(), text)


class _Builder:
    """Turns a tree of plain values into dataclasses, checking each value against the type of its field."""

    def __init__(self, root: type, source: str) -> None:
        self.root = root
        self.source = source

    def dataclass(self, cls: Any, tree: Mapping[Any, Any], where: str, base: Any) -> Any:
        """``cls`` from the keys of ``tree``, the rest from the instance ``base`` or, without one, the defaults."""
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        for key in tree:
            if key not in fields:
                self.unknown_key(cls, str(key), tree[key], where)
        values = {}
        for name, field in fields.items():
            default = getattr(base, name) if base is not None else _default(field)
            if name in tree:
                values[name] = self.value(hints[name], tree[name], _join(where, name), default)
            elif default is not dataclasses.MISSING:
                values[name] = default
            else:
                raise ConfigError(f"{self.source}: key {_join(where, name)!r}", "is required and missing",
                                  f"add it, as {_describe(hints[name])}")  # fmt: skip
        try:
            return cls(**values)
        except IrevlaError as error:
            sources = [self.source] + [v.source for v in tree.values() if isinstance(v, _Typed)]
            place = " with ".join(sources) + (f": {where}" if where else "")
            raise ConfigError(f"{place}: {error.value}", error.rule, error.remedy) from None

    def value(self, hint: Any, value: Any, where: str, default: Any) -> Any:
        """``value`` as an instance of the type ``hint``; ``default`` completes nested dataclasses."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (Union, types.UnionType):
            return self.union(arguments, value, where, default, hint)
        if origin is Literal:
            plain = _plain_value(value)
            matches = [a for a in arguments if a == plain and type(a) is type(plain)]
            matches += [a for a in arguments if isinstance(value, _Typed) and a == value.text]
            return matches[0] if matches else self.wrong(hint, value, where)
        if hint is str and isinstance(value, _Typed):
            return value.text
        if hint is Any:
            return _plain_value(value)
        if isinstance(value, _Typed):
            return _Builder(self.root, value.source).value(hint, value.parsed(), where, default)
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                self.wrong(hint, value, where)
            return self.dataclass(hint, value, where, default if isinstance(default, hint) else None)  # type: ignore[arg-type]
        if origin is tuple:
            return self.tuple(arguments, value, where, hint)
        if origin in (Mapping, dict):
            return self.mapping(arguments[1], value, where, default, hint)
        return self.scalar(hint, value, where)

    def union(self, members: Sequence[Any], value: Any, where: str, default: Any, hint: Any) -> Any:
        plain = _plain_value(value)
        if plain is None and type(None) in members:
            return None
        rest = [m for m in members if m is not type(None)]
        if len(rest) == 1:
            return self.value(rest[0], value, where, default)
        # The member of the default first, so that partial keys complete it; text last, which would take anything.
        rest.sort(key=lambda m: (not (dataclasses.is_dataclass(m) and type(default) is m), m is str))
        # A number is not text and an int is not a float, unless no member is a better match.
        rest.sort(key=lambda m: m is not type(plain))
        for member in rest:
            try:
                return self.value(member, value, where, default)
            except ConfigError:
                continue
        return self.wrong(hint, value, where)

    def tuple(self, members: Sequence[Any], value: Any, where: str, hint: Any) -> Any:
        if not isinstance(value, list):
            self.wrong(hint, value, where)
        if len(members) == 2 and members[1] is Ellipsis:
            members = (members[0],) * len(value)
        if len(members) != len(value):
            self.wrong(hint, value, where)
        items = zip(members, value, strict=True)
        return tuple(self.value(m, v, f"{where}[{i}]", None) for i, (m, v) in enumerate(items))

    def mapping(self, member: Any, value: Any, where: str, default: Any, hint: Any) -> Any:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            self.wrong(hint, value, where)
        base = dict(default) if isinstance(default, Mapping) else {}
        items = {k: self.value(member, v, _join(where, k), base.get(k)) for k, v in value.items()}
        return {**base, **items} if isinstance(value, _Patch) else items

    def scalar(self, hint: Any, value: Any, where: str) -> Any:
        if hint is float and not isinstance(value, bool) and isinstance(value, (int, float, str)):
            try:
                number = float(value)  # text too: YAML 1.1 reads 1e-3, without a point, as text
            except (ValueError, OverflowError):
                self.wrong(hint, value, where)
            if not math.isfinite(number):
                raise ConfigError(f"{self.source}: {where} = {number}", "a finite number is required", "give one")
            return number
        if hint is Path and isinstance(value, str):
            return Path(value)
        if isinstance(hint, type) and issubclass(hint, Enum) and value in [m.value for m in hint]:
            return hint(value)
        if hint in (bool, int, str) and type(value) is hint:
            return value
        return self.wrong(hint, value, where)

    def wrong(self, hint: Any, value: Any, where: str) -> NoReturn:
        plain = _plain_value(value)
        source = value.source if isinstance(value, _Typed) else self.source
        raise ConfigError(f"{source}: {where} = {plain!r}", f"{_describe(hint)} is required",
                          f"found {_describe(type(plain))}" + _nearest(hint, plain))  # fmt: skip

    def unknown_key(self, cls: Any, key: str, value: Any, where: str) -> NoReturn:
        known = [field.name for field in dataclasses.fields(cls) if field.init]
        source = value.source if isinstance(value, _Typed) else self.source
        near = [_join(where, name) for name in difflib.get_close_matches(key, known, n=3, cutoff=0.6)]
        near = near or [path for path in _keys(self.root) if path.rpartition(".")[2] == key]
        options = " or ".join(map(repr, near[:3]))
        remedy = f"did you mean {options}?" if near else f"choose one of: {', '.join(known)}"
        raise ConfigError(f"{source}: key {_join(where, key)!r}", f"no such key in {cls.__name__}", remedy)


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _plain_value(value: Any) -> Any:
    return value.parsed() if isinstance(value, _Typed) else value


def _keys(cls: Any, prefix: str = "") -> Iterator[str]:
    """All dotted keys of a dataclass and of the dataclasses nested in it."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield prefix + field.name
        for member in (hints[field.name], *typing.get_args(hints[field.name])):
            if dataclasses.is_dataclass(member):
                yield from _keys(member, f"{prefix}{field.name}.")


def _describe(hint: Any) -> str:
    """A type in words, for an error message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(a) for a in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"a list of {_describe(arguments[0])}"
        return f"a list of exactly {len(arguments)}: " + ", ".join(_describe(a) for a in arguments)
    if origin in (Mapping, dict):
        return f"a mapping of names to {_describe(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return f"a mapping ({hint.__name__})"  # type: ignore[union-attr]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(repr(m.value) for m in hint)
    words = {bool: "true or false (bool)", int: "a whole number (int)", float: "a number (float)", str: "text (str)",
             Path: "a path", list: "a list", dict: "a mapping"}  # fmt: skip
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _nearest(hint: Any, value: Any) -> str:
    """For a misspelt choice: the choices near to it."""
    choices = list(typing.get_args(hint)) if typing.get_origin(hint) is Literal else []
    if isinstance(hint, type) and issubclass(hint, Enum):
        choices = [m.value for m in hint]
    near = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
