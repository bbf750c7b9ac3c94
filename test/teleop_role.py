"""The teleoperation node as a process: ``python teleop_role.py -p terminal:=/dev/pts/3 ...``."""

import sys

import ros_toys  # noqa: F401  (chooses the domain before the middleware is imported)
from irevla_ros.nodes.teleop import main

if __name__ == "__main__":
    sys.argv[1:] = ["--ros-args", *sys.argv[1:]]
    sys.exit(main())
