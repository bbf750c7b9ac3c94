"""Sequences of calls and waits on a node's own thread, written straight on: a generator yields futures, each with a deadline.

Coroutines of rclpy would keep its executor busy for as long as they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle, GoalStatus

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import IrevlaError
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros import Client, Clock, ClockType, Future
from irevla_ros.ros.calls import call, within
from irevla_ros.ros.errors import ServiceTimeout

LOOK_S = 0.05

Steps = Generator[Future, Any, Any]


class RobotError(IrevlaError):
    """The robot, or its driver, did not do what it was asked for."""


class Procedure:
    """Runs ``steps`` on the executor's thread; ``done(failure)`` follows, "" for none, unless it was cancelled before."""

    def __init__(self, steps: Steps, done: Callable[[str], object]) -> None:
        self._steps, self._done = steps, done
        self._waiting: Future | None = None
        self.running = True
        self._go_on(lambda: next(self._steps))

    def cancel(self) -> None:
        """End it where it stands; what it waits for is cancelled."""
        if self.running:
            self.running = False
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                waiting.cancel()
            self._steps.close()

    def fail(self, why: str) -> None:
        """End it where it stands, as failed."""
        self.cancel()
        self._done(why)

    def _go_on(self, step: Callable[[], Future]) -> None:
        try:
            self._waiting = future = step()
        except StopIteration:
            self._end("")
        except IrevlaError as error:
            self._end(str(error))
        else:
            future.add_done_callback(self._resumed)

    def _resumed(self, future: Future) -> None:
        if not self.running or future is not self._waiting:
            return
        error = future.exception()
        self._go_on(lambda: self._steps.send(future.result()) if error is None else self._steps.throw(error))

    def _end(self, failure: str) -> None:
        self.running = False
        self._done(failure)


def pause(node: GraphNode, seconds: float) -> Steps:
    """Wait so long, of wall time."""
    over = Future()

    def pass_by() -> None:
        if not over.done():
            over.set_result(None)

    timer = node.create_timer(seconds, pass_by, clock=Clock(clock_type=ClockType.STEADY_TIME))
    try:
        yield over
    finally:
        node.destroy_timer(timer)


def until(node: GraphNode, holds: Callable[[], bool], timeout_s: float, what: str) -> Steps:
    """Wait until ``holds``; ServiceTimeout, ``what``, when it does not in time."""
    end_ns = node.wall_ns() + round(timeout_s * SECOND)
    while not holds():
        if node.wall_ns() >= end_ns:
            raise ServiceTimeout(what, f"not within {timeout_s:g} s", "see whether its node is alive")
        yield from pause(node, LOOK_S)


def ask(node: GraphNode, client: Client, request: Any, timeout_s: float) -> Steps:
    """A service's response."""
    yield from until(node, client.service_is_ready, timeout_s, f"service {client.service_name}")
    return (yield call(node, client, request, timeout_s))


def achieve(node: GraphNode, client: ActionClient, goal: Any, timeout_s: float, name: str) -> Steps:
    """An action's result. RobotError when it is refused or fails; cancelled when it takes longer than ``timeout_s``."""
    yield from until(node, client.server_is_ready, timeout_s, f"action {name}")
    sent = client.send_goal_async(goal)
    handle: ClientGoalHandle | None = None
    try:
        handle = yield within(node, _shielded(sent), timeout_s, f"action {name}")
    finally:
        if handle is None:
            sent.add_done_callback(_cancel_goal)
    assert handle is not None
    if not handle.accepted:
        raise RobotError(f"action {name}", "the goal was refused", "see the log of its node")
    finished = False
    try:
        answer = yield within(node, handle.get_result_async(), timeout_s, f"action {name}")
        finished = True
    finally:
        if not finished:
            handle.cancel_goal_async()
    if answer.status != GoalStatus.STATUS_SUCCEEDED:
        told = getattr(answer.result, "error_message", "") or getattr(answer.result, "error", "")
        ended = {GoalStatus.STATUS_ABORTED: "was aborted", GoalStatus.STATUS_CANCELED: "was cancelled"}
        raise RobotError(f"action {name}", f"{ended.get(answer.status, f'ended with status {answer.status}')}"
                         f"{told and ': ' + told}", "see the log of its node")  # fmt: skip
    return answer.result


def _shielded(sent: Future) -> Future:
    """The result of ``sent``, which goes on when this one is cancelled: a goal that nobody waits for may still be accepted."""
    outcome = Future()

    def answered(_: Future) -> None:
        if not outcome.done() and not outcome.cancelled():
            outcome.set_result(sent.result())

    sent.add_done_callback(answered)
    return outcome


def _cancel_goal(sent: Future) -> None:
    if sent.result().accepted:
        sent.result().cancel_goal_async()
