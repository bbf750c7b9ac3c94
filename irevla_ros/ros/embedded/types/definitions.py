"""Definitions of the message types, from rosbags' store for Jazzy and, for what it lacks, from their text.

A definition is what the ``.msg`` file says: constants and fields in order. Services are pairs of messages.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import FieldDesc, Typesdict
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from irevla_ros.core.errors import unknown_name

# IDL knows no empty structure: an empty message carries this one byte, on the wire and in its hash.
PLACEHOLDER = "structure_needs_at_least_one_member"

_TEXTS: dict[str, str] = {
    "control_msgs/msg/GripperCommand": "float64 position\nfloat64 max_effort",
}
# Service -> (request, response).
_SERVICES: dict[str, tuple[str, str]] = {
    "std_srvs/srv/Empty": ("", ""),
    "std_srvs/srv/SetBool": ("bool data", "bool success\nstring message"),
    "std_srvs/srv/Trigger": ("", "bool success\nstring message"),
    "rcl_interfaces/srv/DescribeParameters": ("string[] names", "ParameterDescriptor[] descriptors"),
    "rcl_interfaces/srv/GetParameters": ("string[] names", "ParameterValue[] values"),
    "rcl_interfaces/srv/GetParameterTypes": ("string[] names", "uint8[] types"),
    "rcl_interfaces/srv/ListParameters": (
        "uint64 DEPTH_RECURSIVE=0\nstring[] prefixes\nuint64 depth",
        "ListParametersResult result",
    ),
    "rcl_interfaces/srv/SetParameters": ("Parameter[] parameters", "SetParametersResult[] results"),
    "rcl_interfaces/srv/SetParametersAtomically": ("Parameter[] parameters", "SetParametersResult result"),
}  # fmt: skip
# rosbags' definitions carry no default values; these are all that the types of the catalogue have.
DEFAULTS: Mapping[str, Mapping[str, float]] = {"geometry_msgs/msg/Quaternion": {"w": 1.0}}


@dataclass(frozen=True)
class Field:
    """One field: ``base`` is a primitive such as ``float64`` or a message type; ``array`` is its fixed length."""

    name: str
    base: str
    array: int | None = None  # fixed length
    sequence: bool = False
    bound: int = 0  # of the sequence; 0: none
    string_bound: int = 0  # of each string; 0: none

    @property
    def nested(self) -> bool:
        return "/" in self.base

    @property
    def plural(self) -> bool:
        return self.sequence or self.array is not None


@dataclass(frozen=True)
class Definition:
    """A message type; ``constants`` are (name, primitive, value)."""

    type_name: str
    constants: tuple[tuple[str, str, Any], ...]
    fields: tuple[Field, ...]


@functools.cache
def definition(type_name: str) -> Definition:
    """The definition of ``package/msg/Name`` or of ``package/srv/Name_Request`` and ``_Response``.

    Raises ConfigError with the nearest known names.
    """
    found = _fielddefs().get(type_name)
    if found is None:
        raise unknown_name("message type", type_name, _fielddefs())
    constants, fields = found
    return Definition(
        type_name,
        tuple((name, str(base), value) for name, base, value in constants),
        tuple(_field(name, description) for name, description in fields) or (Field(PLACEHOLDER, "uint8"),),
    )


def is_service(type_name: str) -> bool:
    return type_name in _SERVICES


def known_services() -> tuple[str, ...]:
    return tuple(_SERVICES)


@functools.cache
def _fielddefs() -> Typesdict:
    types = dict(get_typestore(Stores.ROS2_JAZZY).fielddefs)
    for name, text in _TEXTS.items():
        types |= get_types_from_msg(text, name)
    for service, texts in _SERVICES.items():
        for part, text in zip(("_Request", "_Response"), texts, strict=True):
            # rosbags reads messages only; nested names resolve in the same package either way.
            parsed = get_types_from_msg(text, service.replace("/srv/", "/msg/") + part)
            types[service + part] = next(iter(parsed.values()))
    return types


def _field(name: str, description: FieldDesc) -> Field:
    if description[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        inner, length = description[1]
        base, string_bound = _base(inner)
        if description[0] == Nodetype.ARRAY:
            return Field(name, base, array=int(length), string_bound=string_bound)
        return Field(name, base, sequence=True, bound=int(length), string_bound=string_bound)
    base, string_bound = _base(description)
    return Field(name, base, string_bound=string_bound)


def _base(description: FieldDesc) -> tuple[str, int]:
    if description[0] == Nodetype.NAME:
        return description[1], 0
    assert description[0] == Nodetype.BASE
    base, bound = description[1]
    # In a .msg file "char" is uint8 under its old name: rosidl hashes and serialises it as such.
    return ("uint8" if base == "char" else str(base)), bound
