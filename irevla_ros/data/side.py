"""The policy's side segment of an open episode: what it made of each observation, appended as it happens.

``<id>.side`` in the spool: framed records as in the open log (``log``), kind ``side``. It is never synced: all of it can
be computed again. The policy holds a lock on it; the recorder reads it along and removes it once the episode is sealed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from irevla_ros.core.errors import DataError
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rows import SideRecord
from irevla_ros.data import log
from irevla_ros.data.container import AnyArray
from irevla_ros.data.files import check_id, disk_errors, lock_existing
from irevla_ros.data.paths import SIDE, log_path, side_path
from irevla_ros.disk.files import write_all

KIND = "side"


class SideWriter:
    """Starts the side segment of an episode anew; every append reaches the kernel before it returns.

    Raises:
        DataError: the id is unfit, another process is writing this segment, or the disk refuses.
    """

    def __init__(self, root: Path, episode_id: str) -> None:
        self._path = side_path(root, check_id(episode_id))
        with disk_errors(self._path):
            root.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._fd, 0)
                write_all(self._fd, log.MAGIC)
            except BlockingIOError:
                os.close(self._fd)
                raise DataError(f"{self._path}", "one policy at a time writes it", "stop the other policy node") from None
            except BaseException:
                os.close(self._fd)
                raise
        self._end = len(log.MAGIC)

    def append(self, record: SideRecord) -> None:
        """Appends what the policy made of one observation. ``DataError`` when the disk refuses; the segment is as before."""
        tensors: dict[str, AnyArray] = {
            "stamp_ns": np.array(record.stamp_ns, np.int64),
            "head_version": np.array(record.head_version, np.int64),
        }
        if record.log_prob is not None:
            tensors["log_prob"] = np.array(record.log_prob, np.float32)
        if record.latents is not None:
            tensors["latents"] = record.latents
        with disk_errors(self._path):
            self._end = log.append(self._fd, self._end, log.pack(KIND, tensors, {"fingerprint": record.fingerprint}))

    def close(self) -> None:
        """Lets go of the file; it stays for the recorder to remove."""
        os.close(self._fd)


class SideReader:
    """Reads along: each ``poll`` gives the records that have been completed since the one before.

    A record cut off at the end is read once it is whole. A segment that was started anew is read anew, and one that does
    not exist yet is waited for.
    """

    def __init__(self, root: Path, episode_id: str) -> None:
        self._path = side_path(root, check_id(episode_id))
        self._fd = -1
        self._end = 0

    def poll(self) -> list[SideRecord]:
        """New whole records in order; ``DataError`` when the disk refuses."""
        with disk_errors(self._path):
            if self._fd < 0:
                try:
                    self._fd = os.open(self._path, os.O_RDONLY)
                except FileNotFoundError:
                    return []
            size = os.fstat(self._fd).st_size
            if size < self._end:
                self._end = 0
            if size == self._end:
                return []
            data = os.pread(self._fd, size - self._end, self._end)
        return self._parse(memoryview(data))

    def _parse(self, data: memoryview) -> list[SideRecord]:
        found: list[SideRecord] = []
        start = 0
        if self._end == 0:
            if data[: len(log.MAGIC)] != log.MAGIC:
                return found
            self._end = start = len(log.MAGIC)
        before = self._end - start
        for record in log.records_from(data, start):
            side = _side(record)
            if side is None:
                break
            self._end = before + record.end
            found.append(side)
        return found

    def close(self, remove: bool = False) -> None:
        """Ends the reading; ``remove`` takes the segment away. ``DataError`` when the disk refuses."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if remove:
            with disk_errors(self._path):
                self._path.unlink(missing_ok=True)


def remove_leftovers(root: Path, own: Callable[[str], bool]) -> list[str]:
    """Removes the side segments that dead policies left, of the episodes for which ``own`` is true; says which.

    Left alone: those of an open episode (its log is there), and those that a living policy holds.
    """
    removed = []
    for path in sorted(root.glob(f"*{SIDE}")):
        episode_id = path.name[: -len(SIDE)]
        if not own(episode_id) or log_path(root, episode_id).exists():
            continue
        with disk_errors(path):
            fd = lock_existing(path)
            if fd is None:
                continue
            path.unlink(missing_ok=True)
            os.close(fd)
        removed.append(episode_id)
    return removed


def _side(record: log.Record) -> SideRecord | None:
    """None for what no policy of this format wrote."""
    if record.kind != KIND:
        return None
    tensors = record.tensors
    try:
        log_prob = float(tensors["log_prob"]) if "log_prob" in tensors else None
        latents = tensors["latents"].copy() if "latents" in tensors else None
        return SideRecord(int(tensors["stamp_ns"]), int(tensors["head_version"]), log_prob, latents,
                          record.metadata["fingerprint"])  # fmt: skip
    except (KeyError, TypeError, MessageError):
        return None
