"""JSON messages between nodes: frozen dataclasses under a name and a format number, parsed strictly.

``{"message": "arbiter/step", "format": 1, ...every field...}``. Nothing is guessed: a field that is missing, unknown,
given twice, of another type or not finite makes the whole message a ``MessageError``, which names it on one line. The
receiver counts that and goes on.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import sys
import types
import typing
from collections.abc import Callable, Collection
from enum import Enum, IntEnum
from typing import Any, ClassVar, TypeVar

from irevla_ros.core.errors import IrevlaError

M = TypeVar("M", bound="Message")

MAX_LENGTH = 1 << 20  # characters
MAX_INT = (1 << 63) - 1  # what a stamp in nanoseconds, and int64 on disk, can hold
_JSON = json.JSONEncoder(allow_nan=False)
Where = str | tuple[Any, str | int]  # the place of a value: of the message, or (place of what holds it, field or index)
Decoder = Callable[[Any, Where], Any]
_REMEDY = "run the same release of irevla_ros on both sides"


class MessageError(IrevlaError):
    """A message or a record is malformed, of another format, or out of range: it is dropped and counted."""


@dataclasses.dataclass(frozen=True)
class Message:
    """Base of what travels as JSON. A subclass gives ``KIND`` (the topic's meaning) and ``FORMAT``.

    Fields may be bool, int (64 bit), float (finite), str, Enum (by value; IntEnum by lower-case name), ``T | None``,
    ``tuple[T, ...]``, ``tuple[A, B]`` and nested frozen dataclasses.
    """

    KIND: ClassVar[str]
    FORMAT: ClassVar[int] = 1

    def to_json(self) -> str:
        """One line. Raises MessageError for a number that JSON cannot carry (NaN or infinite)."""
        try:
            return _JSON.encode({"message": self.KIND, "format": self.FORMAT, **_plain(type(self), self)})
        except ValueError:
            raise MessageError(f"a message {self.KIND!r} with a number that is not finite",
                               "JSON carries finite numbers only", "send None for what is not known") from None  # fmt: skip

    @classmethod
    def from_json(cls: type[M], text: str) -> M:
        """The inverse of ``to_json``. Raises MessageError on anything that ``to_json`` of this format did not write."""
        tree = _parse(cls.KIND, text)
        kind, number = tree.pop("message", None), tree.pop("format", None)
        if kind != cls.KIND:
            raise MessageError(f"message {_short(kind)}", f"{cls.KIND!r} is expected here", "check the remapping of topics")
        if type(number) is not int or number != cls.FORMAT:
            raise MessageError(f"message {cls.KIND!r} of format {_short(number)}", f"this release reads {cls.FORMAT}", _REMEDY)
        message: M = _build(cls, tree, cls.KIND)
        return message


@functools.cache
def _encoders(cls: type) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    """How to make each field of ``cls`` plain; None where it is already."""
    return tuple((name, _encoder(hint)) for name, hint in _hints(cls).items())


def _encoder(hint: Any) -> Callable[[Any], Any] | None:
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (member for member in members if member is not type(None))
        some = _encoder(inner)
        return some and (lambda value: None if value is None else some(value))
    if origin is tuple:
        # Members of one kind, or all scalar: the message's own constructor has seen to their number.
        kinds = {_encoder(member) for member in members if member is not Ellipsis}
        if kinds == {None}:
            return list
        encode = kinds.pop()
        assert encode is not None and not kinds, f"{hint}: only tuples of scalars, or of one kind, are understood"
        each = encode
        return lambda value: [each(item) for item in value]
    if dataclasses.is_dataclass(hint):
        return lambda value: _plain(hint, value)  # type: ignore[arg-type]
    if issubclass(hint, IntEnum):
        return lambda value: value.name.lower()
    return (lambda value: value.value) if issubclass(hint, Enum) else None


def _plain(cls: type, value: Any) -> dict[str, Any]:
    fields = _encoders(cls)
    return {name: getattr(value, name) if encode is None else encode(getattr(value, name)) for name, encode in fields}


def _parse(kind: str, text: str) -> dict[str, Any]:
    if len(text) > MAX_LENGTH:
        raise MessageError(f"message {kind!r} of {len(text)} characters", f"at most {MAX_LENGTH} are read", "send less")
    try:
        tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise MessageError(f"message {kind!r}", f"it is not strict JSON ({reason})", "send what to_json gives") from None
    if not isinstance(tree, dict):
        raise MessageError(f"message {kind!r} is {_short(tree)}", "a JSON object is required", "send what to_json gives")
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key is given twice")
    return tree


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _build(cls: Any, tree: Any, where: Where) -> Any:
    if not isinstance(tree, dict):
        raise _wrong(where, tree, f"a {cls.__name__} (object)")
    decoders = _decoders(cls)
    if tree.keys() != decoders.keys():
        raise _unlike(tree, decoders, where)
    return cls(**{name: decode(tree[name], (where, name)) for name, decode in decoders.items()})


def _unlike(tree: dict[str, Any], fields: Collection[str], where: Where) -> MessageError:
    for key in tree:
        if key not in fields:
            near = difflib.get_close_matches(key[:100], fields, n=1, cutoff=0.6)
            return MessageError(f"{_path(where)} field {_short(key)}", "no such field",
                                f"did you mean {near[0]!r}?" if near else _REMEDY)  # fmt: skip
    missing = next(name for name in fields if name not in tree)
    return MessageError(f"{_path(where)} without field {missing!r}", "every field is required", _REMEDY)


@functools.cache
def _decoders(cls: type) -> dict[str, Decoder]:
    """How to read each field of ``cls``: types are looked at once, not for every message."""
    return {name: _decoder(hint) for name, hint in _hints(cls).items()}


def _decoder(hint: Any) -> Decoder:
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (member for member in members if member is not type(None))  # only T | None is understood
        some = _decoder(inner)
        return lambda value, where: None if value is None else some(value, where)
    if origin is tuple:
        return _tuple_decoder(members)
    if dataclasses.is_dataclass(hint):
        return functools.partial(_build, hint)
    if issubclass(hint, Enum):
        choices = {member.name.lower() if issubclass(hint, IntEnum) else member.value: member for member in hint}
        return functools.partial(_choose, choices)
    return functools.partial(_scalar, hint)


def _tuple_decoder(members: tuple[Any, ...]) -> Decoder:
    many = len(members) == 2 and members[1] is Ellipsis
    each = [_decoder(member) for member in members if member is not Ellipsis]

    def decode(value: Any, where: Where) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        if not many and len(value) != len(each):
            raise _wrong(where, value, f"a list of {len(each)}")
        readers = each * len(value) if many else each
        return tuple(read(item, (where, i)) for i, (read, item) in enumerate(zip(readers, value, strict=True)))

    return decode


def _choose(choices: dict[Any, Enum], value: Any, where: Where) -> Enum:
    if not isinstance(value, str) or value not in choices:
        raise _wrong(where, value, "one of " + ", ".join(map(repr, choices)))
    return choices[value]


def _scalar(hint: Any, value: Any, where: Where) -> Any:
    if hint is float and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:  # a comparison, as a huge int does not convert; NaN fails it too
            raise _wrong(where, value, "a finite number")
        return float(value)
    if type(value) is not hint:  # true is not 1, and 1.0 is not 1
        raise _wrong(where, value, {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint])
    if hint is int and abs(value) > MAX_INT:
        raise _wrong(where, value, "a whole number of 64 bits")
    return value


def _path(where: Where) -> str:
    """``arbiter/step field 'target' field 'position'[2]``: put together only when there is something to say."""
    if isinstance(where, str):
        return where
    parent, part = where
    return _path(parent) + (f"[{part}]" if isinstance(part, int) else f" field {part!r}")


def _wrong(where: Where, value: Any, wanted: str) -> MessageError:
    return MessageError(f"{_path(where)} is {_short(value)}", f"{wanted} is required", _REMEDY)


def _short(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    text = ascii(value) if isinstance(value, str) else json.dumps(value)  # ascii: no line break, no escape sequence
    return text if len(text) <= 60 else f"{text[:57]}..."
