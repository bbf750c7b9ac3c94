"""The outcome of a service call, as in rclpy: callbacks run where the result is set, which is the executor's thread."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any


class Future:
    """Result or exception of something under way. A cancelled future is not done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False
        self._cancelled = False
        self._result: Any = None
        self._exception: Exception | None = None
        self._callbacks: list[Callable[[Future], object]] = []

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Give up on the result; a response that comes later is ignored."""
        with self._lock:
            if not self._done:
                self._cancelled = True
        self._call_back()

    def result(self) -> Any:
        """The result, or None while there is none; raises the exception that was set."""
        if self._exception is not None:
            raise self._exception
        return self._result

    def exception(self) -> Exception | None:
        return self._exception

    def set_result(self, result: Any) -> None:
        with self._lock:
            self._result, self._done, self._cancelled = result, True, False
        self._call_back()

    def set_exception(self, exception: Exception) -> None:
        with self._lock:
            self._exception, self._done, self._cancelled = exception, True, False
        self._call_back()

    def add_done_callback(self, callback: Callable[[Future], object]) -> None:
        """Call ``callback(future)`` once it is done or cancelled; at once if it is done already."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback(self)

    def _call_back(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as error:  # one callback's fault must not keep the others from being told
                warnings.warn(f"Unhandled exception in done callback: {error}", stacklevel=2)
