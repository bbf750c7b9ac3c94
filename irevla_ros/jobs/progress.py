"""What a job tells while it works: lines, and bars with rate and time left, in the terminal and in the run's log."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

REDRAW_S = 0.2  # a terminal is redrawn at most this often
LINE_S = 10.0  # a log file, and an output that is no terminal, get a line this often
FIRST_LINE_S = 2.0  # whoever waits longer than this is told how much longer
WINDOW = 50  # the rate is that of so many latest samples: of now, not of the start
BAR_WIDTH = 24


class Console:
    """Where messages go: a stream, unless ``quiet``, and a log file, if given, with the date and time."""

    def __init__(
        self,
        log_file: Path | None = None,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log_file = log_file
        self.quiet = quiet
        self.clock = clock
        self._stream = sys.stderr if stream is None else stream
        self._drawn = 0  # characters of the bar that now stands on the terminal's last line
        self.terminal = not quiet and self._stream.isatty()

    def say(self, text: str) -> None:
        """One line for the user and for the log."""
        self.log(text)
        if not self.quiet:
            self._clear()
            self._write(text + "\n")

    def log(self, text: str) -> None:
        """One line for the log file only; opened for each line, so that a killed job loses none."""
        if self.log_file is not None:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")

    def draw(self, text: str) -> None:
        """Replace the terminal's last line, without ending it."""
        text = text[: shutil.get_terminal_size().columns - 1]
        self._write("\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def progress(self, total: int, label: str, done: int = 0) -> Progress:
        return Progress(total, label, self, done)

    def _clear(self) -> None:
        if self._drawn:
            self._write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Progress:
    """Counts ``total`` units of work; use it in a ``with`` block and call ``update`` after each unit.

    ``done`` is what an earlier, interrupted run has finished: it counts as progress but not towards the rate.
    """

    def __init__(self, total: int, label: str, console: Console | None = None, done: int = 0) -> None:
        self.total = total
        self.label = label
        self.done = done
        self._initial = done
        self._console = Console() if console is None else console
        self._start = self._console.clock()
        self._samples: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._last_draw = self._start - REDRAW_S
        self._next_line = self._start + FIRST_LINE_S
        self._note = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, n: int = 1, note: str = "") -> None:
        """``n`` more units are done; ``note`` is shown behind the time left until the next note."""
        self.done += n
        self._note = note or self._note
        now = self._console.clock()
        if now - self._last_draw >= REDRAW_S:
            self._last_draw = now
            if self.done > self._initial:
                self._samples.append((now, self.done))
            if self._console.terminal:
                self._console.draw(f"{self._bar()} {self.status()}")
        if now >= self._next_line:
            self._next_line = now + LINE_S
            self._line(self.status())

    def resume(self, done: int) -> None:
        """``done`` units were there before: they count as progress but not towards the rate."""
        self.done = self._initial = done
        self._samples.clear()

    def status(self) -> str:
        """For example ``stage 0  120/400  30% 12.1/s, 23 s left, loss 0.12``."""
        share = self.done / self.total if self.total else 1.0
        text = f"{self.label}  {self.done}/{self.total} {share:4.0%}"
        if self.rate > 0:
            left = max(0, self.total - self.done) / self.rate
            text += f"  {rate_text(self.rate)}, {duration(left)} left"
        return text + (f", {self._note}" if self._note else "")

    @property
    def rate(self) -> float:
        """Units a second over the latest samples; 0 while there is nothing to tell it from. The time before the first unit,
        in which workers start, does not count."""
        if not self._samples:
            return 0.0
        (before, first), (after, last) = self._samples[0], self._samples[-1]
        return (last - first) / (after - before) if after > before else 0.0

    def close(self) -> None:
        """Say how long it took; called by the end of the ``with`` block, also after an error."""
        elapsed = self._console.clock() - self._start
        rate = (self.done - self._initial) / elapsed if elapsed > 0 else 0.0
        text = f"{self.label}  {self.done}/{self.total} in {duration(elapsed)} ({rate_text(rate)})"
        self._console.say(text + (f", {self._note}" if self._note else ""))

    def _line(self, text: str) -> None:
        if self._console.terminal:
            self._console.log(text)
        else:
            self._console.say(text)

    def _bar(self) -> str:
        filled = int(BAR_WIDTH * min(1.0, self.done / self.total)) if self.total else BAR_WIDTH
        return "[" + "#" * filled + "." * (BAR_WIDTH - filled) + "]"


def rate_text(rate: float) -> str:
    """Units a second, or seconds a unit where that reads better."""
    return f"{rate:.3g}/s" if rate >= 1 or rate <= 0 else f"{1 / rate:.3g} s each"


def duration(seconds: float) -> str:
    """``7 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
