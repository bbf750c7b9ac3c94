"""Waiting with a deadline, without blocking: rclpy's future alone never ends if the server dies."""

from __future__ import annotations

from typing import Any

from irevla_ros.ros import Client, Clock, ClockType, Future, Node
from irevla_ros.ros.errors import ServiceTimeout


def call(node: Node, client: Client, request: Any, timeout_sec: float) -> Future:
    """A service's response, or ServiceTimeout; see ``within``."""
    return within(node, client.call_async(request), timeout_sec, f"service {client.service_name}")


def within(node: Node, response: Future, timeout_sec: float, what: str) -> Future:
    """A future with the result of ``response`` or, after ``timeout_sec`` of wall time, with ServiceTimeout as its exception.

    Both come on the executor's thread. Cancelling the future cancels ``response``, as the timeout does.
    """
    outcome = Future()
    timer = node.create_timer(timeout_sec, lambda: late(), clock=Clock(clock_type=ClockType.STEADY_TIME))

    def late() -> None:
        if outcome.done() or outcome.cancelled():
            return
        remedy = "see whether its node is alive, or allow it more time"
        outcome.set_exception(ServiceTimeout(what, f"no answer in {timeout_sec} s", remedy))

    def arrived(_: Future) -> None:
        if response.cancelled() or outcome.done() or outcome.cancelled():
            return
        error = response.exception()
        if error is None:
            outcome.set_result(response.result())
        else:
            outcome.set_exception(error)

    def ended(_: Future) -> None:
        node.destroy_timer(timer)
        if not response.done() and not response.cancelled():
            response.cancel()

    outcome.add_done_callback(ended)
    response.add_done_callback(arrived)
    return outcome
