"""CDR, little endian with the four-byte encapsulation header: rosbags' generated functions on our message classes."""

from __future__ import annotations

import functools
import struct
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import BaseDesc, FieldDesc, NameDesc
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from irevla_ros.ros.embedded.types.definitions import Field, definition
from irevla_ros.ros.embedded.types.message import Message, builder, message_class
from irevla_ros.ros.embedded.types.values import MessageError

_HEADER = 4
_LITTLE_ENDIAN, _BIG_ENDIAN = b"\x00\x01", b"\x00\x00"
_FAULTS = (struct.error, SerdeError, AttributeError, IndexError, TypeError, ValueError)


class CdrError(MessageError):
    """Bytes are not the message that they are said to be, or a message cannot be written."""


def serialize(message: Message) -> bytearray:
    """The message as CDR with header. Raises CdrError where a list was filled with what does not belong there."""
    name = message._type_name
    _register(name)
    try:
        written: bytearray = _store().serialize_cdr(message, name, little_endian=True).obj
    except _FAULTS as fault:
        raise CdrError(f"{name}: {fault}", "cannot be serialised", "look at the elements of its lists") from fault
    return written


def deserialize(data: bytes | bytearray, type_name: str) -> Any:
    """The message in ``data``; numbers in the plural are writable arrays. Raises CdrError for any malformed input."""
    _register(type_name)
    head = bytes(data[:2])
    if len(data) < _HEADER or head not in (_LITTLE_ENDIAN, _BIG_ENDIAN):
        raise CdrError(f"{type_name}: {len(data)} bytes, header {head.hex()}", "no CDR header", "publish CDR version 1")
    definition_ = _store().get_msgdef(type_name)
    read = definition_.deserialize_cdr_le if head == _LITTLE_ENDIAN else definition_.deserialize_cdr_be
    # One copy makes every array writable, and aligned: CDR aligns to the body, which starts 4 bytes into the data.
    room = bytearray(_HEADER + len(data))
    room[_HEADER:] = data
    body = memoryview(room)[2 * _HEADER :]
    try:
        message, end = read(body, 0, definition_.cls, _store())
    except _FAULTS as fault:
        raise CdrError(f"{type_name}: {fault}", "malformed CDR", "look for the publisher of another type") from fault
    # Some writers pad to four bytes.
    if not end <= len(body) < end + 4:
        raise CdrError(f"{type_name}: {len(body)} bytes", f"must be {end}", "look for the publisher of another type")
    return message


@functools.cache
def _store() -> Any:
    return get_typestore(Stores.EMPTY)


@functools.cache
def _register(type_name: str) -> None:
    """Tell rosbags of the type, under the names of the stored values, so that no property stands in between."""
    fields = definition(type_name).fields
    for field in fields:
        if field.nested:
            _register(field.base)
    store = _store()
    store.fielddefs[type_name] = ([], [("_" + field.name, _describe(field)) for field in fields])
    store.types[type_name] = builder(message_class(type_name))


def _describe(field: Field) -> FieldDesc:
    inner: BaseDesc | NameDesc
    if field.nested:
        inner = (Nodetype.NAME, field.base)
    else:
        # A byte is stored as an int from 0 to 255.
        inner = (Nodetype.BASE, ("uint8" if field.base == "byte" else field.base, field.string_bound))  # type: ignore[assignment]
    if field.array is not None:
        return (Nodetype.ARRAY, (inner, field.array))
    if field.sequence:
        return (Nodetype.SEQUENCE, (inner, field.bound))
    return inner
