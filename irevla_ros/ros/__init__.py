"""The middleware seam: nodes are written once against this list, with rclpy's names and semantics.

What is not in ``__all__``, ``irevla_ros.ros.messages`` and the modules beside them does not exist for a node. Two backends
carry it; which one is decided when the first name is asked for: docs/middleware.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irevla_ros.ros.embedded.api import *  # noqa: F403

__all__ = [  # noqa: F405
    "Client", "Clock", "ClockType", "DurabilityPolicy", "Duration", "ExternalShutdownException", "FloatingPointRange",
    "Future", "HistoryPolicy", "IntegerRange", "InvalidParameterTypeException", "InvalidParameterValueException",
    "Node", "Parameter", "ParameterAlreadyDeclaredException", "ParameterDescriptor", "ParameterNotDeclaredException",
    "Publisher", "QoSProfile", "ReliabilityPolicy", "Service", "SetParametersResult", "SingleThreadedExecutor",
    "Subscription", "Time", "Timer", "init", "ok", "shutdown", "spin", "spin_once", "try_shutdown",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from irevla_ros.ros.implementation import api  # so that ``irevla_ros.ros.backend`` works where no backend does

    globals()[name] = found = getattr(api, name)
    return found
