"""A disk that may lose power: what a program writes is logged, and any state that a crash may legally leave can be made.

Legal, as POSIX promises and no more: a file's bytes since its last sync may be there or not, block by block and in any order;
its length may be any that it had since; a name that was made, renamed or removed since the folder's last sync is as before or
after, each for itself, a rename as a whole. What was synced is there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BLOCK = 512


@dataclass
class File:
    """An inode. durable: as of its last sync; writes since: (offset, bytes), or (length, None) where it was cut."""

    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    writes: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, at: int, data: bytes) -> None:
        self.now[len(self.now) : at] = bytes(max(0, at - len(self.now)))
        self.now[at : at + len(data)] = data
        self.writes.append((at, data))

    def cut(self, length: int) -> None:
        del self.now[length:]
        self.writes.append((length, None))

    def sync(self) -> None:
        self.durable, self.writes = bytes(self.now), []

    def after_crash(self, rng: random.Random) -> bytes:
        """One of the legal contents."""
        found, longest = bytearray(self.durable), len(self.durable)
        for at, data in self.writes:
            if data is None:
                if rng.random() < 0.5:
                    del found[at:]
                continue
            for start in range(0, len(data), BLOCK):
                piece = data[start : start + BLOCK]
                longest = max(longest, at + start + len(piece))
                if rng.random() < 0.5:
                    found[len(found) : at + start] = bytes(max(0, at + start - len(found)))  # a hole reads as zeros
                    found[at + start : at + start + len(piece)] = piece
        if self.writes and rng.random() < 0.3:
            found += bytes(max(0, longest - len(found)))  # the length is there, the bytes are not
        return bytes(found)


Names = dict[str, File]


class Disk:
    """One folder. ``crash`` gives a legal state; the log goes on."""

    def __init__(self) -> None:
        self.names: Names = {}
        self._durable: Names = {}
        self._changes: list[Callable[[Names], object]] = []

    def change(self, apply: Callable[[Names], object]) -> None:
        apply(self.names)
        self._changes.append(apply)

    def sync_folder(self) -> None:
        self._durable, self._changes = dict(self.names), []

    def crash(self, rng: random.Random) -> dict[str, bytes]:
        names = dict(self._durable)
        for apply in self._changes:
            if rng.random() < 0.5:
                apply(names)
        return {name: file.after_crash(rng) for name, file in names.items()}


@contextmanager
def logged(monkeypatch: pytest.MonkeyPatch, root: Path, every: Callable[[Disk], object]) -> Iterator[Disk]:
    """Follows what this process does to files in ``root``; ``every(disk)`` is called after each operation on them."""
    disk, open_files, folders = Disk(), dict[int, File](), set[int]()
    real = {name: getattr(os, name) for name in ("open", "close", "write", "ftruncate", "replace", "unlink")}

    def inside(path: Any) -> str | None:
        path = Path(path)
        return path.name if path.parent == root else None

    def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
        fd: int = real["open"](path, flags, *more, **named)
        name = inside(path)
        if name is not None and flags & (os.O_WRONLY | os.O_RDWR):
            if name not in disk.names:
                new = File()
                disk.change(lambda names: names.setdefault(name, new))
            open_files[fd] = disk.names[name]
        elif Path(path) == root:
            folders.add(fd)
        return fd

    def closed(fd: int) -> None:
        open_files.pop(fd, None)
        folders.discard(fd)
        real["close"](fd)

    def wrote(fd: int, data: Any) -> int:
        at = os.lseek(fd, 0, os.SEEK_CUR) if fd in open_files else 0
        count: int = real["write"](fd, data)
        if fd in open_files:
            open_files[fd].write(at, bytes(data[:count]))
            every(disk)
        return count

    def cut(fd: int, length: int) -> None:
        real["ftruncate"](fd, length)
        if fd in open_files:
            open_files[fd].cut(length)
            every(disk)

    def synced(fd: int) -> None:
        if fd not in open_files and fd not in folders:
            return  # another folder's: what is looked at, not what is tested
        every(disk)  # just before: nothing of it is promised yet
        if fd in open_files:
            open_files[fd].sync()
        else:
            disk.sync_folder()
        every(disk)

    def replaced(source: Any, target: Any) -> None:
        real["replace"](source, target)
        if inside(source) is not None:
            file = disk.names[Path(source).name]

            def apply(names: Names) -> None:
                names.pop(Path(source).name, None)
                names[Path(target).name] = file

            disk.change(apply)
            every(disk)

    def removed(path: Any, *more: Any, **named: Any) -> None:
        real["unlink"](path, *more, **named)
        if inside(path) is not None:
            disk.change(lambda names: names.pop(Path(path).name, None))
            every(disk)

    with monkeypatch.context() as patch:
        for name, wrapper in {"open": opened, "close": closed, "write": wrote, "ftruncate": cut, "fsync": synced,
                              "fdatasync": synced, "replace": replaced, "unlink": removed}.items():  # fmt: skip
            patch.setattr(os, name, wrapper)
        yield disk
