"""The open episode: an append-only log of framed records, each safe on its own.

A log starts with the 8 bytes ``IREVLOG1``. A record is uint32 length, uint32 CRC-32 of length and payload (both little
endian), payload. A payload is one safetensors blob whose metadata names its kind: ``episode`` (first, the metadata),
then ``observation`` and ``step`` in turn. Reading stops at the first record that is cut off or fails its CRC.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from irevla_ros.data.container import DTYPES, AnyArray
from irevla_ros.disk.files import write_all

MAGIC = b"IREVLOG1"
_FRAME = struct.Struct("<II")
_CODES = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Record:
    """kind: episode, observation or step; tensors: name -> read-only array; end: offset after the record."""

    kind: str
    tensors: Mapping[str, AnyArray]
    metadata: Mapping[str, str]
    end: int


def pack(kind: str, tensors: Mapping[str, AnyArray], metadata: Mapping[str, str]) -> bytes:
    """One framed record, ready to be appended."""
    table: dict[str, Any] = {"__metadata__": {"kind": kind, **metadata}}
    offset, body = 0, []
    for name, tensor in tensors.items():
        table[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
        body.append(tensor.tobytes())
    header = json.dumps(table, separators=(",", ":")).encode()
    payload = b"".join([struct.pack("<Q", len(header)), header, *body])
    length = struct.pack("<I", len(payload))
    return length + struct.pack("<I", zlib.crc32(payload, zlib.crc32(length))) + payload


def append(fd: int, end: int, record: bytes) -> int:
    """Writes the record at ``end`` and returns the new end; on any ``OSError`` the log is cut back to ``end``."""
    try:
        os.lseek(fd, end, os.SEEK_SET)
        write_all(fd, record)
    except OSError:
        os.ftruncate(fd, end)
        raise
    return end + len(record)


def records(log: memoryview) -> Iterator[Record]:
    """Every whole record from the start of the log, in order; stops without error at the first that is not."""
    if log[: len(MAGIC)] == MAGIC:
        yield from records_from(log, len(MAGIC))


def records_from(log: memoryview, end: int) -> Iterator[Record]:
    """As ``records``, from the record that starts at offset ``end``."""
    while end + _FRAME.size <= len(log):
        length, crc = _FRAME.unpack_from(log, end)
        payload = log[end + _FRAME.size : end + _FRAME.size + length]
        if len(payload) < max(length, 8) or zlib.crc32(payload, zlib.crc32(log[end : end + 4])) != crc:
            return
        end += _FRAME.size + length
        yield _parse(payload, end)


def _parse(payload: memoryview, end: int) -> Record:
    (length,) = struct.unpack_from("<Q", payload)
    table: dict[str, Any] = json.loads(bytes(payload[8 : 8 + length]))
    metadata: dict[str, str] = table.pop("__metadata__")
    body = payload[8 + length :]
    tensors = {}
    for name, entry in table.items():
        start, stop = entry["data_offsets"]
        tensors[name] = np.frombuffer(body[start:stop], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return Record(metadata["kind"], tensors, metadata, end)
