"""Files that are either old or new, never half written; folders that know whether their writer is alive.

Locks are ``flock``: the kernel drops them with the process, however it ends. All functions raise ``OSError``; who calls
them tells a person what it means.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data``: after a kill or a power cut it holds the old bytes or the new ones, whole.

    Two writers of one path take turns. What a killed one leaves, ``.NAME.tmp``, the next one writes over.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    fd = _open_locked(temporary)
    try:
        os.ftruncate(fd, 0)
        write_all(fd, data)
        settle(fd, temporary, path)
    except BaseException:
        if still_at(fd, temporary):
            temporary.unlink()
        raise
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """``os.write`` until every byte is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def settle(fd: int, temporary: Path, final: Path) -> None:
    """Give the open file at ``temporary`` its name once its bytes are on the disk, and then sync the name too."""
    os.fsync(fd)
    os.replace(temporary, final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and creations in the folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def still_at(fd: int, path: Path) -> bool:
    """Is the open file or folder the one that now has this path?"""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def lock_folder(folder: Path) -> int | None:
    """The folder opened under its exclusive lock; None when it is gone or somebody alive holds it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if still_at(fd, folder):
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _open_locked(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if still_at(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # the one before us has given that file its name
