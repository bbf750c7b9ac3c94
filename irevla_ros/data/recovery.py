"""What dead writers left behind: open logs are sealed up to their last whole step, finished writes are published."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Outcome, TerminationReason
from irevla_ros.data.assemble import read_log
from irevla_ros.data.container import Container
from irevla_ros.data.files import PENDING, disk_errors, lock_existing
from irevla_ros.data.paths import LOG, SEALED, sealed_path
from irevla_ros.data.writer import write_sealed
from irevla_ros.disk.files import settle


@dataclass(frozen=True)
class RecoveryEvent:
    """name: the file; action: recovered, published, discarded, set aside, kept or in use; detail: why, in words."""

    name: str
    action: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.action} ({self.detail})"


def recover(root: Path) -> tuple[RecoveryEvent, ...]:
    """One pass over the folder; nothing is removed before its replacement is durable, so it may be killed and repeated.

    Raises:
        DataError: the disk refuses; nothing is lost and recovery can be repeated.
    """
    events = [_recover_pending(path) for path in sorted(root.glob(f"*{PENDING}"))]
    events += [_recover_log(path) for path in sorted(root.glob(f"*{LOG}"))]
    return tuple(event for event in events if event is not None)


def _recover_pending(pending: Path) -> RecoveryEvent | None:
    final = pending.with_name(pending.name[: -len(PENDING)])
    with disk_errors(pending):
        fd = lock_existing(pending)
        if fd is None:
            return RecoveryEvent(pending.name, "in use", "being written") if pending.exists() else None
        try:
            try:
                with Container(pending) as container:
                    container.verify()
            except DataError as error:
                pending.unlink(missing_ok=True)
                return RecoveryEvent(pending.name, "discarded", f"its writer died before the end: {error.value}")
            if final.name.endswith(SEALED) and final.exists():
                pending.unlink(missing_ok=True)
                return RecoveryEvent(pending.name, "discarded", "the episode is sealed already")
            settle(fd, pending, final)
            return RecoveryEvent(final.name, "published", "written whole, not yet committed")
        finally:
            os.close(fd)


def _recover_log(path: Path) -> RecoveryEvent | None:
    episode_id = path.name[: -len(LOG)]
    final = sealed_path(path.parent, episode_id)
    with disk_errors(path):
        fd = lock_existing(path)
        if fd is None:
            return RecoveryEvent(path.name, "in use", "being recorded") if path.exists() else None
        try:
            if final.exists():
                try:
                    with Container(final) as container:
                        container.verify()
                except DataError as error:
                    return RecoveryEvent(path.name, "kept", f"its sealed file is damaged: {error.value}")
                path.unlink()
                return RecoveryEvent(path.name, "discarded", "the episode is sealed already")
            if os.fstat(fd).st_size == 0:
                path.unlink()
                return RecoveryEvent(path.name, "discarded", "empty")
            return _seal_log(fd, path, episode_id, final)
        finally:
            os.close(fd)


def _seal_log(fd: int, path: Path, episode_id: str, final: Path) -> RecoveryEvent:
    logged = read_log(fd)
    if logged is None:
        damaged = path.with_name(path.name + ".damaged")
        os.replace(path, damaged)
        return RecoveryEvent(damaged.name, "set aside", "its first record is unreadable")
    steps = len(logged.steps)
    if steps == 0:
        path.unlink()
        return RecoveryEvent(path.name, "discarded", "no whole step")
    tensors, metadata = logged.sealed(Outcome.UNKNOWN, TerminationReason.RECOVERED)
    write_sealed(episode_id, final, tensors, metadata, durable=True)
    path.unlink()
    detail = f"{steps} whole steps; {logged.unread_bytes} bytes after them dropped"
    return RecoveryEvent(final.name, "recovered", detail)
