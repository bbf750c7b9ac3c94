"""rclpy's executor, whose spin ends in one way when the context closes: it returns, or raises ExternalShutdownException."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

import rclpy
import rclpy.executors
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from irevla_ros.ros.backend import EVENTS

EventsExecutor: Any = None
with suppress(ImportError):  # Humble, and Jazzy before rclpy 7.1.4, have none
    EventsExecutor = import_module(EVENTS).EventsExecutor

# On a signal rclpy wakes its waits first and closes the context afterwards: who looked in between would wait for ever.
_STEP_S = 0.5


class WaitSetExecutor(rclpy.executors.SingleThreadedExecutor):
    """rclpy's older one, also where it has the other: for a node with action clients, as the events executor ends where two
    servers answer ("Two goals were accepted with the same ID"), and this one warns.

    A context that closes between the look at it and the wait is an RCLError about a wait set.
    """

    def spin_once(self, timeout_sec: float | None = None) -> None:
        try:
            super().spin_once(timeout_sec)
        except RCLError:
            if self.context.ok():
                raise
            raise ExternalShutdownException from None


class SingleThreadedExecutor(WaitSetExecutor):
    """rclpy's events executor where it has one: the other one builds a wait set of all the node's entities, in Python, twice
    for every message, which costs a node more than its callbacks do."""

    def __new__(cls, **kwargs: Any) -> Any:
        return super().__new__(cls) if EventsExecutor is None else EventsExecutor(**kwargs)


def spin(node: Node, executor: rclpy.executors.Executor | None = None) -> None:
    """rclpy's, with the executor above where none is given: the thread that shuts down takes rclpy's own one apart."""
    context = node.context
    if not context.ok():
        return
    try:
        host = SingleThreadedExecutor() if executor is None else executor
        host.add_node(node)
        try:
            while context.ok():
                host.spin_once(timeout_sec=_STEP_S)
        finally:
            host.remove_node(node)
    except RCLError:
        if context.ok():
            raise
