"""Keys from a terminal, without waiting for Enter; the terminal is as before when it is closed."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import stat
import sys
import termios
import tty
from typing import Any

from irevla_ros.core.errors import ConfigError


class Terminal:
    """Reads what is there and never waits.

    path: a terminal; "" is standard input where that is a terminal or a pipe, else the controlling terminal. Signals (Ctrl-C)
    work as ever. Raises ConfigError when there is none.
    """

    def __init__(self, path: str = "") -> None:
        self._saved: list[Any] | None = None
        self.ended = False
        self._fd = _open(path)
        if os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            atexit.register(self.close)
            tty.setcbreak(self._fd, termios.TCSANOW)

    def read(self) -> str:
        """What was typed since the last time; "" for nothing. ``ended`` is true once nothing can come any more."""
        try:
            if self._fd >= 0 and not select.select([self._fd], [], [], 0)[0]:
                return ""
            data = os.read(self._fd, 4096) if self._fd >= 0 else b""
        except OSError:
            data = b""
        self.ended = self.ended or not data
        return data.decode("ascii", "replace")

    def close(self) -> None:
        """Restore the terminal; a second time does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self._saved is not None:
            atexit.unregister(self.close)
            with contextlib.suppress(termios.error):  # it was closed on the other side: nothing to restore
                termios.tcsetattr(fd, termios.TCSANOW, self._saved)
        os.close(fd)


def _open(path: str) -> int:
    try:
        if not path and not (os.isatty(0) or stat.S_ISFIFO(os.fstat(0).st_mode)):
            path = "/dev/tty"
        return os.open(path, os.O_RDWR | os.O_NOCTTY) if path else os.dup(sys.stdin.fileno())
    except (OSError, ValueError) as error:
        raise ConfigError(f"terminal {path or 'standard input'!r}", f"it cannot be opened ({error})",
                          "start teleop by itself in a terminal: python -m irevla_ros.nodes.teleop") from None  # fmt: skip
