"""Service servers: a complete queryable whose queries wait in a bounded queue for the executor's thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import zenoh

from irevla_ros.ros.embedded.attachment import Attachment, stamped, unpack
from irevla_ros.ros.embedded.endpoint import Declared, Inbox, Owner, read
from irevla_ros.ros.embedded.keys import Kind
from irevla_ros.ros.embedded.qos import QoSProfile
from irevla_ros.ros.embedded.types.cdr import CdrError, serialize
from irevla_ros.ros.embedded.types.hashes import service_hash
from irevla_ros.ros.embedded.wire import direct

Handler = Callable[[Any, Any], Any]


class Service(Declared):
    """Made by ``Node.create_service``; ``callback(request, response)`` returns the response."""

    def __init__(self, node: Owner, srv_type: type[Any], name: str, callback: Handler, profile: QoSProfile) -> None:
        type_name: str = srv_type._type_name
        super().__init__(node, Kind.SERVICE, name, type_name, service_hash(type_name), profile)
        self.srv_type = srv_type
        self.callback = callback
        # A dropped query ends the client's wait, should its middleware care.
        self._inbox: Inbox[zenoh.Query] = Inbox(profile.depth, _drop)
        self.malformed = 0
        self._announce(self._context.session.declare_queryable(self.key, direct(self._arrived), complete=True))

    @property
    def service_name(self) -> str:
        return self.endpoint.name

    def take(self) -> Callable[[], object] | None:
        query, more = self._inbox.pop()
        if more:
            self._node._has_work(self)
        if query is None:
            return None
        try:
            asked = unpack(b"" if query.attachment is None else query.attachment.to_bytes())
            request = read(query.payload, self.srv_type.Request._type_name)
        except (CdrError, ValueError) as error:
            self.malformed += 1
            self._complain(f"malformed request number {self.malformed} ignored: {error}")
            _drop(query)
            return None
        return functools.partial(self._answer, query, asked, request)

    def destroy(self) -> None:
        super().destroy()
        self._inbox.clear()

    def _answer(self, query: zenoh.Query, asked: Attachment, request: Any) -> None:
        try:
            response = self.callback(request, self.srv_type.Response())
            if not isinstance(response, self.srv_type.Response):
                raise TypeError(f"{self.service_name}: the callback returned {type(response)}, not a response")
            query.reply(self.key, serialize(response), attachment=stamped(asked.sequence, asked.gid))
        except zenoh.ZError as error:  # nobody is there to answer any more: not the server's fault
            self._complain(f"response not sent: {error}")
        finally:
            _drop(query)

    def _arrived(self, query: zenoh.Query) -> None:
        if self._inbox.put(query):
            self._node._has_work(self)


def _drop(query: zenoh.Query) -> None:
    query.drop()  # type: ignore[no-untyped-call]
