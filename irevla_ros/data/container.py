"""The standard container: safetensors files whose last tensor holds the checksums of everything before it.

Layout of a safetensors file: uint64 little-endian header length, JSON header, tensor bytes without gaps. Ours orders
the tensors by element size, so that each is aligned, and ends with ``sha256``, uint8 [2, 32]: row 0 is the digest of
length and header, row 1 that of every byte before this tensor. Any safetensors library opens such a file.
Source of the layout: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irevla_ros.core.errors import DataError
from irevla_ros.data.files import sha256_prefix

CHECKSUM = "sha256"
CHECKSUM_BYTES = 64
HEADER_LIMIT = 64 << 20
DTYPES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Bytes:
    """A uint8 tensor given in pieces, so that encoded frames are never joined in memory."""

    pieces: Sequence[bytes | memoryview]

    @property
    def size(self) -> int:
        return sum(len(piece) for piece in self.pieces)


def container_chunks(
    tensors: Mapping[str, AnyArray | Bytes], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The bytes of the file, piece by piece; the last piece is the checksum tensor.

    tensors: little-endian arrays of the types in ``DTYPES``; metadata: strings only, as safetensors wants.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    order = sorted(tensors, key=lambda name: (-_dtype(tensors[name]).itemsize, name))
    offset = 0
    for name in order:
        tensor = tensors[name]
        shape, size = ([tensor.size], tensor.size) if isinstance(tensor, Bytes) else (list(tensor.shape), tensor.nbytes)
        table[name] = {"dtype": _CODES[_dtype(tensor)], "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    table[CHECKSUM] = {"dtype": "U8", "shape": [2, 32], "data_offsets": [offset, offset + CHECKSUM_BYTES]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = struct.pack("<Q", len(text)) + text
    digest = hashlib.sha256(header)
    header_digest = digest.digest()
    yield header
    for name in order:
        tensor = tensors[name]
        for piece in tensor.pieces if isinstance(tensor, Bytes) else (np.ascontiguousarray(tensor).tobytes(),):
            digest.update(piece)
            yield piece
    yield header_digest + digest.digest()


class Container:
    """A sealed file opened for reading; only its header is loaded, rows are read on demand.

    The header is checked on opening, everything else by ``verify``.

    Raises:
        DataError: the file is absent, cut off, or its header does not match its checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}", "the file must be readable",
                            "restore it or leave the episode out") from error  # fmt: skip
        try:
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        self.size = os.fstat(self._fd).st_size
        if self.size < 8 + CHECKSUM_BYTES:
            raise self.damaged(f"{self.size} bytes are too few")
        (length,) = struct.unpack("<Q", os.pread(self._fd, 8, 0))
        if not 2 <= length <= min(HEADER_LIMIT, self.size - 8 - CHECKSUM_BYTES):
            raise self.damaged(f"a header of {length} bytes does not fit the file")
        text = os.pread(self._fd, length, 8)
        trailer = os.pread(self._fd, CHECKSUM_BYTES, self.size - CHECKSUM_BYTES)
        if hashlib.sha256(struct.pack("<Q", length) + text).digest() != trailer[:32]:
            raise self.damaged("header checksum differs")
        self.digest = trailer[32:].hex()
        try:
            self.table: dict[str, Any] = json.loads(text)
            self.metadata: dict[str, str] = self.table.pop("__metadata__")
        except (ValueError, KeyError, AttributeError) as error:
            raise self.damaged(f"header is not that of safetensors ({error})") from None
        self._start = 8 + length

    def damaged(self, what: str) -> DataError:
        """The error for anything wrong with this file."""
        return DataError(f"{self.path}: {what}", "a sealed file matches its sha256 and its format",
                         "restore it from a copy or delete it (irevla episodes verify lists all damage)")  # fmt: skip

    def verify(self) -> None:
        """Reads every byte and compares with the checksum; ``DataError`` when it differs."""
        if sha256_prefix(self._fd, self.size - CHECKSUM_BYTES).hex() != self.digest:
            raise self.damaged("content checksum differs")

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> AnyArray:
        """Rows [start, stop) of a tensor as a new writable array; reads these bytes only."""
        if name not in self.table:
            raise self.damaged(f"no tensor {name!r}")
        entry = self.table[name]
        if entry["dtype"] not in DTYPES:
            raise self.damaged(f"tensor {name!r} of unknown type {entry['dtype']!r}")
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        stop = shape[0] if stop is None else stop
        row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        data = np.empty((stop - start, *shape[1:]), dtype)
        begin = self._start + entry["data_offsets"][0] + start * row_bytes
        target, done = data.reshape(-1).view(np.uint8).data, 0
        while done < data.nbytes:
            count = os.preadv(self._fd, [target[done:]], begin + done)
            if count == 0:
                raise self.damaged(f"tensor {name!r} is cut off")
            done += count
        return data

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _dtype(tensor: AnyArray | Bytes) -> np.dtype[Any]:
    return DTYPES["U8"] if isinstance(tensor, Bytes) else tensor.dtype
