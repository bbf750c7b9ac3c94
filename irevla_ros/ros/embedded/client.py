"""Service clients. A call never blocks; who needs a deadline cancels the future, or uses ``irevla_ros.ros.call``."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import zenoh

from irevla_ros.ros.embedded.attachment import stamped, unpack
from irevla_ros.ros.embedded.endpoint import Declared, Inbox, Owner, read
from irevla_ros.ros.embedded.future import Future
from irevla_ros.ros.embedded.keys import Kind
from irevla_ros.ros.embedded.qos import QoSProfile
from irevla_ros.ros.embedded.types.cdr import CdrError, serialize
from irevla_ros.ros.embedded.types.hashes import service_hash
from irevla_ros.ros.embedded.wire import direct, zenoh_fault

# As in rmw_zenoh_cpp's configuration: a call without an answer is forgotten after ten minutes.
_QUERY_TIMEOUT_S = 600.0
_WAIT_STEP_S = 0.1
# One answer a call is kept, so this bounds the calls that may be under way at once.
_MOST_ANSWERS = 1000


class _Call:
    """A request under way."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.future = Future()
        self.cancellation = zenoh.CancellationToken()
        self.answered = False


class Client(Declared):
    """Made by ``Node.create_client``."""

    def __init__(self, node: Owner, srv_type: type[Any], name: str, profile: QoSProfile) -> None:
        type_name: str = srv_type._type_name
        super().__init__(node, Kind.CLIENT, name, type_name, service_hash(type_name), profile)
        self.srv_type = srv_type
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self._inbox: Inbox[tuple[_Call, zenoh.Sample]] = Inbox(_MOST_ANSWERS)
        self.malformed = 0
        self._querier = self._context.session.declare_querier(
            self.key,
            target=zenoh.QueryTarget.ALL_COMPLETE,
            consolidation=zenoh.ConsolidationMode.NONE,
            timeout=_QUERY_TIMEOUT_S,
        )
        self._announce(self._querier)

    @property
    def service_name(self) -> str:
        return self.endpoint.name

    def service_is_ready(self) -> bool:
        return self._context.graph.count_matching(Kind.SERVICE, self.endpoint) > 0

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Block until the service is there; False where it is not in time, or the context is shut down."""
        end = float("inf") if timeout_sec is None else time.monotonic() + timeout_sec
        while self._context.ok():
            left = min(_WAIT_STEP_S, end - time.monotonic())
            if self._context.graph.wait_for(self.service_is_ready, max(0.0, left)):
                return True
            if left <= 0.0:
                return False
        return False

    def call_async(self, request: Any) -> Future:
        """Send a request. The future is completed on the executor's thread; if nobody answers, never.

        Raises TypeError for another type's request, CdrError, NotInitializedException after shutdown, MiddlewareError once
        the client is destroyed.
        """
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"Expected {self.srv_type.Request}, got {type(request)}")
        self._context.require(f"call of {self.service_name}")
        payload = serialize(request)
        call = _Call(next(self._numbers))
        with self._lock:
            self._pending[call.number] = call
        call.future.add_done_callback(self.remove_pending_request)
        try:
            self._querier.get(
                direct(functools.partial(self._arrived, call), functools.partial(self._ended, call)),
                payload=payload,
                attachment=stamped(call.number, self.gid),
                cancellation_token=call.cancellation,
            )
        except zenoh.ZError as error:
            raise zenoh_fault(f"call of {self.service_name}", error) from error
        return call.future

    def remove_pending_request(self, future: Future) -> None:
        """Forget a call: its answer is ignored."""
        with self._lock:
            call = next((one for one in self._pending.values() if one.future is future), None)
            if call is not None:
                del self._pending[call.number]
        if call is not None and not future.done():
            call.cancellation.cancel()  # type: ignore[no-untyped-call]

    def take(self) -> Callable[[], object] | None:
        entry, more = self._inbox.pop()
        if more:
            self._node._has_work(self)
        if entry is None or entry[0].number not in self._pending:
            return None
        call, sample = entry
        try:
            unpack(b"" if sample.attachment is None else sample.attachment.to_bytes())
            response = read(sample.payload, self.srv_type.Response._type_name)
        except (CdrError, ValueError) as error:
            self.malformed += 1
            self._complain(f"malformed response number {self.malformed}: {error}")
            return functools.partial(call.future.set_exception, error)
        return functools.partial(call.future.set_result, response)

    def destroy(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for call in pending.values():
            call.cancellation.cancel()  # type: ignore[no-untyped-call]
        super().destroy()
        self._inbox.clear()

    def _arrived(self, call: _Call, reply: zenoh.Reply) -> None:
        # The first of several servers answers.
        if reply.ok is None or call.answered:
            return
        call.answered = True
        if self._inbox.put((call, reply.ok)):
            self._node._has_work(self)

    def _ended(self, call: _Call) -> None:
        if not call.answered:
            with self._lock:
                self._pending.pop(call.number, None)
