"""How far the clocks of two hosts are apart, by round trips of a service: stamps are joined on, so they must agree.

A host tells its time where a process of it calls ``serve_clock``, or runs ``python -m irevla_ros.ros.clock_offset``;
``irevla doctor --clocks`` measures it from the other side.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from irevla_ros.ros import Client, Future, Node, Service, SingleThreadedExecutor, init, try_shutdown
from irevla_ros.ros.calls import call
from irevla_ros.ros.errors import MiddlewareError
from irevla_ros.ros.messages import Trigger
from irevla_ros.ros.run import run_node

PREFIX = "/irevla/clock/"
LIMIT_S = 0.02
ROUNDS = 20
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Exchange:
    """A question and its answer: sent and received by this host's clock, answered by the other's; nanoseconds."""

    sent_ns: int
    answered_ns: int
    received_ns: int


@dataclass(frozen=True)
class Offset:
    """The other clock minus this one, in seconds: it is between ``offset_s - error_s`` and ``offset_s + error_s``."""

    offset_s: float
    error_s: float

    def __str__(self) -> str:
        return f"{1e3 * self.offset_s:+.1f} ms, give or take {1e3 * self.error_s:.1f} ms"

    def within(self, limit_s: float) -> bool:
        """Whether the clocks surely differ by no more than the limit."""
        return abs(self.offset_s) + self.error_s <= limit_s


def estimate(exchanges: Sequence[Exchange]) -> Offset:
    """What all exchanges together allow: each one was answered after it was sent and before it was received.

    Raises MiddlewareError where no offset fits them all, as when a clock is set meanwhile.
    """
    if not exchanges:
        raise MiddlewareError("clock offset", "needs one exchange at least", "ask the other host again")
    low = max(one.answered_ns - one.received_ns for one in exchanges)
    high = min(one.answered_ns - one.sent_ns for one in exchanges)
    if low > high:
        remedy = "measure again once the clocks are synchronised"
        raise MiddlewareError("clock offset", f"a clock moved by {(low - high) / 1e6:.3f} ms meanwhile", remedy)
    return Offset((low + high) / 2e9, (high - low) / 2e9)


def serve_clock(node: Node, host: str = "", now_ns: Callable[[], int] = time.time_ns) -> Service:
    """Let ``node`` tell the system time of this host, as a number of nanoseconds, on ``/irevla/clock/<host>``."""

    def tell(_: Any, response: Any) -> Any:
        response.success, response.message = True, str(now_ns())
        return response

    return node.create_service(Trigger, clock_service(host or socket.gethostname()), tell)


def clock_service(host: str) -> str:
    """The service that tells the time of ``host``."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", host)
    return PREFIX + (name if not name[:1].isdigit() else f"host_{name}")


def clock_services(node: Node) -> list[str]:
    """The hosts' services that can be asked now."""
    return [name for name, _ in node.get_service_names_and_types() if name.startswith(PREFIX)]


def ask(node: Node, client: Client, rounds: int = ROUNDS) -> Future:
    """A future with the Offset, or with ServiceTimeout or MiddlewareError as its exception; ``client`` of ``clock_service``."""
    outcome = Future()
    exchanges: list[Exchange] = []

    def question() -> None:
        sent_ns = time.time_ns()
        call(node, client, Trigger.Request(), _TIMEOUT_S).add_done_callback(partial(answered, sent_ns))

    def answered(sent_ns: int, answer: Future) -> None:
        received_ns = time.time_ns()
        try:
            text = answer.result().message
            if not text.isdecimal():
                raise MiddlewareError(f"{client.service_name} = {text!r}", "is not a time in nanoseconds", "see who serves it")
            exchanges.append(Exchange(sent_ns, int(text), received_ns))
            if len(exchanges) == rounds:
                outcome.set_result(estimate(exchanges))
            else:
                question()
        except Exception as error:  # it belongs to who asked
            outcome.set_exception(error)

    question()
    return outcome


def measure(node: Node, service: str, rounds: int = ROUNDS) -> Offset:
    """Ask a service of ``clock_services``; blocks and spins ``node``. Raises ServiceTimeout and MiddlewareError."""
    client = node.create_client(Trigger, service)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        outcome = ask(node, client, rounds)
        while not outcome.done():
            executor.spin_once(timeout_sec=0.1)
        offset: Offset = outcome.result()
        return offset
    finally:
        executor.remove_node(node)
        executor.shutdown()
        node.destroy_client(client)


def measure_all(wait_s: float = _TIMEOUT_S) -> dict[str, Offset]:
    """Host -> offset, of every host that is found within ``wait_s``; opens and closes a context of its own."""
    init(args=[])
    node = Node("irevla_clock_asker")
    try:
        end = time.monotonic() + wait_s
        while not (found := clock_services(node)) and time.monotonic() < end:
            time.sleep(0.05)
        return {name.removeprefix(PREFIX): measure(node, name) for name in found}
    finally:
        node.destroy_node()
        try_shutdown()


def main() -> int:
    """Tell the time until SIGINT or SIGTERM."""

    def make() -> Node:
        node = Node("irevla_clock")
        serve_clock(node)
        return node

    return run_node(make)


if __name__ == "__main__":
    sys.exit(main())
