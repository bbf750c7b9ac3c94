"""Loggers: lines on stderr as ROS prints them, and rcl_interfaces/Log on ``/rosout``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

from irevla_ros.ros.embedded.types.message import message_class

Log = message_class("rcl_interfaces/msg/Log")
_COLOURS = {"DEBUG": "32", "WARN": "33", "ERROR": "31", "FATAL": "31"}
_FILTERS = ("throttle_duration_sec", "skip_first", "once")


class LoggingSeverity(IntEnum):
    UNSET = 0
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    FATAL = 50


class LogOutput:
    """Where a node's lines go. ``levels`` maps logger names, "" for all, to the least severity that is shown."""

    def __init__(self, levels: Mapping[str, int], *, console: bool = True) -> None:
        self.levels = dict(levels)
        self.console = console
        self.publish: Callable[[Any], None] | None = None

    def level(self, name: str) -> LoggingSeverity:
        """The level of the nearest ancestor of ``a.b.c`` that has one."""
        while True:
            if self.levels.get(name):
                return LoggingSeverity(self.levels[name])
            if not name:
                return LoggingSeverity.INFO
            name = name.rpartition(".")[0]

    def write(self, severity: LoggingSeverity, name: str, message: str, caller: tuple[str, str, int]) -> None:
        now = time.time_ns()
        seconds, nanoseconds = divmod(now, 1_000_000_000)
        if self.console:
            line = f"[{severity.name}] [{seconds}.{nanoseconds:09d}] [{name}]: {message}"
            colour = _COLOURS.get(severity.name)
            if colour and sys.stderr.isatty():
                line = f"\033[{colour}m{line}\033[0m"
            # One write, so that the lines of several processes do not mix.
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        if self.publish is not None:
            log = Log(level=int(severity), name=name, msg=message, file=caller[0], function=caller[1], line=caller[2])
            log.stamp.sec, log.stamp.nanosec = seconds, nanoseconds
            self.publish(log)


class Logger:
    """``logger.info(text, throttle_duration_sec=1.0)``; the filters count per calling line, as in rclpy."""

    def __init__(self, name: str, output: LogOutput) -> None:
        self.name = name
        self._output = output
        self._last: dict[tuple[str, int], float] = {}

    def get_child(self, name: str) -> Logger:
        if not name:
            raise ValueError("Child logger name must not be empty.")
        return Logger(f"{self.name}.{name}", self._output)

    def set_level(self, level: int) -> None:
        self._output.levels[self.name] = int(LoggingSeverity(level))

    def get_effective_level(self) -> LoggingSeverity:
        return self._output.level(self.name)

    def is_enabled_for(self, severity: int) -> bool:
        return severity >= self.get_effective_level()

    def debug(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.DEBUG, kwargs)

    def info(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.INFO, kwargs)

    def warning(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.WARN, kwargs)

    def warn(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.WARN, kwargs)

    def error(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.ERROR, kwargs)

    def fatal(self, message: str, **kwargs: Any) -> bool:
        return self._log(message, LoggingSeverity.FATAL, kwargs)

    def _log(self, message: str, severity: LoggingSeverity, filters: dict[str, Any]) -> bool:
        """Whether the line was written."""
        unknown = set(filters) - set(_FILTERS)
        if unknown:
            raise TypeError(f"{sorted(unknown)} is not one of the recognized logging options {list(_FILTERS)}")
        if not self.is_enabled_for(severity):
            return False
        frame = sys._getframe(2)
        path, line = frame.f_code.co_filename, frame.f_lineno
        if filters and not self._passes((path, line), filters):
            return False
        self._output.write(severity, self.name, str(message), (os.path.abspath(path), frame.f_code.co_name, line))
        return True

    def _passes(self, caller: tuple[str, int], filters: dict[str, Any]) -> bool:
        now = time.monotonic()
        last = self._last.get(caller)
        if last is None:
            self._last[caller] = now
            return not filters.get("skip_first")
        if filters.get("once") or now - last < (filters.get("throttle_duration_sec") or 0.0):
            return False
        self._last[caller] = now
        return True
