"""A franka node and what it needs around it: the fake Franka as a process, an arbiter by name, and the rest of the graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters

from irevla_ros.core.episode_machine import EpisodeConfig
from irevla_ros.core.episode_state import Phase, Request, ResetDone, Verb
from irevla_ros.core.graph_messages import Consent
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.franka.node import FrankaNode
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros import Node, Parameter
from irevla_ros.ros.messages import JointState, PoseStamped, Trigger
from irevla_ros.ros.native.executor import WaitSetExecutor
from irevla_ros.ros.qos import COMMAND, SENSOR
from node_toys import Peer
from ros_toys import DEADLINE_S, Process, opened

FAKE = Path(__file__).with_name("franka_fake.py")
PERIOD_S = 0.1
QUICK = {"dry_run": "false", "reset.velocity_rad_s": "1.5", "reset.tolerance_rad": "0.02", "recovery.step_s": "10.0",
         "checks.clock_s": "0.1"}  # fmt: skip


class Consenting(GraphNode):
    """A node that is called arbiter, and consents to motions: ``engaged`` and ``hindrance`` of what it says."""

    def __init__(self) -> None:
        super().__init__("arbiter")
        self.engaged, self.hindrance, self._sequence = False, "", 0
        self._consent = self.speak(Consent, topics.CONSENT, COMMAND)
        self.targets = self.create_publisher(PoseStamped, topics.TARGET_IN, COMMAND)
        self.grip = self.create_publisher(JointState, topics.GRIPPER_COMMAND, COMMAND)
        self.voice = self.every(0.1, self._say)

    def _say(self) -> None:
        self._sequence += 1
        self._consent(Consent(self.now_ns(), self._sequence, self.engaged, self.hindrance))


class Cell:
    """A franka node, the rest of the graph as far as it needs one, and an arbiter that consents. ``fake``: its process."""

    def __init__(self, fake: Process, arbiter: Callable[[], Any]) -> None:
        self.fake = fake
        self.peer, self.arbiter, self.node = Peer(), arbiter(), FrankaNode()
        self.peer.machine.config = EpisodeConfig(("robot",), reset_ns=10**12)
        self._executor = WaitSetExecutor()  # as the node's process has; one for all its life, as in a process
        for node in (self.peer, self.arbiter, self.node):
            self._executor.add_node(node)
        self.poses: list[PoseStamped] = self.peer.take(PoseStamped, topics.POSE, SENSOR)
        self.widths: list[JointState] = self.peer.take(JointState, topics.GRIPPER, SENSOR)
        self.done: list[ResetDone] = self.peer.hear(ResetDone, topics.RESET_DONE)
        self.asked: list[Request] = self.peer.hear(Request, topics.REQUEST)
        self.health = self.peer.health_of(self.node.get_fully_qualified_name())
        if arbiter is Consenting:  # the real one speaks for itself
            self.targets, self.grip = self.arbiter.targets, self.arbiter.grip

    def until(self, predicate: Callable[[], Any], timeout_s: float = DEADLINE_S) -> None:
        end = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < end, f"did not happen within {timeout_s} s"
            self._executor.spin_once(timeout_sec=0.05)

    def pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, seconds + DEADLINE_S)

    def trigger(self, service: str) -> Any:
        """A Trigger service's answer."""
        client = self.peer.create_client(Trigger, service)
        self.until(client.service_is_ready)
        future = client.call_async(Trigger.Request())
        self.until(future.done)
        self.peer.destroy_client(client)
        return future.result()

    def set_parameter(self, node: str, name: str, value: float) -> Any:
        """What became of it."""
        client = self.peer.create_client(SetParameters, f"{node}/set_parameters")
        self.until(client.service_is_ready)
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))
        self.until(future.done)
        self.peer.destroy_client(client)
        return future.result().results[0]

    def set_fake(self, name: str, value: float) -> None:
        assert self.set_parameter("fake_world", name, value).successful

    @contextmanager
    def joined_by(self, name: str) -> Iterator[Node]:
        """Another node in the graph, for a while."""
        node = Node(name)
        self._executor.add_node(node)
        try:
            yield node
        finally:
            self._executor.remove_node(node)
            node.destroy_node()

    def engage(self) -> None:
        """As when the operator lets go of the arm and engages it anew."""
        self.arbiter.engaged = False
        self.until(lambda: self.node._consent.objection() == "the operator has not called arbiter/engage")
        self.arbiter.engaged = True
        self.until(lambda: self.node._consent.engaged)

    def leave(self) -> None:
        """The franka node goes, without a last word."""
        self._executor.remove_node(self.node)
        self.node.destroy_node()

    def restart(self, left: bool = False) -> None:
        """Another franka node instead of the one that is here, or has left."""
        if not left:
            self.leave()
            self.pause(0.3)  # within a process the new publishers have the ids of the old: the graph must have seen these go
        self.node = FrankaNode()
        self._executor.add_node(self.node)

    def now_ns(self) -> int:
        return self.peer.now_ns()

    @property
    def tip(self) -> np.ndarray[Any, Any]:
        return convert.pose_of(self.poses[-1]).p

    def drift(self) -> float:
        """How far the tip moves in half a second, m."""
        before = self.tip
        self.pause(0.5)
        return float(np.linalg.norm(self.tip - before))

    def reset(self, timeout_s: float = 40.0) -> ResetDone:
        """Begin an episode, and what the node said of its reset."""
        if self.peer.machine.state.phase is not Phase.IDLE:
            if self.peer.machine.state.phase is not Phase.END:
                self.peer.play(Request(Verb.STOP), self.now_ns())
            self.peer.play(Request(Verb.SEALED), self.now_ns())
        state = self.peer.start()
        self.until(lambda: any(one.episode_id == state.episode_id for one in self.done), timeout_s)
        return next(one for one in self.done if one.episode_id == state.episode_id)

    def run(self) -> None:
        """An episode up to its run."""
        done = self.reset()
        assert done.failure == ""
        self.peer.play(done, self.now_ns())
        assert self.peer.machine.state.phase is Phase.RUN
        self.pause(0.3)

    def drive(self, position: Any, seconds: float, by: Any = None) -> None:
        """Targets at 10 Hz."""
        pose = Pose.of(position, POINTING_DOWN)
        for _ in range(round(seconds / PERIOD_S)):
            (by or self.targets).publish(convert.pose_message(pose, self.now_ns(), "base"))
            self.pause(PERIOD_S)

    def reach(self, position: Any, within: float = 0.005) -> None:
        """Targets until the tip is there, m."""
        end = time.monotonic() + DEADLINE_S
        while np.linalg.norm(self.tip - position) >= within:
            assert time.monotonic() < end, f"{self.tip} is not {position}; the gate: {self.node._gate.closed!r}"
            self.drive(position, PERIOD_S)

    def close(self) -> None:
        self._executor.shutdown()
        for node in (self.peer, self.arbiter, self.node):
            node.destroy_node()


def words(parameters: dict[str, Any]) -> list[str]:
    """What follows --ros-args."""
    return [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]


@contextmanager
def cell(fake: dict[str, Any] | None = None, arbiter: Callable[[], Any] = Consenting, spaces: tuple[str, str] = ("/", "/"),
         **parameters: str) -> Iterator[Cell]:  # fmt: skip
    """A fake with these parameters and a node with those; a dot in a parameter's name is written as two underscores. spaces:
    the namespaces of the fake and of the graph."""
    given = QUICK | {name.replace("__", "."): value for name, value in parameters.items()}
    theirs, ours = (["-r", f"__ns:={space}"] for space in spaces)
    with Process("--ros-args", *theirs, *words(fake or {}), script=FAKE) as process:
        process.expect("fake franka ready")
        remap = f"arbiter:{topics.TARGET}:={topics.TARGET_IN}"
        with opened(["irevla", "--ros-args", *ours, "-r", remap, *words(given)]):
            made = Cell(process, arbiter)
            if arbiter is Consenting:
                made.engage()
            try:
                yield made
            finally:
                made.close()
