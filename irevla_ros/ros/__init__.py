"""The middleware seam: nodes are written once against this list, with rclpy's names and semantics.

What is not in ``__all__``, ``irevla_ros.ros.messages`` and the modules beside them does not exist for a node. Two backends
carry it; which one is chosen when this is imported: docs/middleware.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irevla_ros.ros.embedded.api import *  # noqa: F403
else:
    from irevla_ros.ros.implementation import api

__all__ = [  # noqa: F405
    "Client", "Clock", "ClockType", "DurabilityPolicy", "Duration", "ExternalShutdownException", "FloatingPointRange",
    "Future", "HistoryPolicy", "IntegerRange", "InvalidParameterTypeException", "InvalidParameterValueException",
    "Node", "Parameter", "ParameterAlreadyDeclaredException", "ParameterDescriptor", "ParameterNotDeclaredException",
    "Publisher", "QoSProfile", "ReliabilityPolicy", "Service", "SetParametersResult", "SingleThreadedExecutor",
    "Subscription", "Time", "Timer", "init", "ok", "shutdown", "spin", "spin_once", "try_shutdown",
]  # fmt: skip

if not TYPE_CHECKING:
    globals().update({name: getattr(api, name) for name in __all__})
    del api
