"""A franka node and what it needs around it: the fake Franka as a process, an arbiter by name, and the rest of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from irevla_ros.core.episode_machine import EpisodeConfig
from irevla_ros.core.episode_state import Phase, Request, ResetDone, Verb
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.franka.node import FrankaNode
from irevla_ros.ros import Node
from irevla_ros.ros.messages import JointState, PoseStamped
from irevla_ros.ros.qos import COMMAND, SENSOR
from node_toys import Peer
from ros_toys import Process, opened, spin_for, spin_until

FAKE = Path(__file__).with_name("franka_fake.py")
PERIOD_S = 0.1
QUICK = {"dry_run": "false", "reset.velocity_rad_s": "1.5", "reset.tolerance_rad": "0.02", "recovery.step_s": "5.0",
         "checks.clock_s": "0.1"}  # fmt: skip


class Cell:
    """A franka node, the rest of the graph as far as it needs one, and a node that is called arbiter."""

    def __init__(self) -> None:
        self.peer, self.arbiter, self.node = Peer(), Node("arbiter"), FrankaNode()
        self.peer.machine.config = EpisodeConfig(("robot",), reset_ns=10**12)
        self.nodes: list[Node] = [self.peer, self.arbiter, self.node]
        self.poses: list[PoseStamped] = self.peer.take(PoseStamped, topics.POSE, SENSOR)
        self.widths: list[JointState] = self.peer.take(JointState, topics.GRIPPER, SENSOR)
        self.done: list[ResetDone] = self.peer.hear(ResetDone, topics.RESET_DONE)
        self.asked: list[Request] = self.peer.hear(Request, topics.REQUEST)
        self.health = self.peer.health_of("/franka")
        self.targets = self.arbiter.create_publisher(PoseStamped, topics.TARGET_IN, COMMAND)
        self.grip = self.arbiter.create_publisher(JointState, topics.GRIPPER_COMMAND, COMMAND)

    def until(self, predicate: Callable[[], Any], timeout_s: float = 30.0) -> None:
        spin_until(predicate, *self.nodes, timeout_s=timeout_s)

    def pause(self, seconds: float) -> None:
        spin_for(seconds, *self.nodes)

    def now_ns(self) -> int:
        return int(self.node.now_ns())

    @property
    def tip(self) -> np.ndarray[Any, Any]:
        return convert.pose_of(self.poses[-1]).p

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

    def close(self) -> None:
        for node in self.nodes:
            node.destroy_node()


def words(parameters: dict[str, Any]) -> list[str]:
    """What follows --ros-args."""
    return [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]


@contextmanager
def cell(fake: dict[str, Any] | None = None, **parameters: str) -> Iterator[Cell]:
    """A fake with these parameters and a node with those; a dot in a parameter's name is written as two underscores."""
    given = QUICK | {name.replace("__", "."): value for name, value in parameters.items()}
    with Process("--ros-args", *words(fake or {}), script=FAKE) as process:
        process.expect("fake franka ready")
        with opened(["irevla", "--ros-args", *words(given)]):
            made = Cell()
            try:
                yield made
            finally:
                made.close()
