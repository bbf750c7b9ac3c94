"""Type hashes, version RIHS01 (REP-2016): SHA-256 of a type's description and of all that it refers to, as JSON.

The hash is part of every topic's key: two sides with different definitions of a type do not meet.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

from irevla_ros.ros.embedded.types.definitions import Definition, Field, definition

# type_description_interfaces/msg/FieldType
_NESTED = 1
_IDS = {
    "int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8, "uint64": 9,
    "float32": 10, "float64": 11, "bool": 15, "byte": 16, "string": 17,
}  # fmt: skip
_BOUNDED_STRING = 21
_ARRAY, _BOUNDED_SEQUENCE, _UNBOUNDED_SEQUENCE = 48, 96, 144


@functools.cache
def message_hash(type_name: str) -> str:
    """``RIHS01_`` and 64 hexadecimal digits of a message type."""
    return _hash(definition(type_name))


@functools.cache
def service_hash(type_name: str) -> str:
    """The hash of a service type: of a structure of its request, its response and its introspection event."""
    parts = {part: f"{type_name}_{part.capitalize()}" for part in ("request", "response", "event")}
    members = tuple(Field(f"{part}_message", name) for part, name in parts.items())
    event = Definition(
        parts["event"],
        (),
        (
            Field("info", "service_msgs/msg/ServiceEventInfo"),
            Field("request", parts["request"], sequence=True, bound=1),
            Field("response", parts["response"], sequence=True, bound=1),
        ),
    )
    return _hash(Definition(type_name, (), members), {parts["event"]: event})


def _hash(root: Definition, extra: dict[str, Definition] | None = None) -> str:
    known = extra or {}
    referred: dict[str, Definition] = {}
    pending = [root]
    while pending:
        for field in pending.pop().fields:
            if field.nested and field.base not in referred:
                referred[field.base] = known.get(field.base) or definition(field.base)
                pending.append(referred[field.base])
    description = {
        "type_description": _describe(root),
        "referenced_type_descriptions": [_describe(referred[name]) for name in sorted(referred)],
    }
    # json.dumps writes the separators ", " and ": " that the algorithm prescribes.
    return "RIHS01_" + hashlib.sha256(json.dumps(description).encode()).hexdigest()


def _describe(one: Definition) -> dict[str, Any]:
    return {"type_name": one.type_name, "fields": [_describe_field(field) for field in one.fields]}


def _describe_field(field: Field) -> dict[str, Any]:
    if field.nested:
        identifier = _NESTED
    elif field.base == "string" and field.string_bound:
        identifier = _BOUNDED_STRING
    else:
        identifier = _IDS[field.base]
    if field.array is not None:
        identifier += _ARRAY
    elif field.sequence:
        identifier += _BOUNDED_SEQUENCE if field.bound else _UNBOUNDED_SEQUENCE
    return {
        "name": field.name,
        "type": {
            "type_id": identifier,
            "capacity": field.array or field.bound,
            "string_capacity": field.string_bound,
            "nested_type_name": field.base if field.nested else "",
        },
    }
