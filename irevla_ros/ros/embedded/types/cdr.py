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
_PADDING = bytearray(_HEADER)
_STORE: Any = get_typestore(Stores.EMPTY)
_FAULTS = (struct.error, SerdeError, AttributeError, IndexError, TypeError, ValueError)


class CdrError(MessageError):
    """Bytes are not the message that they are said to be, or a message cannot be written."""


def serialize(message: Message) -> bytearray:
    """The message as CDR with header. Raises CdrError where a list was filled with what does not belong there."""
    codec = _codec(message._type_name)
    try:
        written = bytearray(_HEADER + codec.getsize_cdr(0, message, _STORE))
        written[1] = 1  # little endian
        codec.serialize_cdr_le(memoryview(written)[_HEADER:], 0, message, _STORE)
    except _FAULTS as fault:
        name = message._type_name
        raise CdrError(f"{name}: {fault}", "cannot be serialised", "look at the elements of its lists") from fault
    return written


def deserialize(data: bytes | bytearray, type_name: str) -> Any:
    """The message in ``data``; numbers in the plural are writable arrays. Raises CdrError for any malformed input."""
    head = bytes(data[:2])
    if len(data) < _HEADER or head not in (_LITTLE_ENDIAN, _BIG_ENDIAN):
        raise CdrError(f"{type_name}: {len(data)} bytes, header {head.hex()}", "no CDR header", "publish CDR version 1")
    codec = _codec(type_name)
    read = codec.deserialize_cdr_le if head == _LITTLE_ENDIAN else codec.deserialize_cdr_be
    # One copy makes every array writable, and aligned: CDR aligns to the body, which starts 4 bytes into the data.
    body = memoryview(_PADDING + data)[2 * _HEADER :]
    try:
        message, end = read(body, 0, codec.cls, _STORE)
    except _FAULTS as fault:
        raise CdrError(f"{type_name}: {fault}", "malformed CDR", "look for the publisher of another type") from fault
    # Some writers pad to four bytes.
    if not end <= len(body) < end + 4:
        raise CdrError(f"{type_name}: {len(body)} bytes", f"must be {end}", "look for the publisher of another type")
    return message


@functools.cache
def _codec(type_name: str) -> Any:
    """rosbags' generated functions for a type."""
    _register(type_name)
    return _STORE.get_msgdef(type_name)


@functools.cache
def _register(type_name: str) -> None:
    """Tell rosbags of the type, under the names of the stored values, so that no property stands in between."""
    fields = definition(type_name).fields
    for field in fields:
        if field.nested:
            _register(field.base)
    _STORE.fielddefs[type_name] = ([], [("_" + field.name, _describe(field)) for field in fields])
    _STORE.types[type_name] = builder(message_class(type_name))


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
