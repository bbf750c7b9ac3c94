"""The checks before the first engagement, asked of the running ROS graph: by the node, and by `irevla doctor --robot`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.time import Time

from irevla_ros.core.durations import SECOND
from irevla_ros.core.health import Level
from irevla_ros.core.robot_checks import Finding, clock_agrees, frames_agree, one_publisher, qos_agrees
from irevla_ros.core.rotation import Pose
from irevla_ros.nodes import topics
from irevla_ros.nodes.franka.command import SERVO, full_name
from irevla_ros.nodes.franka.controllers import Controllers
from irevla_ros.nodes.franka.gripper import HAND
from irevla_ros.nodes.franka.state import HAS_FRANKA_MSGS, JOINTS, ArmState
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.franka import Commands, FrankaConfig

try:
    from tf2_ros import Buffer, TransformException, TransformListener
except ImportError:
    Buffer = None


class RobotChecks:
    """``node``: whose names count as this graph's; ``running``: the graph is up, so that its publishers are expected."""

    def __init__(self, node: GraphNode, config: FrankaConfig, state: ArmState, controllers: Controllers, running: bool) -> None:
        self._config, self._state, self._controllers = config, state, controllers
        self._node: Any = node  # endpoints by topic are rclpy's alone
        self._running = running
        self._listener: Any = None
        if Buffer is not None:
            self._buffer = Buffer()
            self._listener = TransformListener(self._buffer, node, spin_thread=False)
        namespace = node.get_namespace().rstrip("/")
        self._me, self._arbiter = f"{namespace}/franka", f"{namespace}/{config.arbiter}"
        self._command = self._driver_topic(topics.TARGET if config.command is Commands.CRISP else SERVO)
        self._states = [self._driver_topic(name) for name in (f"{config.broadcaster}/robot_state", JOINTS)]
        self._hand = self._driver_topic(f"{HAND}/joint_states")

    def close(self) -> None:
        """Stop listening to TF, which is many messages."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None

    def findings(self) -> list[Finding]:
        return list(self._findings())

    def _findings(self) -> Iterator[Finding]:
        config, state, node = self._config, self._state, self._node
        if not HAS_FRANKA_MSGS:
            yield Finding("franka_msgs", Level.WARN, "does not import: no reflexes by name, no recovery, no PTP, no grasp",
                          "build franka_msgs of franka_ros2 for this Python (docs/franka.md)")  # fmt: skip
        else:
            yield Finding("franka_msgs", Level.OK, "imports")
        if state.problem is not None:
            yield Finding("state", Level.ERROR, f"{state.problem.value}: {state.problem.rule}", state.problem.remedy)
        elif state.fresh():
            yield Finding("state", Level.OK, f"from {state.source}")
        else:
            yield Finding("state", Level.ERROR,
                          f"nothing on {' and '.join(self._states)} in the last {config.silent_ns / SECOND:g} s",
                          "start the robot's driver in this namespace (bringup:=true), or set `driver`")  # fmt: skip
        yield frames_agree(config.checks, state.pose, self._transform(), config.frame, config.tip_frame)
        yield clock_agrees(config.checks, list(state.ages_s))
        yield from self._controller()
        given = self._running and not config.dry_run  # in a dry run the arbiter publishes elsewhere
        for topic, expected, wanted in ((self._command, self._me, self._running),
                                        (node.resolve_topic_name(topics.TARGET_IN), self._arbiter, given)):  # fmt: skip
            publishers = [full_name(one) for one in node.get_publishers_info_by_topic(topic)]
            if publishers or wanted:
                yield one_publisher(topic, publishers, expected)
        if not node.count_subscribers(self._command):
            yield Finding(f"listeners to {self._command}", Level.ERROR, "nobody",
                          f"load and configure {config.controller or 'Servo'} there")  # fmt: skip
        for topic in (self._command, node.resolve_topic_name(topics.TARGET_IN), *self._states, self._hand):
            yield qos_agrees(topic, self._mismatches(topic))
        if not node.count_publishers(self._hand):
            yield Finding("gripper", Level.ERROR, f"nobody publishes {self._hand}", "start franka_gripper (load_gripper:=true)")

    def _controller(self) -> Iterator[Finding]:
        config, hardware, states = self._config, self._controllers.hardware, self._controllers.states
        if hardware is None:
            yield Finding("controller_manager", Level.ERROR, "does not answer", "start the robot's driver, or set `driver`")
        elif hardware != "active":
            yield Finding("hardware component", Level.ERROR, f"{config.hardware} is {hardware}",
                          "ros2 control list_hardware_components; set `arm_prefix`, or call robot/recover")  # fmt: skip
        if hardware is not None and config.controller and config.controller not in states:
            yield Finding("controller", Level.ERROR, f"{config.controller} is not loaded; {', '.join(sorted(states))} are",
                          f"ros2 run controller_manager spawner {config.controller} --inactive")  # fmt: skip

    def _driver_topic(self, name: str) -> str:
        return str(self._node.resolve_topic_name(self._config.of_driver(name)))

    def _transform(self) -> Pose | None:
        if self._listener is None:
            return None
        try:
            found = self._buffer.lookup_transform(self._config.frame, self._config.tip_frame, Time()).transform
        except TransformException:
            return None
        at, turn = found.translation, found.rotation
        return Pose.of((at.x, at.y, at.z), (turn.x, turn.y, turn.z, turn.w))

    def _mismatches(self, topic: str) -> list[str]:
        found = []
        for publisher in self._node.get_publishers_info_by_topic(topic):
            for subscriber in self._node.get_subscriptions_info_by_topic(topic):
                verdict, why = qos_check_compatible(publisher.qos_profile, subscriber.qos_profile)
                if verdict == QoSCompatibility.ERROR:
                    told = why.replace("ERROR: ", "").strip().rstrip(";")
                    found.append(f"{full_name(publisher)} to {full_name(subscriber)}: {told}")
        return found
