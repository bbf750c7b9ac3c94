"""The supervised job: one stage 0 or 2 as a process of its own, described by a manifest, resumed after any kill.

``python -m irevla_ros.jobs.supervised_job MANIFEST`` (or ``irevla supervise MANIFEST``). Beside the manifest lie, while
it works and after: ``progress.json``, ``result.json``, ``snapshot.safetensors`` and ``arrays/`` (both gone at the end),
``lock``. Started again, it goes on; the checkpoint is the one that an undisturbed job would have written.

Exit codes: 0 done, now or before; 1 the manifest or an input is at fault, one line says why; 2 the job crashed;
130 and 143 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from irevla_ros.core.config import config_from, to_dict
from irevla_ros.core.errors import CheckpointError, ConfigError, IrevlaError
from irevla_ros.jobs.jsonfile import read_json, write_json
from irevla_ros.jobs.lock import FolderLock
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.snapshot import SNAPSHOT_S, Snapshots
from irevla_ros.jobs.supervise import lay_out, train_supervised
from irevla_ros.jobs.supervised_manifest import read_manifest
from irevla_ros.jobs.training import TrainingProgress
from irevla_ros.jobs.workers import WorkerError, WorkerPool
from irevla_ros.policy.checkpoint import checkpoint_digest

DONE, REFUSED, CRASHED = 0, 1, 2
PROGRESS_S = 1.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class JobProgress:
    """``progress.json``: ``loss`` is None before the first steps of this life; ``wall_s`` counts all lives of the job."""

    step: int
    steps: int
    loss: float | None
    wall_s: float


@dataclass(frozen=True)
class JobResult:
    """``result.json``. manifest: its digest; sha256: of the checkpoint's config.json; metrics: of the last steps."""

    manifest: str
    checkpoint: Path
    sha256: str
    metrics: Mapping[str, float]
    wall_s: float

    def holds(self) -> bool:
        """Is the checkpoint there as it was written?"""
        try:
            return checkpoint_digest(self.checkpoint) == self.sha256
        except CheckpointError:
            return False


def job_command(manifest: Path, *, die_with_parent: bool) -> list[str]:
    """The command line of the job; each manifest has a folder of its own.

    With ``die_with_parent`` the job gets SIGTERM when the *thread* that started it ends: start it from one that stays.
    """
    command = [sys.executable, "-m", "irevla_ros.jobs.supervised_job", str(manifest)]
    return [*command, "--die-with-parent"] if die_with_parent else command


def read_progress(manifest: Path) -> JobProgress | None:
    """What the job of a manifest last said; None before it has said anything. ``IrevlaError`` when it is unreadable."""
    path = manifest.parent / "progress.json"
    return config_from(JobProgress, read_json(path), str(path)) if path.is_file() else None


def read_result(manifest: Path) -> JobResult | None:
    """What the job of a manifest left; None while there is nothing, or its checkpoint is not there as it was written.

    Raises:
        ConfigError: the result in that folder is of another manifest.
    """
    path = manifest.parent / "result.json"
    if not path.is_file():
        return None
    result = config_from(JobResult, read_json(path), str(path))
    if result.manifest != read_manifest(manifest).digest():
        raise ConfigError(f"{path}", f"it is the result of another manifest than {manifest.name}",
                          "give each manifest a folder of its own")  # fmt: skip
    return result if result.holds() else None


def run_job(path: Path, *, every_s: float = SNAPSHOT_S, console: Console | None = None) -> JobResult:
    """Do what the manifest says, or go on with it; at once when it is done already.

    every_s: least time between two snapshots. Raises ``IrevlaError`` when an input is at fault, ``WorkerError`` when a
    worker died.
    """
    manifest = read_manifest(path)
    folder, console = path.parent, Console() if console is None else console
    with FolderLock(folder, "job", "wait for it"):
        if (found := read_result(path)) is not None:
            console.say(f"{found.checkpoint}: done already")
            return found
        located = manifest.located(folder)
        lay_out(located, folder / "arrays")
        report = _Report(path, manifest.training.steps, console)
        with report.bar, WorkerPool(manifest.workers) as pool:
            snapshots = Snapshots(folder / "snapshot.safetensors", manifest.digest(), every_s)
            train_supervised(located, pool, folder / "arrays", snapshots, report.note)
        result = JobResult(manifest.digest(), located.save_as, checkpoint_digest(located.save_as), report.metrics,
                           report.wall_s)  # fmt: skip
        write_json(folder / "result.json", to_dict(result))
        shutil.rmtree(folder / "arrays", ignore_errors=True)
        console.say(f"{result.checkpoint}: loss {result.metrics['loss']:.4f} after {manifest.training.steps} steps")
        return result


class _Report:
    """Keeps progress.json and the bar up to date."""

    def __init__(self, manifest: Path, steps: int, console: Console) -> None:
        self._path, self._steps = manifest.parent / "progress.json", steps
        before = read_progress(manifest)
        self._began_s = time.monotonic() - (before.wall_s if before is not None else 0.0)
        self.bar = console.progress(steps, "supervised")
        self.bar.update(0)
        self.metrics: Mapping[str, float] = {}
        self._write(before.step if before is not None else 0)

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._began_s

    def note(self, news: TrainingProgress) -> None:
        self.metrics = news.metrics
        if news.metrics:
            self.bar.update(news.step - self.bar.done, f"loss {news.metrics['loss']:.4f}")
        else:
            self.bar.resume(news.step)
        if time.monotonic() - self._written_s >= PROGRESS_S or news.step == self._steps or not news.metrics:
            self._write(news.step)

    def _write(self, step: int) -> None:
        self._written_s = time.monotonic()
        write_json(self._path, to_dict(JobProgress(step, self._steps, self.metrics.get("loss"), self.wall_s)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="JSON file that says what to train; results appear beside it")
    parser.add_argument("--snapshot-s", type=float, default=SNAPSHOT_S, metavar="S",
                        help="least time between two snapshots, seconds (%(default)s)")  # fmt: skip
    parser.add_argument("--die-with-parent", action="store_true", help="stop when the process that started this one ends")


def run(args: argparse.Namespace) -> int:
    """The exit code (above); errors go to the standard error."""
    if args.die_with_parent:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, _stop)
    try:
        run_job(args.manifest, every_s=args.snapshot_s)
        return DONE
    except WorkerError as error:
        print(f"irevla: error: {error}", file=sys.stderr)
        return CRASHED
    except IrevlaError as error:
        print(f"irevla: error: {error}", file=sys.stderr)
        return REFUSED
    except (KeyboardInterrupt, _Stopped) as stop:
        print(f"irevla: stopped; the same command goes on with {args.manifest}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, _Stopped) else signal.SIGINT)
    except Exception:
        traceback.print_exc()
        return CRASHED


class _Stopped(BaseException):
    """SIGTERM has come; no ``except Exception`` may swallow it."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough: a second one must not disturb the clearing up
    raise _Stopped


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"irevla: error: {self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(REFUSED)


def main(argv: Sequence[str] | None = None) -> int:
    parser = _Parser("python -m irevla_ros.jobs.supervised_job", description=__doc__,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
