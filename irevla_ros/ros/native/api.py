"""The closed list, native: rclpy's names as they are, and a Node that counts."""

# ruff: noqa: F401

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy import init, ok, shutdown, spin_once, try_shutdown
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
)
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.service import Service
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.task import Future
from rclpy.time import Time
from rclpy.timer import Timer

from irevla_ros.ros.native.executor import EventsExecutor, SingleThreadedExecutor, spin
from irevla_ros.ros.native.node import Node


def interface(type_name: str) -> type[Any]:
    """The class of a message or service type, by ROS's name."""
    package, kind, name = type_name.split("/")
    found: type[Any] = getattr(import_module(f"{package}.{kind}"), name)
    return found


def init_without_signals(args: Sequence[str] | None) -> None:
    """``init`` that leaves SIGINT and SIGTERM to the caller."""
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)


def caller(node: Node, function: Callable[[], object]) -> tuple[Callable[[], None], Callable[[], None]]:
    """(a function for any thread that has the executor's thread call ``function``, a function that ends that)."""
    if EventsExecutor is None:
        guard = node.create_guard_condition(function)
        return guard.trigger, lambda: node.destroy_guard_condition(guard)

    def once() -> None:
        timer.cancel()
        function()

    # The events executor knows no guard conditions, and dies of a task that raises. A timer that is reset wakes it.
    timer = node.create_timer(0.0, once, clock=Clock(clock_type=ClockType.STEADY_TIME), autostart=False)
    return timer.reset, lambda: node.destroy_timer(timer)
