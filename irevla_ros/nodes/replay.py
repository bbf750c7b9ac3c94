"""The replay node: a recorded episode once more, as scripted motion that the operator starts; ``core.arm_replay`` decides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.arm_replay import ArmReplay, ReplayPlan
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.durations import SECOND, period_ns
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, Start, Verb
from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import Mode
from irevla_ros.data.reader import SpoolReader
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import replay as parameters
from irevla_ros.ros.messages import CameraInfo, JointTrajectory, PoseStamped
from irevla_ros.ros.qos import COMMAND, SENSOR
from irevla_ros.ros.run import run_node

LOOK_S, ORDER_S = 0.05, 1.0
FRESH_NS = SECOND // 2  # an older pose says nothing of where the arm begins
PATIENCE = 3  # times the length of the recording, before the time limit


class ReplayNode(GraphNode):
    """Parameters: ``ReplayConfig``, ``ReplayLimits``. Orders the episode's task and seed, and waits for the operator."""

    def __init__(self) -> None:
        super().__init__("replay")
        self._config, self._limits = self.declare(parameters.settings)
        config = self._config
        try:
            episode = SpoolReader(Path(config.spool)).read(config.episode, cameras=(), latents=False, trimmed=False)
            self._plan, self._meta = ReplayPlan(episode, config.rate_hz), episode.meta
        except DataError as error:  # it is no use to start anew
            raise ConfigError(error.value, error.rule, error.remedy) from None
        self._period_ns = period_ns(config.rate_hz)
        self._run: ArmReplay | None = None
        self._off_m = 0.0  # the tip from where it was recorded, at most
        self._state: EpisodeState | None = None
        self._pose: tuple[Pose | None, int] = None, 0
        self._done_wall_ns: int | None = None
        self._script = self.create_publisher(JointTrajectory, topics.SCRIPT, COMMAND)
        self._order = self.speak(Start, topics.ORDER)
        self._request = self.speak(Request, topics.REQUEST)
        self.create_subscription(PoseStamped, topics.POSE, self._on_pose, SENSOR)
        self.create_subscription(CameraInfo, topics.camera_info(config.cameras[0]), self._on_frame, SENSOR)
        self.listen(ArbiterStep, topics.STEP, self._on_step)
        self.follow(self._on_state)
        self.every(ORDER_S, self._say_order)
        self.every(LOOK_S, self._look)

    def _say_order(self) -> None:
        if self._state is not None and self._state.phase is Phase.IDLE:
            limit_ns = PATIENCE * len(self._plan) * self._period_ns + 10 * SECOND
            self._order(Start(self._meta.task, self._meta.instruction, Mode.DEMO, self._meta.seed, limit_ns))

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        began = self._state is not None and (self._state.phase, self._state.episode_id) != (state.phase, state.episode_id)
        self._state = state
        if state.phase is Phase.RUN and began:
            self._run, self._off_m, self._done_wall_ns = ArmReplay(self._plan, self._limits), 0.0, None
        elif state.phase is not Phase.RUN:
            self._run = None
        self._say_order()

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            self._pose = convert.pose_of(message), self.wall_ns()
        except MessageError as error:
            self.refuse(topics.POSE, error)

    def _on_frame(self, message: CameraInfo) -> None:
        run, pose = self._run, self._pose[0]
        if run is None or pose is None:
            return
        self._off_m = max(self._off_m, float(np.linalg.norm(pose.p - self._plan.tips[run.index])))
        stamp_ns = convert.stamp_of(message.header)
        action = run.due(stamp_ns, self.wall_ns())
        if action is not None:
            chunk = ActionChunk(stamp_ns, ActionSpec().names, action[None], self._period_ns)
            self._script.publish(convert.chunk_message(chunk))

    def _on_step(self, step: ArbiterStep) -> None:
        if self._run is not None and self._state is not None and step.episode_id == self._state.episode_id:
            self._run.told(step)

    # ---- what becomes of it --------------------------------------------------------------------------------------

    def _look(self) -> None:
        state, run = self._state, self._run
        if state is None:
            return
        if state.phase is Phase.READY or (run is not None and not run.index):
            pose, arrived_ns = self._pose
            if (state.task, state.seed) != (self._meta.task, self._meta.seed):
                self._stop("not replayed: it was started before the replay was ordered; start again")
            elif pose is None or self.wall_ns() - arrived_ns > FRESH_NS:
                self._stop("not replayed: it is not known where the arm stands")
            elif why := self._plan.too_far(pose, self._limits):
                self._stop(f"not replayed: {why}")
        if run is None:
            return
        run.look(self.wall_ns())
        if run.failure:
            self._stop(f"replay given up: {run.failure}")
        elif run.done:
            self._done_wall_ns = self._done_wall_ns or self.wall_ns()
            if self.wall_ns() - self._done_wall_ns > self._config.settle_ns:
                off = f"the tip at most {100 * self._off_m:.1f} cm from where it was recorded"
                self._stop(f"replayed all {run.index} steps, {off}")

    def _stop(self, why: str) -> None:
        assert self._state is not None
        self.warn_rarely("stop", why)
        self._request(Request(Verb.STOP, why, self._state.episode_id))

    def update_health(self) -> None:
        at = f"{self._run.index} of {len(self._plan)} steps" if self._run is not None else "waits for the operator"
        self.health.check("replay", Level.OK, f"{self._config.episode}: {at}")


def main() -> int:
    return run_node(ReplayNode)


if __name__ == "__main__":
    sys.exit(main())
