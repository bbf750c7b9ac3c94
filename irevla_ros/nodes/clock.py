"""Tells the other host of a graph what time it is here, so that what depends on stamps of both can see how far they are off."""

from __future__ import annotations

import sys

from irevla_ros.core.health import Level
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.clock import settings
from irevla_ros.ros.clock_offset import serve_clock
from irevla_ros.ros.run import run_node


class ClockNode(GraphNode):
    """Parameters: ``ClockConfig``."""

    def __init__(self) -> None:
        super().__init__("clock")
        service = serve_clock(self, self.declare(settings).side)
        self.health.check("clock", Level.OK, f"tells the time on {service.service_name}")


def main() -> int:
    return run_node(ClockNode)


if __name__ == "__main__":
    sys.exit(main())
