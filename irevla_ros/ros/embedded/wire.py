"""The few calls of Zenoh that need care, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import zenoh

T = TypeVar("T")


class Declaration(Protocol):
    """A subscriber, publisher, queryable, querier or token."""

    def undeclare(self) -> Any: ...


def direct(callback: Callable[[T], None], finished: Callable[[], None] | None = None) -> Any:
    """A handler that runs in Zenoh's own thread; without it every handler gets a thread and an unbounded queue.

    Such a callback may do no more than put its argument into a bounded queue and wake somebody.
    """
    return zenoh.handlers.Callback(callback, finished, indirect=False)


def close_session(session: zenoh.Session) -> None:
    session.close()  # type: ignore[no-untyped-call]
