"""The graph as liveliness tokens tell it: which nodes, topics and services exist now, in all processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import zenoh

from irevla_ros.ros.embedded.keys import Endpoint, Entity, Kind, all_tokens, parse_token
from irevla_ros.ros.embedded.wire import Declaration, direct


class Graph:
    """A cache that a liveliness subscriber keeps current; tokens of a process that dies vanish with its link."""

    def __init__(self, session: zenoh.Session, domain: int) -> None:
        self._entities: dict[str, Entity] = {}
        self._changed = threading.Condition()
        self._subscriber: Declaration = session.liveliness().declare_subscriber(
            all_tokens(domain), direct(self._on_token), history=True
        )

    def close(self) -> None:
        self._subscriber.undeclare()

    def entities(self, kind: Kind) -> list[Entity]:
        with self._changed:
            return [entity for entity in self._entities.values() if entity.kind is kind]

    def count(self, kind: Kind, name: str) -> int:
        """Endpoints of this kind and absolute name, of whatever type."""
        return sum(entity.endpoint is not None and entity.endpoint.name == name for entity in self.entities(kind))

    def count_matching(self, kind: Kind, endpoint: Endpoint) -> int:
        """Endpoints of this kind that exchange data with ``endpoint``: same name, type and type hash."""
        return sum(_matching(entity.endpoint, endpoint) for entity in self.entities(kind))

    def names_and_types(self, kinds: Iterable[Kind]) -> list[tuple[str, list[str]]]:
        found: dict[str, set[str]] = {}
        for kind in kinds:
            for entity in self.entities(kind):
                if entity.endpoint is not None:
                    found.setdefault(entity.endpoint.name, set()).add(entity.endpoint.type_name)
        return [(name, sorted(types)) for name, types in sorted(found.items())]

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float) -> bool:
        """Block until ``predicate`` holds or the time is over; it is tried again whenever the graph changes."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout_s)

    def _on_token(self, sample: zenoh.Sample) -> None:
        token = str(sample.key_expr)
        entity = parse_token(token)
        if entity is None:
            return
        with self._changed:
            if sample.kind == zenoh.SampleKind.PUT:
                self._entities[token] = entity
            else:
                self._entities.pop(token, None)
            self._changed.notify_all()


def _matching(one: Endpoint | None, other: Endpoint) -> bool:
    if one is None:
        return False
    return (one.name, one.type_name, one.type_hash) == (other.name, other.type_name, other.type_hash)
