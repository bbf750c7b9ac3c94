"""The closed list, embedded. ``irevla_ros.ros.native.api`` is the same list from rclpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from irevla_ros.ros.embedded.client import Client
from irevla_ros.ros.embedded.clock import Clock
from irevla_ros.ros.embedded.context import init, ok, shutdown, start, try_shutdown
from irevla_ros.ros.embedded.exceptions import (
    ExternalShutdownException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
)
from irevla_ros.ros.embedded.executor import SingleThreadedExecutor, spin, spin_once
from irevla_ros.ros.embedded.future import Future
from irevla_ros.ros.embedded.node import Node
from irevla_ros.ros.embedded.parameter import (
    FloatingPointRange,
    IntegerRange,
    Parameter,
    ParameterDescriptor,
    SetParametersResult,
)
from irevla_ros.ros.embedded.publisher import Publisher
from irevla_ros.ros.embedded.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from irevla_ros.ros.embedded.service import Service
from irevla_ros.ros.embedded.subscription import Subscription
from irevla_ros.ros.embedded.time import ClockType, Duration, Time
from irevla_ros.ros.embedded.timer import Timer
from irevla_ros.ros.embedded.types.message import message_class, service_class

__all__ = [
    "Client", "Clock", "ClockType", "DurabilityPolicy", "Duration", "ExternalShutdownException", "FloatingPointRange",
    "Future", "HistoryPolicy", "IntegerRange", "InvalidParameterTypeException", "InvalidParameterValueException",
    "Node", "Parameter", "ParameterAlreadyDeclaredException", "ParameterDescriptor", "ParameterNotDeclaredException",
    "Publisher", "QoSProfile", "ReliabilityPolicy", "Service", "SetParametersResult", "SingleThreadedExecutor",
    "Subscription", "Time", "Timer", "init", "ok", "shutdown", "spin", "spin_once", "try_shutdown",
]  # fmt: skip


def interface(type_name: str) -> type[Any]:
    """The class of a message or service type, by ROS's name."""
    return service_class(type_name) if "/srv/" in type_name else message_class(type_name)


def init_without_signals(args: Sequence[str] | None) -> None:
    """``init`` that leaves SIGINT and SIGTERM to the caller."""
    start(args, signals=False)


def caller(node: Node, function: Callable[[], object]) -> tuple[Callable[[], None], Callable[[], None]]:
    """(a function for any thread that has the executor's thread call ``function``, a function that ends that)."""
    return lambda: node._call_soon(function), lambda: None
