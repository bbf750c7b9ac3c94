"""safetensors files: written atomically, read without ever unpickling anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from irevla_ros.core.errors import CheckpointError
from irevla_ros.disk.files import write_whole

_PICKLE_SUFFIXES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}
_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zip of torch.save, bare pickle


@dataclass(frozen=True)
class TensorFile:
    """The tensors of one file by name, its string metadata, and the SHA-256 (hex) of its bytes."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    sha256: str


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data``: after a crash it holds the old bytes or the new ones, whole and on disk."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise CheckpointError(f"{path}", f"cannot be written ({error.strerror})",
                              "free space or choose another folder") from error  # fmt: skip


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a safetensors file atomically and return the SHA-256 (hex) of its bytes."""
    data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, dict(metadata))
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def refuse_pickle(path: Path) -> None:
    """``CheckpointError`` when ``path`` is named like a pickle or starts like one: loading it could run any code."""
    suspect = path.suffix in _PICKLE_SUFFIXES
    if not suspect and path.is_file():
        with open(path, "rb") as file:
            start = file.read(9)
        # Byte 8 opens the JSON header of a safetensors file, whose first bytes (a length) may look like any magic.
        suspect = start.startswith(_PICKLE_MAGIC) and start[8:] != b"{"
    if suspect:
        raise CheckpointError(f"{path}", "a pickle can run code when it is loaded, only safetensors are read",
                              "convert it with safetensors.torch.save_file on a machine that you can lose")  # fmt: skip


def read_tensors(path: Path) -> TensorFile:
    """Read a safetensors file; ``CheckpointError`` when it is missing, a pickle or damaged."""
    refuse_pickle(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}", f"cannot be read ({error.strerror})", "check the path") from error
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}", "not a whole safetensors file", "restore it from a copy") from error
    return TensorFile(tensors, header.get("__metadata__", {}), hashlib.sha256(data).hexdigest())


def load_into(module: nn.Module, file: TensorFile, path: Path, allow_missing: tuple[str, ...] = ()) -> None:
    """Copy the tensors into ``module``; ``CheckpointError`` unless names, shapes and dtypes are exactly its own.

    Tensors named in ``allow_missing`` keep their values when the file lacks them.
    """
    own = module.state_dict()
    for problem, names in (("lacks", own.keys() - file.tensors.keys() - set(allow_missing)),
                           ("has unknown", file.tensors.keys() - own.keys())):  # fmt: skip
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{path} {problem} tensor {min(names)!r}{more}",
                                  f"the tensors of {type(module).__name__} are required, no others",
                                  "use the configuration and version that wrote it")  # fmt: skip
    for name, tensor in file.tensors.items():
        if tensor.shape != own[name].shape or tensor.dtype != own[name].dtype:
            raise CheckpointError(f"{path} tensor {name!r} is {tensor.dtype} {tuple(tensor.shape)}",
                                  f"{own[name].dtype} {tuple(own[name].shape)} is required",
                                  "use the configuration and version that wrote it")  # fmt: skip
    module.load_state_dict(dict(file.tensors), strict=not allow_missing)
