"""What publishers, subscriptions, services and clients share: a key, a liveliness token, and work for the executor."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from irevla_ros.ros.embedded.context import Context
from irevla_ros.ros.embedded.keys import Endpoint, Entity, Kind
from irevla_ros.ros.embedded.logging import Logger
from irevla_ros.ros.embedded.qos import QoSProfile, encode
from irevla_ros.ros.embedded.types.cdr import deserialize
from irevla_ros.ros.embedded.wire import Declaration

T = TypeVar("T")
_COMPLAINT_PERIOD_S = 1.0


class Owner(Protocol):
    """What an endpoint needs of its node."""

    _context: Context
    _entity: Entity

    def get_logger(self) -> Logger: ...
    def _has_work(self, source: Source) -> None: ...


class Source(Protocol):
    """Something that has work for the executor's thread now and then. It tells its node once, until its work is taken."""

    def take(self) -> Callable[[], object] | None: ...


class Declared:
    """An endpoint that the graph can see. Subclasses declare their Zenoh entity first, then call ``_announce``."""

    def __init__(self, node: Owner, kind: Kind, name: str, type_name: str, type_hash: str, profile: QoSProfile) -> None:
        self._node = node
        self._context = node._context
        self._context.require(f"endpoint {name!r}")
        one = node._entity
        self.endpoint = Endpoint(name, type_name, type_hash, encode(profile))
        self.entity = Entity(
            kind, one.domain, one.session, one.node_id, self._context.next_id(), one.namespace, one.node_name, self.endpoint
        )
        self.key = self.endpoint.key(self._context.domain)
        self.gid = self.entity.gid()
        self._declarations: list[Declaration] = []

    def _announce(self, declaration: Declaration) -> None:
        # The token last: who sees it may rely on the endpoint.
        token = self._context.session.liveliness().declare_token(self.entity.token())
        self._declarations = [token, declaration]

    def destroy(self) -> None:
        """Vanish from the graph, then from Zenoh."""
        declarations, self._declarations = self._declarations, []
        for declaration in declarations:
            declaration.undeclare()

    def _complain(self, text: str) -> None:
        self._node.get_logger().warning(f"{self.endpoint.name}: {text}", throttle_duration_sec=_COMPLAINT_PERIOD_S)


class Inbox(Generic[T]):
    """A bounded queue between Zenoh's threads and the executor's; when it is full the oldest entry goes.

    ``put`` and ``pop`` keep account of whether the executor knows that there is something: once it has been told, it comes
    back until nothing is left.
    """

    def __init__(self, depth: int, discard: Callable[[T], None] | None = None) -> None:
        self._depth = depth
        self._discard = discard
        self._entries: deque[T] = deque()
        self._told = False
        self._lock = threading.Lock()
        self.dropped = 0

    def put(self, entry: T) -> bool:
        """Whether the executor must be told."""
        oldest: T | None = None
        with self._lock:
            tell, self._told = not self._told, True
            if len(self._entries) >= self._depth:
                oldest = self._entries.popleft()
                self.dropped += 1
            self._entries.append(entry)
        # Zenoh is not called with the lock held: its threads come here with locks of their own.
        if oldest is not None and self._discard is not None:
            self._discard(oldest)
        return tell

    def pop(self) -> tuple[T | None, bool]:
        """The oldest entry, and whether there are more."""
        with self._lock:
            entry = self._entries.popleft() if self._entries else None
            self._told = bool(self._entries)
            return entry, self._told

    def clear(self) -> None:
        with self._lock:
            entries, self._entries = self._entries, deque()
        for entry in entries:
            if self._discard is not None:
                self._discard(entry)


def read(payload: Any, type_name: str) -> Any:
    """The message in a Zenoh payload. Raises CdrError, also where there is none."""
    return deserialize(b"" if payload is None else payload.to_bytes(), type_name)


