"""What goes wrong between a node and its middleware, for people. rclpy's own exceptions keep rclpy's names."""

from __future__ import annotations

from irevla_ros.core.errors import IrevlaError

CONFIGURATION = 78  # exit code (EX_CONFIG of sysexits.h) of a node that was told something wrong, as it will be next time


class MiddlewareError(IrevlaError):
    """The middleware cannot be chosen, set up or reached as asked."""


class ServiceTimeout(IrevlaError):
    """A service did not answer within the deadline that the caller set."""
