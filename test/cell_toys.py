"""A cell played by one node over real topics: simulator, arbiter and episode node of an arm, in lock step, without physics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import ros_toys  # noqa: F401  (chooses the domain before the middleware is imported)
from graph_toys import PERIOD, SPEC
from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import ArbiterConfig
from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import EpisodeState, Event, Judge, Phase, Request, ResetDone, Start, Verdict
from irevla_ros.core.graph_messages import Announcement, PolicyVersion, RewardValue, Sealed
from irevla_ros.core.rotation import POINTING_DOWN, Pose, raw_proprio
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import ControlSource, Mode, Observation
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros.messages import Image, Int64, JointState, JointTrajectory, PoseStamped
from irevla_ros.ros.qos import COMMAND, EVENT, LATCHED

LONG = 10**15
BETWEEN = 1000 * 10**9  # between the first observations of two episodes
# Its time is not wall time: no stream, and no speed limits by the wall clock.
PATIENT = ArbiterConfig(longest_chunk=1, servo_ns=0, release_ns=0, min_tick_ns=0, pose_ns=LONG, command_ns=LONG, human_ns=LONG,
                        chunk_age_ns=LONG)  # fmt: skip


class Cell(GraphNode):
    """Plays episodes of ``steps`` steps; what was said to it is kept by name.

    drives: POLICY (its chunks), SCRIPT or HUMAN (random actions of the cell's own). By hand with ``observe``, ``act`` and
    ``end``, or by itself with ``playing``, where ``waits`` names what it waits for: chunk, recorded.
    """

    def __init__(self, participants: Sequence[str] = (), steps: int = 4, arm: str = "",
                 first: int = 0, sequence: int = 0, size: int = 64,
                 drives: ControlSource = ControlSource.POLICY) -> None:  # fmt: skip
        super().__init__("cell" + (f"_{arm}" if arm else ""))
        self.lock_step = True
        self.steps, self.size, self.drives, self.waits = steps, size, drives, ("chunk", "recorded")
        config = EpisodeConfig(tuple(participants), time_limit_ns=LONG)
        self.machine = EpisodeMachine(config, "run1", first, 0, self.wall_ns(), sequence, arm)
        self.success = True
        self.playing = False
        self.on_idle: Callable[[], object] = lambda: None
        self.observations: dict[int, Observation] = {}
        self.dry_run = False
        self.records: list[ArbiterStep] = []
        self.rewards: dict[int, float] = {}
        self.chunks: list[ActionChunk] = []
        self.recorded: list[int] = []
        self.sealed: list[Sealed] = []
        self.reset_done: list[ResetDone] = []
        self.requests: list[Request] = []
        self.versions: list[PolicyVersion] = []
        self.done = 0
        self.stamp = -1
        self._started: set[str] = set()
        self._rng = np.random.default_rng(0)
        self._arbiter = Arbiter(SPEC, PATIENT)
        qos = topics.observation_qos(True)
        self._image = self.create_publisher(Image, topics.of(arm, topics.image("front")), qos)
        self._pose = self.create_publisher(PoseStamped, topics.of(arm, topics.POSE), qos)
        self._width = self.create_publisher(JointState, topics.of(arm, topics.GRIPPER), qos)
        self.say_state = self.speak(EpisodeState, topics.of(arm, topics.STATE), LATCHED)
        self.say_step = self.speak(ArbiterStep, topics.of(arm, topics.STEP))
        self.say_reward = self.speak(RewardValue, topics.of(arm, topics.REWARD))
        self.announce = self.speak(Announcement, topics.ANNOUNCEMENT, LATCHED)
        self.listen(ResetDone, topics.of(arm, topics.RESET_DONE), self._into(self.reset_done))
        self.listen(Request, topics.of(arm, topics.REQUEST), self._into(self.requests))
        self.listen(Sealed, topics.of(arm, topics.SEALED), self.sealed.append)
        self.listen(PolicyVersion, topics.VERSION, self.versions.append, LATCHED)
        self.create_subscription(JointTrajectory, topics.of(arm, topics.ACTION), self._on_chunk, COMMAND)
        self.create_subscription(Int64, topics.of(arm, topics.RECORDED), self._on_recorded, EVENT)

    @property
    def state(self) -> EpisodeState:
        return self.machine.state

    @property
    def phase(self) -> Phase:
        return self.machine.state.phase

    # ---- the episode node ----------------------------------------------------------------------------------------

    def start(self, mode: Mode = Mode.TRAIN, seed: int = 3, instruction: str = "press the red button", **more: Any) -> None:
        self.hear(Start("press-red", instruction, mode, seed, **more))

    def hear(self, event: Event) -> None:
        before = self.phase
        if self.machine.handle(event, self.now_ns(), self.wall_ns()).changed:
            self._changed(before)

    def _into(self, kept: list[Any]) -> Callable[[Any], None]:
        def received(event: Any) -> None:
            kept.append(event)
            self.hear(event)

        return received

    def _changed(self, before: Phase) -> None:
        self.say_state(self.state)
        if self.phase is Phase.RUN and before is not Phase.RUN:
            self._arbiter = Arbiter(SPEC, PATIENT)
            self.stamp = (self.done + 1) * BETWEEN
            if self.playing:
                self.observe()
        elif self.phase is Phase.END and before is Phase.RUN:
            self.let_go()
        elif self.phase is Phase.IDLE:
            self.done += 1
            self.on_idle()

    # ---- the simulator -------------------------------------------------------------------------------------------

    def make(self, stamp_ns: int) -> tuple[Observation, Pose, float]:
        """What the camera and the robot show at a stamp: the same whenever it is asked for."""
        rng = np.random.default_rng(stamp_ns // PERIOD)
        pixels = rng.integers(0, 256, (self.size, self.size, 3), np.uint8)
        pose, width = Pose((0.5 + 0.1 * rng.random(), 0.1 * rng.random(), 0.2), POINTING_DOWN), 0.08 * rng.random()
        proprio = ProprioSpec().to_normalised(raw_proprio(pose, width))
        return Observation({"front": pixels}, proprio, self.state.instruction), pose, width

    def observe(self, parts: str = "image pose width") -> None:
        """Send the observation of ``stamp``, or parts of it."""
        observation, pose, width = self.make(self.stamp)
        self.observations[self.stamp] = observation
        self.seen(self.stamp)
        self._arbiter.pose(pose.position, pose.quaternion, self.stamp, self.wall_ns())
        self._arbiter.observe(self.stamp)
        for part in parts.split():
            if part == "image":
                self._image.publish(convert.image_message(observation.images["front"], self.stamp, "front"))
            elif part == "pose":
                self._pose.publish(convert.pose_message(pose, self.stamp, "base"))
            else:
                self._width.publish(convert.width_message(width, self.stamp))

    # ---- the arbiter ---------------------------------------------------------------------------------------------

    def act(self, chunk: ActionChunk | None = None) -> ArbiterStep:
        """One step on the newest observation, then the next one's stamp; ``chunk`` None: an action of the cell's own."""
        now, wall = self.stamp, self.wall_ns()
        source = self.drives
        action = self._rng.uniform(-0.9, 0.9, SPEC.size).astype(np.float32)
        if self._arbiter.engaged is None:
            self._arbiter.engage(source, now, wall, self.state.episode_id)
        if source is ControlSource.HUMAN:
            self._arbiter.human(True, action[:3] * 0.1, (0, 0, 0), 1.0, now, wall)
        else:
            self._arbiter.offer(source, chunk or ActionChunk(now, SPEC.names, action[None], PERIOD), now, wall)
        record = self._arbiter.tick(now, wall)
        record = replace(record, dry_run=self.dry_run)
        self.records.append(record)
        self.say_step(record)
        self.stamp += PERIOD
        return record

    def let_go(self) -> None:
        """The tick after the arbiter has let go, as it does at the end."""
        if self.drives is ControlSource.HUMAN:
            self._arbiter.human(False, (0, 0, 0), (0, 0, 0), None, self.stamp, self.wall_ns())
        if self._arbiter.engaged is not None:
            self._arbiter.disengage()
        record = self._arbiter.tick(self.stamp, self.wall_ns())
        self.records.append(record)
        self.say_step(record)

    def earn(self, value: float) -> None:
        self.rewards[self.stamp] = value
        self.say_reward(RewardValue(self.stamp, value))

    def end(self, success: bool = True) -> None:
        """The verdict on the newest observation."""
        self.hear(Verdict(success, Judge.REWARD, self.stamp, self.state.episode_id))

    # ---- playing -------------------------------------------------------------------------------------------------

    def _on_chunk(self, message: JointTrajectory) -> None:
        chunk = convert.chunk_of(message, PERIOD)
        self.chunks.append(chunk)
        self._heard("chunk", chunk.stamp_ns)

    def _on_recorded(self, message: Int64) -> None:
        self.recorded.append(message.data)
        self._heard("recorded", message.data)

    def _heard(self, what: str, stamp_ns: int) -> None:
        if not self.playing or self.phase is not Phase.RUN or stamp_ns != self.stamp:
            return
        self._started.add(what)
        if not self._started >= set(self.waits):
            return
        self._started.clear()
        if len([r for r in self.records if r.episode_id == self.state.episode_id and r.acted]) == self.steps:
            self.end(self.success)
        else:
            self.act(self.chunks[-1] if self.drives is ControlSource.POLICY else None)
            self.observe()


def arguments(**values: Any) -> list[str]:
    """ROS arguments that set these parameters for every node of a context."""
    return ["--ros-args", *(word for name, value in values.items() for word in ("-p", f"{name}:={_yaml(value)}"))]


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(_yaml, value)) + "]" if isinstance(value, (list, tuple)) else str(value)
