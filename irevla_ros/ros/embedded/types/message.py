"""Python classes for message types that behave as those that rosidl generates: keyword constructor, mutable fields.

Differences: numbers in the plural are numpy arrays rather than ``array.array``, so they are replaced, not appended to.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from irevla_ros.core.errors import unknown_name
from irevla_ros.ros.embedded.types.definitions import (
    DEFAULTS,
    PLACEHOLDER,
    Definition,
    Field,
    definition,
    is_service,
    known_services,
)
from irevla_ros.ros.embedded.types.values import (
    Check,
    MessageError,
    dtype_of,
    message_check,
    plural_check,
    scalar_check,
)

_ZEROS: dict[str, Any] = {"bool": False, "string": "", "float32": 0.0, "float64": 0.0}


class Message:
    """Base of every message class. ``_type_name`` is ROS's name; ``_fields`` maps field to (check, default factory)."""

    __slots__ = ()
    _type_name: str
    _fields: dict[str, tuple[Check, Callable[[], Any]]]

    def __init__(self, **kwargs: Any) -> None:
        for name, (check, default) in self._fields.items():
            setattr(self, "_" + name, check(kwargs.pop(name)) if name in kwargs else default())
        if kwargs:
            name = next(iter(kwargs))
            problem = unknown_name("field", name, self._fields, f"of {self._type_name}")
            raise MessageError(problem.value, problem.rule, problem.remedy)

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field -> type, in rosidl's spelling, such as ``sequence<double>``."""
        fields = definition(cls._type_name).fields
        return {field.name: _spelling(field) for field in fields if field.name != PLACEHOLDER}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(getattr(self, "_" + name), getattr(other, "_" + name)) for name in self._fields)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{self._type_name.replace('/', '.')}({values})"


class ServiceType:
    """Base of every service class: ``Request`` and ``Response`` are message classes."""

    _type_name: str
    Request: type[Any]
    Response: type[Any]


@functools.cache
def message_class(type_name: str) -> type[Any]:
    """The class of a message type such as ``std_msgs/msg/String``. Raises ConfigError with the nearest names."""
    one = definition(type_name)
    fields = tuple(field for field in one.fields if field.name != PLACEHOLDER)
    slots = tuple("_" + field.name for field in one.fields)
    namespace: dict[str, Any] = {
        "__slots__": slots,
        "__doc__": f"Message type {type_name}.",
        "_type_name": type_name,
        "_fields": {field.name: (_check(one, field), _default(one, field)) for field in fields},
        **{name: bytes([value]) if base == "byte" else value for name, base, value in one.constants},
        **{field.name: _property(one, field) for field in fields},
    }
    if not fields:
        namespace["__init__"] = _empty_init
    return type(type_name.rpartition("/")[2], (Message,), namespace)


@functools.cache
def service_class(type_name: str) -> type[ServiceType]:
    """The class of a service type such as ``std_srvs/srv/Trigger``. Raises ConfigError with the nearest names."""
    if not is_service(type_name):
        raise unknown_name("service type", type_name, known_services())
    namespace: dict[str, Any] = {part: message_class(f"{type_name}_{part}") for part in ("Request", "Response")}
    return type(type_name.rpartition("/")[2], (ServiceType,), {"_type_name": type_name, **namespace})


def builder(cls: type[Any]) -> Callable[..., Any]:
    """A function that makes an instance from stored values in order, unchecked: for deserialisation."""
    # Written out, as a loop over the slots takes three times as long and a pose has five messages in it.
    values = [f"value{number}" for number in range(len(cls.__slots__))]
    lines = [f"    message.{slot} = {value}" for slot, value in zip(cls.__slots__, values, strict=True)]
    source = [f"def build({', '.join(values)}):", "    message = new(cls)", *lines, "    return message"]
    namespace: dict[str, Any] = {"cls": cls, "new": object.__new__}
    exec("\n".join(source), namespace)
    build: Callable[..., Any] = namespace["build"]
    return build


def _empty_init(self: Any, **kwargs: Any) -> None:
    setattr(self, "_" + PLACEHOLDER, 0)
    Message.__init__(self, **kwargs)


def _check(one: Definition, field: Field) -> Check:
    where = f"{one.type_name} {field.name}"
    if field.nested:
        check = message_check(message_class(field.base), where)
    else:
        check = scalar_check(field.base, field.string_bound, where)
    return plural_check(field, check, where) if field.plural else check


def _default(one: Definition, field: Field) -> Callable[[], Any]:
    if field.nested:
        cls = message_class(field.base)
        if field.plural:
            return lambda: [cls() for _ in range(field.array or 0)]
        return lambda: cls()
    if field.plural:
        if field.base == "string":
            return lambda: [""] * (field.array or 0)
        dtype = dtype_of(field.base)
        return lambda: np.zeros(field.array or 0, dtype)
    value = DEFAULTS.get(one.type_name, {}).get(field.name, _ZEROS.get(field.base, 0))
    return lambda: value


def _property(one: Definition, field: Field) -> property:
    slot = "_" + field.name
    check = _check(one, field)

    def read_byte(self: Any) -> bytes:
        return bytes([getattr(self, slot)])

    def read_bytes(self: Any) -> list[bytes]:
        return [bytes([value]) for value in getattr(self, slot)]

    def write(self: Any, value: Any) -> None:
        setattr(self, slot, check(value))

    getter: Callable[[Any], Any] = operator.attrgetter(slot)
    if field.base == "byte":
        getter = read_bytes if field.plural else read_byte
    return property(getter, write)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


def _spelling(field: Field) -> str:
    base = {"bool": "boolean", "byte": "octet", "float32": "float", "float64": "double"}.get(field.base, field.base)
    if field.nested:
        package, _, name = field.base.split("/")
        base = f"{package}/{name}"
    if field.string_bound:
        base = f"string<{field.string_bound}>"
    if field.array is not None:
        return f"{base}[{field.array}]"
    if field.sequence:
        return f"sequence<{base}, {field.bound}>" if field.bound else f"sequence<{base}>"
    return base
