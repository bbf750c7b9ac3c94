"""Keeps the processes of a graph alive without ROS: starts, restarts with back-off, stops in order.

Every process writes to a log file of its own, so that no full pipe can ever stall a node. Children end with their
supervisor, even when that is killed: two graphs that command one arm must not come about.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.graph import ProcessSpec
from irevla_ros.ros.errors import CONFIGURATION

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
STABLE_S = 30.0  # who has lived that long starts anew with the shortest wait
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded before any fork: nothing may be imported between fork and exec


@dataclass(frozen=True)
class ProcessStatus:
    """What the status line says of a process. ``exit_code`` is that of its last end, negative for a signal."""

    name: str
    running: bool
    pid: int
    uptime_s: float
    restarts: int
    exit_code: int | None
    last_line: str


class _Child:
    """One process through its lives."""

    def __init__(self, spec: ProcessSpec, log: Path, held: Sequence[int]) -> None:
        self.spec, self.log, self.held = spec, log, held
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        self.restarts = 0
        self.exit_code: int | None = None
        self.finished = False
        self.wait_s = FIRST_WAIT_S
        self.due_s = 0.0

    def start(self, now_s: float) -> None:
        with self.log.open("ab") as output:
            self.process = _spawn(self.spec.argv, output, self.held)
        self.started_s = now_s

    def ended(self, now_s: float) -> bool:
        """Has it ended since the last question? Then its next start is planned."""
        if self.process is None or self.process.poll() is None:
            return False
        self.exit_code, self.process = self.process.returncode, None
        self.finished = self.spec.ends_graph and self.exit_code == 0
        if now_s - self.started_s >= STABLE_S:
            self.wait_s = FIRST_WAIT_S
        self.due_s = now_s + self.wait_s
        self.wait_s = min(LONGEST_WAIT_S, 2 * self.wait_s)
        return True

    @property
    def misconfigured(self) -> bool:
        """It ended because of what it was told, so starting it again is no use."""
        return self.process is None and self.exit_code == CONFIGURATION

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def status(self, now_s: float) -> ProcessStatus:
        running = self.process is not None
        return ProcessStatus(self.spec.name, running, self.process.pid if self.process else 0,
                             now_s - self.started_s if running else 0.0, self.restarts, self.exit_code,
                             _last_line(self.log))  # fmt: skip


class Supervisor:
    """Runs the processes of a graph; drive it by calling ``poll`` a few times a second from one thread.

    ``folder`` takes one log file for each process. ``clock`` is monotonic, in seconds. ``held``: open files that the
    processes hold open, too, such as a lock that is to last until the last of them has ended.
    """

    def __init__(self, specs: Sequence[ProcessSpec], folder: Path, clock: Callable[[], float] = time.monotonic,
                 held: Sequence[int] = ()) -> None:  # fmt: skip
        names = [spec.name for spec in specs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"process {twice[0]!r}", "each process of a graph has a name of its own", "rename one")
        folder.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._children = [_Child(spec, folder / f"{spec.name.replace('/', '-')}.log", held) for spec in specs]

    @property
    def finished(self) -> str:
        """The process whose work is done, with which the graph ends; "" until then."""
        return next((child.spec.name for child in self._children if child.finished), "")

    def check(self) -> None:
        """Raises ConfigError with the last words of a process that was told something wrong."""
        for child in self._children:
            if child.misconfigured:
                said = _last_line(child.log).removeprefix("error: ")
                raise ConfigError(f"node {child.spec.name}", said, f"its log is {child.log}")

    def start(self) -> None:
        for child in self._children:
            child.start(self._clock())

    def poll(self) -> list[str]:
        """Note ends, restart who is due; returns one line for each change."""
        now, news = self._clock(), []
        for child in self._children:
            if child.ended(now):
                if child.finished:
                    news.append(f"{child.spec.name} has finished")
                    continue
                if child.misconfigured:
                    news.append(f"{child.spec.name} was told something wrong")
                    continue
                news.append(f"{child.spec.name} ended with {_exit_text(child.exit_code)}; restart in "
                            f"{child.due_s - now:.1f} s; {child.log}")  # fmt: skip
            elif child.process is None and not (child.finished or child.misconfigured) and now >= child.due_s:
                child.restarts += 1
                child.start(now)
                news.append(f"{child.spec.name} restarted ({child.restarts})")
        return news

    def status(self) -> list[ProcessStatus]:
        now = self._clock()
        return [child.status(now) for child in self._children]

    def stop(self, patience_s: float = 5.0) -> None:
        """SIGINT to those that stop first, then, once they have ended, to the rest, last started first.

        Whoever has not ended ``patience_s`` later gets SIGTERM, and after the same time again SIGKILL.
        """
        first = [child for child in self._children if child.spec.stop_first]
        rest = [child for child in reversed(self._children) if not child.spec.stop_first]
        for group in (first, rest):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                for child in group:
                    child.signal(number)
                if self._all_ended(group, patience_s):
                    break

    def _all_ended(self, group: Sequence[_Child], patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s  # real time: an injected clock need not pass by itself
        for child in group:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
            child.exit_code = child.process.returncode
        for child in group:
            child.process = None
        return True


def _spawn(argv: Sequence[str], output: IO[bytes], held: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start in a session of its own: a Ctrl-C in the terminal reaches the supervisor alone, which then stops in order."""
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                start_new_session=True, preexec_fn=die_with_parent, pass_fds=held)  # fmt: skip
    except OSError as error:
        raise ConfigError(f"program {argv[0]!r}", f"cannot be started ({error.strerror})",
                          "name the Python that has irevla_ros installed") from None  # fmt: skip


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _last_line(log: Path) -> str:
    """The last line of a log file, from its last 4 KB."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
