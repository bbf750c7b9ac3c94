"""The franka node as a process: `python -m irevla_ros.nodes.franka`, `ros2 run irevla_ros franka`."""

from __future__ import annotations

import os
import sys

from irevla_ros.core.errors import IrevlaError
from irevla_ros.ros.backend import Backend, choose
from irevla_ros.ros.errors import CONFIGURATION, MiddlewareError


def main() -> int:
    try:
        choice = choose(os.environ)
        if choice.backend is not Backend.NATIVE:
            raise MiddlewareError(f"the franka node on the embedded middleware: {choice.reason}",
                                  "it needs rclpy (actions, TF)",
                                  "source ROS 2 in this shell, for this Python")  # fmt: skip
    except IrevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return CONFIGURATION  # it will be so next time, too
    from irevla_ros.nodes.franka.node import FrankaNode
    from irevla_ros.ros.native.executor import WaitSetExecutor
    from irevla_ros.ros.run import run_node

    return run_node(FrankaNode, executor_of=WaitSetExecutor)


if __name__ == "__main__":
    sys.exit(main())
