"""The spool's own file operations: files that wait for a commit, locks of their writers, errors for people."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from irevla_ros.core.errors import DataError
from irevla_ros.disk.files import settle, still_at, sync_folder, write_all

PENDING = ".pending"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,119}")


def check_id(episode_id: str) -> str:
    """The id itself, when it is fit to name files by.

    Raises:
        DataError: it holds a path separator, a space, or anything else outside letters, digits and ``._+=-``.
    """
    if not _NAME.fullmatch(episode_id):
        raise DataError(f"episode id {episode_id!r}", "an id names files: 1 to 120 of letters, digits and ._+=-, "
                        "starting with a letter or digit", "rename the episode")  # fmt: skip
    return episode_id


def write_error(path: Path, error: OSError) -> DataError:
    """What to tell a person whose disk refused a write."""
    if error.errno in FULL:
        try:
            free = f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB free"
        except OSError:
            free = "free space unknown"
        return DataError(f"{path}: {os.strerror(error.errno or 0)} ({free})",
                         "a file is written whole or not at all",
                         "free space there and repeat the call; what was recorded before is kept")  # fmt: skip
    return DataError(f"{path}: {error.strerror or error}", "the spool must be readable and writable",
                     "check the disk, the mount and the permissions, then repeat the call")  # fmt: skip


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns any ``OSError`` of the block into a ``DataError`` about ``path``."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_chunks(fd: int, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes the chunks in order, gathered into calls of about 1 MiB."""
    pending: list[bytes | memoryview] = []
    size = 0
    for chunk in chunks:
        pending.append(chunk)
        size += len(chunk)
        if size >= 1 << 20:
            write_all(fd, b"".join(pending))
            pending, size = [], 0
    write_all(fd, b"".join(pending))


def create_locked(path: Path) -> int:
    """A new file, opened for reading and writing, under an exclusive lock that the kernel drops with this process.

    Raises:
        FileExistsError: the path exists.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if still_at(fd, path):
            return fd
        os.close(fd)  # a recovery took it for a dead writer's between the two calls and removed it


def lock_existing(path: Path) -> int | None:
    """The file under its exclusive lock, or None when it is gone or somebody alive holds it."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if still_at(fd, path):
        return fd
    os.close(fd)
    return None


def pending_of(final: Path) -> Path:
    """Where a file is written before it gets its name."""
    return final.with_name(final.name + PENDING)


def write_pending(final: Path, chunks: Iterable[bytes | memoryview], *, replace: bool, durable: bool) -> None:
    """Writes ``<final>.pending`` whole or not at all; when durable, also publishes it.

    The order is the promise: a file has its final name only after its bytes are on the disk. What is left pending is
    published by ``publish`` or, after a crash, by the spool's recovery.

    Raises:
        DataError: the disk refuses, the name is taken (unless ``replace``), or somebody is writing it now.
    """
    pending = pending_of(final)
    with disk_errors(final):
        try:
            fd = create_locked(pending)
        except FileExistsError:
            raise DataError(f"{final}", "it is being written already", "use another episode id, or commit the spool "
                            "before writing it again") from None  # fmt: skip
        try:
            if final.exists() and not replace:
                raise DataError(f"{final}", "a sealed episode never changes", "use another episode id")
            write_chunks(fd, chunks)
            if durable:
                settle(fd, pending, final)
        except BaseException:
            pending.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)


def publish(finals: Iterable[Path]) -> None:
    """Syncs the pending bytes of each file, then gives it its final name; one sync of each folder at the end."""
    folders: dict[Path, None] = {}
    for final in finals:
        with disk_errors(final):
            try:
                fd = os.open(pending_of(final), os.O_RDWR)
            except FileNotFoundError:
                continue  # a recovery in another process has published it
            try:
                os.fsync(fd)
                os.replace(pending_of(final), final)
            except FileNotFoundError:
                continue
            finally:
                os.close(fd)
            folders[final.parent] = None
    for folder in folders:
        with disk_errors(folder):
            sync_folder(folder)


def sha256_prefix(fd: int, length: int) -> bytes:
    """SHA-256 of the first ``length`` bytes of an open file, read in pieces."""
    digest, offset = hashlib.sha256(), 0
    while offset < length:
        piece = os.pread(fd, min(1 << 20, length - offset), offset)
        if not piece:
            break
        digest.update(piece)
        offset += len(piece)
    return digest.digest()
