"""A graph of toy nodes under `run_graph`; run as a program: ``up_toys.py graph FOLDER`` or ``up_toys.py node FOLDER NAME``.

Each toy writes its name into FOLDER/order as its last words; the toy called learner is done when FOLDER/done exists.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from irevla_ros.core.errors import Interrupted
from irevla_ros.core.graph_messages import LearnerStatus
from irevla_ros.nodes import console, topics, up
from irevla_ros.nodes.graph import ProcessSpec
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.qos import LATCHED
from irevla_ros.ros.run import run_node

NAMES = ("arm0/sim", "arm0/arbiter", "learner")


class Toy(GraphNode):
    def __init__(self) -> None:
        super().__init__("toy")
        self.health.counts["input.refused"] = 2
        self._meter = self.health.watch("input", stale_ns=60 * 10**9)
        self.every(0.1, self._tick)
        if self.get_name() == "learner":
            self.speak(LearnerStatus, topics.STATUS, LATCHED)(LearnerStatus("stage 1", "press-red", 12, 50, 0.62, 12, 3))

    def _tick(self) -> None:
        self._meter.arrived(self.wall_ns())
        if self.get_name() == "learner" and (Path(sys.argv[2]) / "done").exists():
            signal.raise_signal(signal.SIGINT)

    def on_shutdown(self) -> None:
        with (Path(sys.argv[2]) / "order").open("a") as file:
            file.write(f"{self.get_fully_qualified_name()}\n")


def spec(folder: str, name: str) -> ProcessSpec:
    namespace, _, node = name.rpartition("/")
    argv = [sys.executable, __file__, "node", folder, "--ros-args", "-r", f"__node:={node}"]
    argv += ["-r", f"__ns:=/{namespace}"] if namespace else []
    return ProcessSpec(name, tuple(argv), stop_first=node == "arbiter", ends_graph=node == "learner")


def main() -> int:
    if sys.argv[1] == "node":
        return run_node(Toy)
    console.PLAIN_S = 0.5
    try:
        up.run_graph([spec(sys.argv[2], name) for name in NAMES], Path(sys.argv[2]) / "log", [], "irevla up toys")
    except Interrupted as stop:
        print(stop)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
