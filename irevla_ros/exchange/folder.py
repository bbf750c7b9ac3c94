"""A folder that appears whole: written beside its name, put on the disk, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irevla_ros.core.errors import BusyError, DataError
from irevla_ros.data.files import disk_errors
from irevla_ros.disk.files import lock_folder, sync_folder


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Gives a folder to write to; ``out`` is there, with all of it, once the block has ended without an error.

    After kill -9 ``.NAME.pending`` is left, which the next export of that name removes.

    Raises:
        DataError: ``out`` exists, or the disk refuses. BusyError: somebody is writing it now.
    """
    if out.exists():
        raise DataError(f"{out}", "it exists, and an export is a folder of its own", "choose another name, or delete it")
    pending = out.with_name(f".{out.name}.pending")
    with disk_errors(out):
        pending.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(pending)
        if lock is None:
            raise BusyError(f"{out}", "another process is exporting to it", "wait for it, or choose another name")
        try:
            for left in pending.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield pending
            for folder, _, files in os.walk(pending):
                for name in files:
                    _sync_file(Path(folder) / name)
                sync_folder(Path(folder))
            os.rename(pending, out)
            sync_folder(out.parent)
        except BaseException:
            shutil.rmtree(pending, ignore_errors=True)
            raise
        finally:
            os.close(lock)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
