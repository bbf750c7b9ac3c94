"""The few calls of Zenoh that need care, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import zenoh

from irevla_ros.ros.errors import MiddlewareError

T = TypeVar("T")


class Declaration(Protocol):
    """A subscriber, publisher, queryable, querier or token."""

    def undeclare(self) -> Any: ...


def direct(callback: Callable[[T], None], finished: Callable[[], None] | None = None) -> Any:
    """A handler that runs in Zenoh's own thread; without it every handler gets a thread and an unbounded queue.

    Such a callback may do no more than put its argument into a bounded queue and wake somebody.
    """
    return zenoh.handlers.Callback(callback, finished, indirect=False)


@contextmanager
def zenoh_errors(action: str) -> Iterator[None]:
    """Zenoh's errors, as MiddlewareError that names ``action``."""
    try:
        yield
    except zenoh.ZError as error:
        # Zenoh appends where in its source it happened.
        text = " ".join(str(error).split()).split(" at /")[0]
        raise MiddlewareError(action, text, "see whether the endpoint or the context was closed") from error


def close_session(session: zenoh.Session) -> None:
    session.close()  # type: ignore[no-untyped-call]
