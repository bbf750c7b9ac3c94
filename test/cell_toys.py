"""A cell played by one node over real topics: simulator, arbiter and episode node, in lock step, without physics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graph_toys import SPEC
from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import ArbiterConfig
from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import Event, Judge, Phase, Request, ResetDone, Start, Verdict
from irevla_ros.core.graph_messages import PolicyVersion, RewardValue, Sealed
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import ControlSource, Mode, Observation
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import Image, Int64, JointState, JointTrajectory, PoseStamped
from irevla_ros.ros.qos import COMMAND, LATCHED

PERIOD = 100_000_000
EPISODE = 1000 * 1_000_000_000
LONG = 10**15


class Cell(GraphNode):
    """Plays ``steps`` steps an episode and then gives the verdict; everything that was said is kept by name.

    ``observations``: stamp -> what was sent. acts: whether the arbiter takes the policy's chunks, else the cell's own.
    Step by step by ``observe`` and ``act``, or by itself with ``playing``.
    """

    def __init__(self, participants: Sequence[str], steps: int = 4, arm: str = "", run_id: str = "run1", size: int = 64,
                 first: int = 0, sequence: int = 0) -> None:  # fmt: skip
        super().__init__("cell" + (f"_{arm}" if arm else ""))
        self.lock_step = True
        self.steps, self.arm, self.size, self.run_id = steps, arm, size, run_id
        config = EpisodeConfig(tuple(participants), time_limit_ns=LONG, reset_ns=60 * 10**9, end_ns=60 * 10**9)
        self.machine = EpisodeMachine(config, run_id, first, 0, self.wall_ns(), sequence)
        self.arbiter = Arbiter(SPEC, ArbiterConfig(longest_chunk=1, max_observation_age_ns=LONG)) if False else self._arbiter()
        self.observations: dict[int, Observation] = {}
        self.records: list[ArbiterStep] = []
        self.chunks: list[Any] = []
        self.sealed: list[Sealed] = []
        self.reset_done: list[ResetDone] = []
        self.requests: list[Request] = []
        self.versions: list[PolicyVersion] = []
        self.recorded: list[int] = []
        self.ended: list[Any] = []
        self.playing = False
        self.verdict: bool | None = True
        self._rng = np.random.default_rng(0)
        self._stamp = -1
        qos = topics.observation_qos(True)
        self._image = self.create_publisher(Image, topics.of(arm, topics.image("front")), qos)
        self._pose = self.create_publisher(PoseStamped, topics.of(arm, topics.POSE), qos)
        self._width = self.create_publisher(JointState, topics.of(arm, topics.GRIPPER), qos)
        self.say_state = self.speak(type(self.machine.state), topics.of(arm, topics.STATE), LATCHED)
        self.say_step = self.speak(ArbiterStep, topics.of(arm, topics.STEP))
        self.say_reward = self.speak(RewardValue, topics.of(arm, topics.REWARD))
        self.listen(ResetDone, topics.of(arm, topics.RESET_DONE), self._event(self.reset_done))
        self.listen(Request, topics.of(arm, topics.REQUEST), self._event(self.requests))
        self.listen(Sealed, topics.of(arm, topics.SEALED), self.sealed.append)
        self.listen(PolicyVersion, topics.VERSION, self.versions.append, LATCHED)
        self.create_subscription(JointTrajectory, topics.of(arm, topics.ACTION), self._on_chunk, COMMAND)
        self.create_subscription(Int64, topics.of(arm, topics.RECORDED), lambda m: self._on_recorded(m.data), 100)

    @staticmethod
    def _arbiter() -> Arbiter:
        return Arbiter(SPEC, ArbiterConfig(longest_chunk=1))
