"""Writing the metrics of a run: `metrics.csv` in long format (read by ``jobs.curves``), and TensorBoard."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from irevla_ros.jobs.curves import COLUMNS


class MetricsLogger:
    """Appends to `metrics.csv` and `tensorboard/` of a run's folder; goes on where an interrupted run ended.

    The file only grows: a run that resumes from an earlier checkpoint logs some steps again, and readers take the later
    rows. ``wall_s`` counts the seconds that the run has worked, over all its sessions; ``worked_s`` is what is known of
    earlier ones from elsewhere, since a run also works without logging a metric.
    """

    def __init__(self, run_dir: Path, clock: Callable[[], float] = time.monotonic, worked_s: float = 0.0) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        path = run_dir / "metrics.csv"
        last = _last_row(path)
        self._clock = clock
        self._offset = max(worked_s, float(last[COLUMNS.index("wall_s")]) if last else 0.0) - clock()
        self._file = path.open("a", newline="", encoding="utf-8")
        self._csv = csv.writer(self._file, lineterminator="\n")
        if last is None:
            self._file.truncate(0)
            self._csv.writerow(COLUMNS)
            self._file.flush()
        self._board = SummaryWriter(str(run_dir / "tensorboard"))

    @property
    def wall_s(self) -> float:
        """Seconds that the run has worked so far; the pauses between its sessions do not count."""
        return self._clock() + self._offset

    def log(self, step: int, metrics: Mapping[str, float], tag: str = "") -> None:
        """Write the metrics of a step, at once; TensorBoard shows them as ``tag/name``. Names are of one line."""
        wall_s = self.wall_s
        for name, value in metrics.items():
            self._csv.writerow((step, name, repr(float(value)), f"{wall_s:.3f}", tag))
            self._board.add_scalar(f"{tag}/{name}" if tag else name, float(value), step)
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self._board.close()

    def __enter__(self) -> MetricsLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _last_row(path: Path) -> list[str] | None:
    """The last whole row, or None without any; cuts off a line without end, which a killed process was writing."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    lines = content[:whole].decode("utf-8").splitlines()
    return next(csv.reader([lines[-1]])) if len(lines) > 1 else None
