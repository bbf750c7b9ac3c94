"""The arbiter node: the only one that commands the arm; what it decides is in ``core.arbiter``.

It commands while the target moves, and is silent when it stands. What the arm does in the silence, also when this process dies,
is up to the command interface: crisp_controllers keeps going to the last ``target_pose`` and stays there; MoveIt Servo halts
0.1 s after the last twist; the simulator stops pulling ``target_s`` after the last target (docs/safety.md). On SIGINT and
SIGTERM the target is braked within its limits before the process ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

from irevla_ros.core.arbiter import Arbiter
from irevla_ros.core.arbiter_config import Refused
from irevla_ros.core.arbiter_step import BETWEEN, ArbiterStep, Hold
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.durations import SECOND, period_ns
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, Verb
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource, Mode
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.arbiter_inputs import CLOSED_M, OPEN_M, HumanInputs, RobotInputs
from irevla_ros.nodes.arbiter_operator import ConsentVoice, Operator
from irevla_ros.nodes.clock_watch import ClockWatch
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import arbiter as parameters
from irevla_ros.ros.messages import CameraInfo, JointState, JointTrajectory, PoseStamped
from irevla_ros.ros.qos import COMMAND, SENSOR
from irevla_ros.ros.run import run_node

REPEAT_S = 1.0
ENGAGE_NS = 5 * SECOND  # an arm that comes to be ready later than that moves when nobody expects it
OVERDUE_NS = 10 * SECOND
POLICY, HUMAN, SCRIPT = ControlSource.POLICY, ControlSource.HUMAN, ControlSource.SCRIPT


class ArbiterNode(GraphNode):
    """Parameters: ``ArbiterNodeConfig``, ``ArbiterConfig`` (in lock step with the defaults of ``LockStepConfig``).

    In real time one step answers one observation, and the target goes there at the servo rate. In lock step the step itself is
    the target, once chunk and pose of an observation are there; the human's twist is not listened to.
    """

    def __init__(self) -> None:
        super().__init__("arbiter")
        config, core = self.declare(parameters.settings, self._tune)
        self._config = config
        self.lock_step = config.lock_step
        self._period_ns = period_ns(config.rate_hz)
        self._core = Arbiter(ActionSpec(), core)
        self._state: EpisodeState | None = None
        self._run: EpisodeState | None = None  # the run (or reset) that is, or is to be, engaged
        self._engaged = False
        self._permitted = not config.await_engage  # by the operator
        self._run_wall_ns = 0  # when it was heard of
        self._refused = ""  # why it was not engaged
        self._owner = self.resolve_topic_name(topics.STATE)
        self._unowned = 0  # looks in a row that found no episode node
        self._barred = ("", "")  # the episode whose run this process has no part in any more, and why
        self._pending: tuple[ControlSource, ActionChunk] | None = None  # lock step: waits for its pose
        self._last: ArbiterStep | None = None  # that acted, in this run
        self._ticked_wall_ns = self._recorded_wall_ns = 0
        self._hold: Hold | None = None  # of the last record published
        other = config.other_side
        self._other_clock = ClockWatch(self, other, config.clock_limit_ns) if other else None

        to = topics.DRY_RUN if self._config.dry_run else ""
        self._target = self.create_publisher(PoseStamped, topics.of(to, topics.TARGET), COMMAND)
        self._gripper = self.create_publisher(JointState, topics.of(to, topics.GRIPPER_COMMAND), COMMAND)
        self._say_step = self.speak(ArbiterStep, topics.STEP)
        self._request = self.speak(Request, topics.REQUEST)
        self._robot = RobotInputs(self, self._core, config.frame, self._on_pose)
        self.create_subscription(JointTrajectory, topics.ACTION, self._on_chunk(POLICY, topics.ACTION), COMMAND)
        if config.script or config.script_resets:
            self.create_subscription(JointTrajectory, topics.SCRIPT, self._on_chunk(SCRIPT, topics.SCRIPT), COMMAND)
        self.listen(Request, topics.REQUEST, self._on_request)
        self.follow(self._on_state)
        self.every(REPEAT_S, self._attend)
        if not config.lock_step:
            self._human = HumanInputs(self, self._core, config.frame)
            self._consent = ConsentVoice(self)
            Operator(self, engage=self._permit, disengage=self._forbid, stop=self._core.stop, resume=self._resume)
            self.create_subscription(CameraInfo, topics.camera_info(config.cameras[0]), self._on_frame, SENSOR)
            self.every(core.servo_ns / SECOND, self._servo)

    def _tune(self, found: parameters.ArbiterSettings) -> None:
        self._core.tune(found.core)

    # ---- the operator --------------------------------------------------------------------------------------------

    def _permit(self) -> None:
        """What would keep the arm from being engaged now is said now."""
        if others := self._other_writers():
            raise Refused(others, "the arbiter is the only one that commands the arm", "stop the others")
        self._core.require_ready(self.now_ns(), self.wall_ns())
        self._permitted = True

    def _forbid(self) -> None:
        self._permitted = False
        if self._run is not None:
            self._bar(self._run, "the operator has disengaged the arm")

    def _resume(self) -> None:
        self._core.resume(self.wall_ns())

    # ---- the episode ---------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        before, self._state = self._state, state
        if self._run is not None and (state.phase, state.episode_id) != (self._run.phase, self._run.episode_id):
            self._leave()
        moves = state.phase is Phase.RUN or (state.phase is Phase.RESET and self._config.script_resets)
        if not moves or self._run is not None:
            return
        if before is None:
            self._bar(state, "the arbiter was restarted in this run")
        elif state.episode_id != self._barred[0]:
            self._run, self._run_wall_ns = state, self.wall_ns()
            self._try_engage()

    def _bar(self, state: EpisodeState, why: str) -> None:
        """Let go of the arm for the rest of this run, and have it stopped."""
        self._leave()
        self._barred = state.episode_id, why
        self.warn_rarely("barred", f"run {state.episode_id} is left: {why}")
        self._stop_barred()

    def _stop_barred(self) -> None:
        state, (episode_id, why) = self._state, self._barred
        if state is not None and state.phase is Phase.RUN and state.episode_id == episode_id:
            self._request(Request(Verb.STOP, why, episode_id))

    def _attend(self) -> None:
        """Once a second: nobody moves an arm on that nobody can stop, or that another one moves too."""
        self._stop_barred()
        state = self._run
        if state is None or self.lock_step:
            return
        self._unowned = self._unowned + 1 if self.count_publishers(self._owner) == 0 else 0
        limit_ns = (state.started_ns or 0) + state.time_limit_ns + OVERDUE_NS
        if self._unowned > 1:
            self._bar(state, "there is no episode node any more")
        elif self._engaged and state.started_ns and state.time_limit_ns and self.now_ns() > limit_ns:
            self._bar(state, "the episode node did not end it at its time limit")
        elif self._engaged and (others := self._other_writers()):
            self._bar(state, others)
        elif self._engaged and self._other_clock is not None and (problem := self._other_clock.problem()) is not None:
            self._bar(state, str(problem))
        elif not self._engaged and self.wall_ns() - self._run_wall_ns > ENGAGE_NS:
            self._bar(state, f"the arm could not be engaged for {ENGAGE_NS // SECOND} s: {self._refused}")

    def _other_writers(self) -> str:
        writers = 0 if self.lock_step else self.count_publishers(self._target.topic_name)
        return f"{writers} nodes publish {self._target.topic_name}" if writers > 1 else ""

    def _source(self, state: EpisodeState) -> ControlSource:
        if state.phase is Phase.RESET:
            return SCRIPT
        if state.mode is not Mode.DEMO:
            return POLICY
        return SCRIPT if self._config.script else HUMAN

    def _try_engage(self) -> None:
        state = self._run
        if state is None or self._engaged or self._core.moving:  # still braking from the last run
            return
        if self.lock_step and self._robot.pose_ns < (state.started_ns or 0):
            return
        self._engage(state)
        if self._engaged:
            self._answer()

    def _engage(self, state: EpisodeState) -> None:
        try:
            if not self._permitted:
                raise Refused("engage", "the operator has not let this arm be moved", "call arbiter/engage")
            if others := self._other_writers():
                raise Refused(others, "the arbiter is the only one that commands the arm", "stop the others")
            if self._other_clock is not None and (problem := self._other_clock.problem()) is not None:
                raise problem
            # The way to the start is no step of the episode.
            episode_id = state.episode_id if state.phase is Phase.RUN else ""
            self._core.engage(self._source(state), self.now_ns(), self.wall_ns(), episode_id)
        except Refused as error:
            self._refused = str(error)
            self.health.check("engage", Level.ERROR, self._refused)
            self.warn_rarely("engage", self._refused)
            return
        self._engaged = True
        self.health.check("engage", Level.OK)

    def _leave(self) -> None:
        if self._engaged:
            self._core.disengage()
            self._tick()
        self._run = self._pending = self._last = None
        self._engaged = False

    def _on_request(self, request: Request) -> None:
        """The operator gives the arm back after having driven it."""
        state = self._run
        if state is None or request.episode_id not in ("", state.episode_id):
            return
        if request.verb is Verb.ENGAGE and self._engaged and self._core.engaged is HUMAN:
            self._engage(state)

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_pose(self) -> None:
        if not self._engaged:
            self._try_engage()
        elif self._pending is not None:
            self._answer()

    def _on_chunk(self, source: ControlSource, topic: str) -> Callable[[JointTrajectory], None]:
        def received(message: JointTrajectory) -> None:
            try:
                chunk = convert.chunk_of(message, self._period_ns)
            except MessageError as error:
                self.refuse(topic, error)
                self._core.reject(source)
                return
            if self.lock_step:
                self._pending = source, chunk
                self._answer()
            elif not self._engaged:
                self.health.counts["chunks.unengaged"] += 1
            elif self._core.offer(source, chunk, self.now_ns(), self.wall_ns()) and not self._core.human_held:
                self._tick()

        return received

    def _answer(self) -> None:
        """Lock step: the chunk that waited now has its pose, or was answered before and is asked for again."""
        if self._pending is None or not self._engaged:
            return
        source, chunk = self._pending
        if self._robot.pose_ns < chunk.stamp_ns:
            return
        self._pending = None
        if self._last is not None and chunk.stamp_ns == self._last.stamp_ns:
            self.health.counts["answers.repeated"] += 1
            self._command(self._last)
            self._record(self._last)
        elif self._core.offer(source, chunk, self.now_ns(), self.wall_ns()) or self._unanswered(chunk):
            self._tick()

    def _unanswered(self, chunk: ActionChunk) -> bool:
        return self._last is None or chunk.stamp_ns > self._last.stamp_ns

    def _on_frame(self, message: CameraInfo) -> None:
        self._core.observe(convert.stamp_of(message.header))
        if self._engaged and self._core.human_held:
            self._tick()

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _servo(self) -> None:
        """Real time: the actions of a chunk after its first, holds, and the next target of the stream. While a human drives,
        the camera gives the time of steps; where it stalls the arm holds."""
        if not self._engaged:
            self._try_engage()
        elif not self._core.human_held:
            self._tick()
        elif self.wall_ns() - self._ticked_wall_ns > 3 * self._period_ns:
            self._tick(blind=True)
        self._stream()
        resetting = self._state is not None and self._state.phase is Phase.RESET
        objection = self._core.objection(self.wall_ns(), resetting)
        self._consent.say(self._permitted, objection.value if objection else "")

    def _stream(self) -> None:
        now_ns = self.now_ns()
        pose = self._core.stream(now_ns, self.wall_ns())
        if pose is not None:
            self._target.publish(convert.pose_message(pose, now_ns, self._config.frame))

    def _tick(self, blind: bool = False) -> None:
        self._ticked_wall_ns = self.wall_ns()
        step = self._core.tick(self.now_ns(), self._ticked_wall_ns, blind)
        if step.acted:
            self._last = step
            self._command(step)
        elif self._ticked_wall_ns - self._recorded_wall_ns < self._period_ns and (
            step.hold in BETWEEN or step.hold is self._hold
        ):
            return
        self._hold, self._recorded_wall_ns = step.hold, self._ticked_wall_ns
        self._record(step)

    def _command(self, step: ArbiterStep) -> None:
        """The gripper first: who has the target, which in real time is the stream's, has both."""
        assert step.target is not None
        if step.gripper is not None:
            self._gripper.publish(convert.width_message(OPEN_M if step.gripper > 0 else CLOSED_M, step.stamp_ns))
        if self.lock_step:
            self._target.publish(convert.pose_message(step.target, step.stamp_ns, self._config.frame))

    def _record(self, step: ArbiterStep) -> None:
        self._say_step(replace(step, dry_run=True) if self._config.dry_run else step)

    def update_health(self) -> None:
        who, fault = self._core.engaged, self._core.fault
        self.health.check("fault", Level.ERROR if fault else Level.OK, f"{fault.value}; call arbiter/resume" if fault else "")
        self.health.check("arm", Level.OK, f"held: {self._hold.value}" if self._hold else who.name.lower() if who else "free")
        self.health.absorb("core", self._core.counts)

    def on_shutdown(self) -> None:
        self._leave()
        while self._core.moving:
            self._stream()
            time.sleep(self._core.config.servo_ns / SECOND)


def main() -> int:
    return run_node(ArbiterNode)


if __name__ == "__main__":
    sys.exit(main())
