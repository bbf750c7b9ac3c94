"""The few calls of Zenoh that need care, in one place."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import zenoh

from irevla_ros.ros.errors import MiddlewareError

T = TypeVar("T")
_thread = threading.local()


class Declaration(Protocol):
    """A subscriber, publisher, queryable, querier or token."""

    def undeclare(self) -> Any: ...


def direct(callback: Callable[[T], None], finished: Callable[[], None] | None = None) -> Any:
    """A handler that runs in Zenoh's own thread; without it every handler gets a thread and an unbounded queue.

    Such a callback may do no more than put its argument into a bounded queue and wake somebody.
    """

    def called(item: T) -> None:
        _stay_known_to_python()
        callback(item)

    return zenoh.handlers.Callback(called, finished, indirect=False)


def _stay_known_to_python() -> None:
    """Keep the interpreter's state of this thread of Zenoh's until the process ends.

    Python makes and frees one, with memory mapped for its stack, at every call from a thread that is not its own: a third
    of what it costs to receive a message, and the executor meanwhile waits for the interpreter.
    """
    if not hasattr(_thread, "known"):
        _thread.known = True
        ctypes.pythonapi.PyGILState_Ensure()


def zenoh_fault(action: str, error: zenoh.ZError) -> MiddlewareError:
    """Zenoh's error, on one line that names ``action``."""
    # Zenoh appends where in its source it happened.
    text = " ".join(str(error).split()).split(" at /")[0]
    return MiddlewareError(action, text, "see whether the endpoint or the context was closed")


def close_session(session: zenoh.Session) -> None:
    session.close()  # type: ignore[no-untyped-call]
