"""What the learner of the graph lets others do: the supervised job in a process, demonstrations in simulators of its own."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from irevla_ros.core.errors import DataError, IrevlaError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.collect import collect_demonstrations
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.supervised_job import (
    DONE,
    REFUSED,
    JobProgress,
    job_command,
    read_progress,
    read_result,
)
from irevla_ros.jobs.supervised_manifest import SupervisedManifest, write_manifest
from irevla_ros.jobs.workers import WorkerError, WorkerPool
from irevla_ros.sim.suite import load_suite

LIVES = 3  # a job that crashes goes on from its snapshot
POLL_S = 0.2


def run_in_process(folder: Path, make: Callable[[], SupervisedManifest], stop: threading.Event,
                   on_progress: Callable[[JobProgress], None]) -> bool:  # fmt: skip
    """The supervised job of ``folder`` (one for each job), gone on with where it was begun; False when stopped.

    A manifest of which an episode has been judged anew since is made anew. Raises ``IrevlaError`` when an input is at
    fault, ``WorkerError`` when the job keeps crashing.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        write_manifest(folder, make())
    crashes, remade = 0, False
    while not stop.is_set():
        if read_result(path) is not None:
            return True
        code = _one_life(path, stop, on_progress)
        if code == REFUSED and not remade:
            write_manifest(folder, make())
            (folder / "result.json").unlink(missing_ok=True)
            remade = True
        elif code == REFUSED:
            raise DataError(f"supervised job {folder}", _last_line(folder / "log.txt"), "mend its inputs; the run goes on then")
        elif code != DONE:
            crashes += 1
            if crashes >= LIVES and not stop.is_set():
                raise WorkerError(f"supervised job {folder}", f"it crashed {crashes} times, exit code {code}",
                                  f"see {folder / 'log.txt'}; the run resumes where it was")  # fmt: skip
    return False


def _one_life(path: Path, stop: threading.Event, on_progress: Callable[[JobProgress], None]) -> int:
    with (path.parent / "log.txt").open("ab") as log:
        job = subprocess.Popen(job_command(path, die_with_parent=True), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while True:
                try:
                    return job.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    if stop.is_set():
                        return -1
                    if (progress := read_progress(path)) is not None:
                        on_progress(progress)
        finally:
            if job.poll() is None:
                job.terminate()
                job.wait()


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("irevla: error: ") if lines else "it says nothing"


class ExpertCollector:
    """Fills the spool of demonstrations in a thread, at low priority, while the arms practise."""

    def __init__(self, spool: Spool, config: RunConfig, console: Console) -> None:
        self._spool, self._config, self._console = spool, config, console
        self._tasks = [task.name for task in load_suite(config.scene.suite).expert]
        self._fault: IrevlaError | None = None
        self._closed = False
        self._pool: WorkerPool | None = None
        self._thread: threading.Thread | None = None
        if self.missing():
            self._thread = threading.Thread(target=self._run, name="expert", daemon=True)
            self._thread.start()

    def missing(self) -> int:
        """Demonstrations that are still lacking; none where they were collected by hand."""
        if self._config.demonstrations:
            return 0
        reader = SpoolReader(self._spool.root)
        return sum(max(0, self._config.demos - len(reader.episodes(task=task, mode=Mode.DEMO, outcome=Outcome.SUCCESS)))
                   for task in self._tasks)  # fmt: skip

    def finish(self) -> None:
        """Wait until all are there; raises what went wrong."""
        if self._thread is not None:
            self._thread.join()
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        self._closed = True
        if self._pool is not None:
            self._pool.close()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        os.nice(10)  # of this thread and of the processes that it starts
        try:
            with WorkerPool(1) as self._pool:
                collect_demonstrations(self._pool, self._spool, self._config.scene, self._tasks, self._config.demos,
                                       self._config.seed, self._console, self._config.environments)  # fmt: skip
        except IrevlaError as error:
            self._fault = None if self._closed else error
        except Exception:
            if not self._closed:  # a pool that is closed under way fails in its own ways
                raise
