"""Which middleware carries the nodes: rclpy where a ROS 2 installation is sourced, else the embedded one."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module

from irevla_ros.ros.errors import MiddlewareError

EVENTS = "rclpy.experimental"  # where rclpy has its events executor: Jazzy from rclpy 7.1.4 on, Kilted
VARIABLE = "IREVLA_ROS"


class Backend(Enum):
    NATIVE = "native"
    EMBEDDED = "embedded"


@dataclass(frozen=True)
class Choice:
    """The backend and, for people, why it is this one."""

    backend: Backend
    reason: str


@functools.cache
def chosen() -> Choice:
    """The choice for this process, made once, at the first import of ``irevla_ros.ros``."""
    return choose(os.environ)


def choose(environment: Mapping[str, str]) -> Choice:
    """``IREVLA_ROS`` decides; without it, native where rclpy imports. Raises MiddlewareError where that cannot be."""
    asked = environment.get(VARIABLE, "")
    names = [one.value for one in Backend]
    if asked and asked not in names:
        raise MiddlewareError(f"{VARIABLE}={asked}", f"must be {' or '.join(names)}", "unset it to let rclpy decide")
    if asked != Backend.EMBEDDED.value:
        fault = _import_fault("rclpy")
        if not fault:
            why = f"{VARIABLE}=native" if asked else "rclpy imports"
            slow = "wait sets, slower than the events executor that rclpy has from 7.1.4 on"
            executor = slow if _import_fault(EVENTS) else "events executor"
            return Choice(Backend.NATIVE, f"{why} (ROS_DISTRO={environment.get('ROS_DISTRO', 'unknown')}; {executor})")
        if asked:
            remedy = f"source ROS 2 for this Python ({platform.python_version()}), or set {VARIABLE}=embedded"
            raise MiddlewareError(f"{VARIABLE}=native", f"rclpy does not import ({fault})", remedy)
        why = f"rclpy does not import ({fault})"
    else:
        why = f"{VARIABLE}=embedded"
    for module in ("zenoh", "rosbags"):
        fault = _import_fault(module)
        if fault:
            rule = f"the embedded backend needs {module} ({fault})"
            raise MiddlewareError(why, rule, "pip install 'irevla_ros[embedded]', or source ROS 2")
    return Choice(Backend.EMBEDDED, why)


def _import_fault(module: str) -> str:
    """Why a module does not import, on one line; empty if it does."""
    try:
        import_module(module)
    except ImportError as error:
        return " ".join(str(error).split())
    return ""
