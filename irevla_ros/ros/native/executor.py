"""rclpy's executor, whose spin ends in one way when the context closes: it returns, or raises ExternalShutdownException."""

from __future__ import annotations

import rclpy
import rclpy.executors
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

# On a signal rclpy wakes its waits first and closes the context afterwards: who looked in between would wait for ever.
_STEP_S = 0.5


class SingleThreadedExecutor(rclpy.executors.SingleThreadedExecutor):
    """In rclpy a context that closes between the look at it and the wait is an RCLError about a wait set."""

    def spin_once(self, timeout_sec: float | None = None) -> None:
        try:
            super().spin_once(timeout_sec)
        except RCLError:
            if self.context.ok():
                raise
            raise ExternalShutdownException from None


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
