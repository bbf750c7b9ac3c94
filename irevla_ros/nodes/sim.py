"""The simulator node: PyBullet behind the topics of an arm, in lock step or in real time; docs/graph.md."""

from __future__ import annotations

import sys

from irevla_ros.core.durations import SECOND, period_ns
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, ResetDone, Verb
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import sim as parameters
from irevla_ros.nodes.sim_arm import SimulatedArm
from irevla_ros.ros.messages import Int64, JointState, PoseStamped
from irevla_ros.ros.qos import COMMAND, EVENT
from irevla_ros.ros.run import run_node

HALF_OPEN = 0.04  # m: a gripper command above it opens
REMIND_S = 0.25
REPEAT_S = 1.0  # what the episode node has not answered is said again


class SimNode(GraphNode):
    """Parameters: ``SimConfig``. See the module."""

    def __init__(self) -> None:
        super().__init__("sim")
        self._config = config = self.declare(parameters.settings)
        self.lock_step = config.lock_step
        self._period_ns = period_ns(config.rate_hz)
        self._arm = SimulatedArm(self, config)
        self._reset_done = self.speak(ResetDone, topics.RESET_DONE)
        self._request = self.speak(Request, topics.REQUEST)

        self._state: EpisodeState | None = None
        self._done: ResetDone | None = None  # what became of the last reset
        self._running = False
        self._said_wall_ns = 0
        self._stamp_ns = -1  # of the observation that waits for its answer, or was published last
        self._observed_wall_ns = 0
        self._target: Pose | None = None
        self._opening: float | None = None
        self._target_wall_ns = 0
        self._floor_ns = -1  # real time: targets of before the reset do not count
        self._stepped = False
        self._recorded_ns = -1

        self.follow(self._on_state)
        self.listen(Request, topics.REQUEST, self._on_request)
        self.create_subscription(PoseStamped, topics.TARGET, self._on_target, COMMAND)
        self.create_subscription(JointState, topics.GRIPPER_COMMAND, self._on_gripper, COMMAND)
        if config.lock_step:
            self.create_subscription(Int64, topics.RECORDED, self._on_recorded, EVENT)
        else:
            self.every(1.0 / config.rate_hz, self._tick)
        self.every(REMIND_S, self._remind)

    # ---- the episode ---------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        self._state = state
        if state.phase is Phase.RESET and not self._is_ready(state):
            self._running = False
            self._reset(state)
        elif state.phase is Phase.RUN and self._is_ready(state):
            if not self._running:
                self._running = True
                self._start(state)
        else:
            self._running = False
            self._stop_if_unprepared(state)

    def _on_request(self, request: Request) -> None:
        """The operator disturbs the scene."""
        running = self._state.episode_id if self._state is not None and self._running else None
        if request.verb is Verb.DISTURB and running is not None and request.episode_id in ("", running):
            self._arm.disturb()

    def _is_ready(self, state: EpisodeState) -> bool:
        return self._done is not None and self._done.episode_id == state.episode_id

    def _reset(self, state: EpisodeState) -> None:
        failure = self._arm.reset(state)
        self._target = self._opening = None
        self._floor_ns = self.now_ns()
        if failure:
            self.warn_rarely("reset", f"reset for {state.episode_id}: {failure}")
        elif not self.lock_step:
            self._observe(self.now_ns())  # nobody shall engage on the pose of before
        self._done = ResetDone("robot", failure, state.episode_id, state.sequence)
        self._say_done()

    def _say_done(self) -> None:
        assert self._done is not None
        self._said_wall_ns = self.wall_ns()
        self._reset_done(self._done)

    def _stop_if_unprepared(self, state: EpisodeState) -> None:
        """A run without a reset by this process: it was restarted in between, and the scene is not that of the episode."""
        if state.phase in (Phase.READY, Phase.RUN) and not self._is_ready(state):
            self._said_wall_ns = self.wall_ns()
            why = "the simulator was restarted and has not set up this episode"
            self._request(Request(Verb.STOP, why, state.episode_id))

    def _start(self, state: EpisodeState) -> None:
        assert state.started_ns is not None
        if self.lock_step:
            self._recorded_ns = -1
            self._observe(state.started_ns)

    def _observe(self, stamp_ns: int) -> None:
        self._stamp_ns, self._observed_wall_ns = stamp_ns, self.wall_ns()
        self.seen(stamp_ns)
        if self.lock_step:
            self._target = self._opening = None
            self._stepped = False
        self._arm.observe(stamp_ns, self._running)

    # ---- commands ------------------------------------------------------------------------------------------------

    def _on_target(self, message: PoseStamped) -> None:
        stamp_ns = convert.stamp_of(message.header)
        try:
            pose = convert.pose_of(message)
            if message.header.frame_id != self._config.frame:
                raise MessageError(f"target in frame {message.header.frame_id[:40]!r}", f"it is {self._config.frame!r}",
                                   "transform it, or set `frame` of simulator and arbiter")  # fmt: skip
        except MessageError as error:
            self.refuse(topics.TARGET, error)
            return
        if self._counts(stamp_ns):
            self._target, self._target_wall_ns = pose, self.wall_ns()
            self._advance()

    def _on_gripper(self, message: JointState) -> None:
        try:
            if list(message.name) != ["width"]:
                raise MessageError(f"gripper command for {list(message.name)[:3]}", "it names `width` alone",
                                   "send the opening in metres")  # fmt: skip
            width = convert.width_of(message)
        except MessageError as error:
            self.refuse(topics.GRIPPER_COMMAND, error)
            return
        if self._counts(convert.stamp_of(message.header)):
            self._opening = 1.0 if width > HALF_OPEN else -1.0
            self._advance()

    def _on_recorded(self, message: Int64) -> None:
        self._recorded_ns = max(self._recorded_ns, message.data)
        self._advance()

    def _counts(self, stamp_ns: int) -> bool:
        if self.lock_step:
            good = self._running and not self._stepped and stamp_ns == self._stamp_ns
        else:
            good = stamp_ns >= self._floor_ns
        self.health.counts["commands.late"] += not good
        return good

    # ---- time ----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Lock step: move as soon as the answer is there, show the result once the recorder has what was before."""
        if not self.lock_step or not self._running:
            return
        if not self._stepped and self._target is not None and self._opening is not None:
            self._arm.step(self._target, self._opening, judged=True)
            self._stepped = True
        if self._stepped and (not self._config.wait_recorder or self._recorded_ns >= self._stamp_ns):
            self._observe(self._stamp_ns + self._period_ns)

    def _tick(self) -> None:
        """Real time: a control period has passed."""
        fresh = self._target is not None and self.wall_ns() - self._target_wall_ns <= self._config.target_ns
        opening = self._opening if self._opening is not None else 1.0  # as every scene begins
        self._arm.step(self._target if fresh else None, opening, self._running)
        self._observe(self.now_ns())

    def _remind(self) -> None:
        wall_ns, state = self.wall_ns(), self._state
        if self.lock_step and self._running and wall_ns - self._observed_wall_ns > self._config.resend_ns:
            self._observed_wall_ns = wall_ns
            self.health.counts["observations.resent"] += 1
            self._arm.repeat()
        if state is None or wall_ns - self._said_wall_ns < REPEAT_S * SECOND:
            return
        if state.phase is Phase.RESET and self._is_ready(state):
            self._say_done()
        self._stop_if_unprepared(state)

    def update_health(self) -> None:
        text = f"running {self._state.episode_id}" if self._state is not None and self._running else "not in a run"
        self.health.check("simulation", Level.OK, text)

    def on_shutdown(self) -> None:
        self._arm.close()


def main() -> int:
    return run_node(SimNode)


if __name__ == "__main__":
    sys.exit(main())
