"""The status of a running graph in a terminal: one line for each node, redrawn in place, or plain lines now and then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from irevla_ros.core.graph_messages import LearnerStatus
from irevla_ros.core.health import Level
from irevla_ros.nodes.overview import NodeRow, Overview
from irevla_ros.nodes.supervisor import ProcessStatus

REDRAW_S, PLAIN_S = 1.0, 10.0


def status_line(status: ProcessStatus, row: NodeRow | None, width: int) -> str:
    """``arm0/sim      up   restarts 0   34.2 Hz   0.03 s   0 dropped  ok``; ``width`` of the name's column."""
    state = "up" if status.running else "down"
    if row is not None and row.silence_s > status.uptime_s:
        row = None  # of an earlier life
    hz = f"{row.hz:.1f} Hz" if row is not None and row.hz is not None else "-"
    age = f"{row.age_s:.2f} s" if row is not None and row.age_s is not None else "-"
    drops = f"{row.drops} dropped" if row is not None else "-"
    if not status.running:
        health = f"{_exit(status.exit_code)}: {status.last_line}"
    elif row is None:
        health = "starting" if status.uptime_s < 60 else "has not reported in a minute"
    else:
        health = row.message if row.level is Level.OK else f"{row.level.name}: {row.message}"
    return f"{status.name:<{width}}  {state:<4}  restarts {status.restarts:<3}{hz:>10}{age:>10}{drops:>13}  {health}"


def learner_line(status: LearnerStatus) -> str:
    """``learner: stage 1, press-red, 12 of 50, success 62% of the last 12, head 3; why``."""
    rate = f"success {status.rate:.0%} of the last {status.rated}" if status.rate is not None else ""
    parts = [status.stage, status.task, f"{status.done} of {status.of}" if status.of else "", rate, f"head {status.version}"]
    return f"learner: {', '.join(filter(None, parts))}{status.detail and '; ' + status.detail}"


class Console:
    """Shows statuses on ``stream``; what cannot be written, because the terminal has gone, is not shown."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._drawn = 0  # lines to go up before drawing anew
        self._due_s = clock()
        self.in_place = stream.isatty()

    def say(self, line: str) -> None:
        """A line that stays; the statuses, drawn anew when it is time, go on below it."""
        self._write(self._up() + ("\x1b[J" if self._drawn else "") + line + "\n")
        self._drawn, self._due_s = 0, self._clock() if self.in_place else self._due_s

    def show(self, statuses: Sequence[ProcessStatus], overview: Overview, wall_ns: int, learner: LearnerStatus | None) -> None:
        """Draw when it is time for it."""
        if self._clock() < self._due_s:
            return
        width = max(len(status.name) for status in statuses)
        lines = [status_line(status, overview.row(f"/{status.name}", wall_ns), width) for status in statuses]
        if learner is not None:
            lines.append(learner_line(learner))
        columns, rows = shutil.get_terminal_size()
        in_place = self.in_place and len(lines) < rows
        if in_place:
            lines = [line[: columns - 1] for line in lines]
        self._write(self._up() + "".join(f"{line}{self._clear}\n" for line in lines))
        self._drawn = len(lines) if in_place else 0
        self._due_s = self._clock() + (REDRAW_S if in_place else PLAIN_S)

    @property
    def _clear(self) -> str:
        return "\x1b[K" if self.in_place else ""

    def _up(self) -> str:
        return f"\x1b[{self._drawn}A" if self._drawn else ""

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.in_place = False


def _exit(code: int | None) -> str:
    return "not started" if code is None else f"exit code {code}" if code >= 0 else f"signal {-code}"
