"""Devices that drive the arm: find out which axis and button of yours is which.

`irevla teleop calibrate gamepad` listens to ROS's driver (`joy`, or spacenav's topics), asks you to move each axis and press
each button, and writes the parameters that `irevla collect --params-file` takes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from irevla_ros.nodes import preparation
from irevla_ros.ros.backend import VARIABLE, chosen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="calibrate")
    one = verbs.add_parser("calibrate", help="ask for each axis and button, write a parameter file")
    one.add_argument("device", choices=("gamepad", "spacemouse"))
    one.add_argument("--out", type=Path, help="file to write (default: DEVICE.yaml)")
    parser.epilog = (
        "example:\n  irevla teleop calibrate gamepad --out my_pad.yaml\n"
        "  irevla collect --device gamepad --params-file my_pad.yaml"
    )


def run(args: argparse.Namespace) -> int:
    preparation.stay_on_this_host(os.environ)
    os.environ[VARIABLE] = chosen().backend.value
    from irevla_ros.nodes.pad_calibration import calibrate  # only now: it loads the middleware

    calibrate(args.device, args.out or Path(f"{args.device}.yaml"), args.command_line)
    return 0
