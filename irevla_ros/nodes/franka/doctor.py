"""The checks before the first engagement from outside of the graph, which may run or not: for `irevla doctor --robot`."""

from __future__ import annotations

import json
import time
from pathlib import Path

from irevla_ros.core.config import find_config, read_yaml
from irevla_ros.core.durations import SECOND
from irevla_ros.core.robot_checks import Finding, problems
from irevla_ros.nodes.franka.checks import RobotChecks
from irevla_ros.nodes.franka.controllers import Controllers
from irevla_ros.nodes.franka.state import ArmState
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import settings
from irevla_ros.nodes.parameters.reading import parameter_names
from irevla_ros.ros import SingleThreadedExecutor
from irevla_ros.ros.run import context

SECTIONS = ("/**", "/**/franka")


class Examiner(GraphNode):
    """Listens as the franka node does, and says nothing."""

    def __init__(self) -> None:
        super().__init__("irevla_doctor")
        self.config = self.declare(settings)
        controllers = Controllers(self, self.config)
        arm = ArmState(self, self.config, controllers, speaks=False)
        self.checks = RobotChecks(self, self.config, arm, controllers, running=False)


def examine(namespace: str, parameters: str | Path) -> list[Finding]:
    """What there is to say about the robot in a namespace, for the franka node's parameters in a file (or a shipped one, by
    name); within ``settle_s``, or as soon as nothing is wrong. Raises ConfigError for wrong parameters."""
    tree, values = read_yaml(find_config(parameters, "parameters")), {}
    for section in SECTIONS:
        values.update(tree.get(section, {}).get("ros__parameters", {}))
    given = ["--ros-args", "-r", f"__ns:=/{namespace.strip('/')}"]
    given += [word for name in sorted(values.keys() & parameter_names("franka"))
              for word in ("-p", f"{name}:={json.dumps(values[name])}")]  # fmt: skip
    with context(["irevla", *given]):
        node = Examiner()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            end = time.monotonic() + node.config.settle_ns / SECOND
            looked = 0.0
            while time.monotonic() < end:
                executor.spin_once(timeout_sec=0.05)
                if time.monotonic() - looked > 0.5:  # discovery takes a moment
                    looked = time.monotonic()
                    if not problems(node.checks.findings()):
                        break
            return node.checks.findings()
        finally:
            executor.shutdown()
            node.destroy_node()
