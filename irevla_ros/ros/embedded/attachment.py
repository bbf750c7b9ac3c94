"""What travels beside each payload: sequence number, time of sending, sender. 33 bytes, Zenoh's serialisation format.

Two little-endian 64-bit integers, then the sender's 16-byte id behind its length. A response repeats the sequence number
and the sender of its request.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

_GID_SIZE = 16
_LAYOUT = struct.Struct(f"<qqB{_GID_SIZE}s")


class Attachment(NamedTuple):
    sequence: int  # from 1, per sender
    stamp_ns: int  # system time
    gid: bytes

    def pack(self) -> bytes:
        return _LAYOUT.pack(self.sequence, self.stamp_ns, _GID_SIZE, self.gid)


def stamped(sequence: int, gid: bytes) -> bytes:
    """An attachment of now, packed."""
    return _LAYOUT.pack(sequence, time.time_ns(), _GID_SIZE, gid)


def unpack(data: bytes) -> Attachment:
    """Raises ValueError for what is not an attachment."""
    if len(data) != _LAYOUT.size:
        raise ValueError(f"attachment of {len(data)} bytes, not {_LAYOUT.size}")
    sequence, stamp_ns, size, gid = _LAYOUT.unpack(data)
    if size != _GID_SIZE:
        raise ValueError(f"sender id of {size} bytes, not {_GID_SIZE}")
    return Attachment(sequence, stamp_ns, gid)
