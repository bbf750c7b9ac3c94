"""One process works in a folder at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path

from irevla_ros.core.errors import BusyError
from irevla_ros.jobs.jsonfile import writing


class FolderLock:
    """Held until ``release``, or until the process ends: the system lets go of it then.

    Raises ``BusyError`` when another process holds it; ``what`` and ``remedy`` go into its message.
    """

    def __init__(self, folder: Path, what: str, remedy: str) -> None:
        path = folder / "lock"
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise BusyError(f"{what} {folder}", "another process works in this folder", remedy) from None

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
