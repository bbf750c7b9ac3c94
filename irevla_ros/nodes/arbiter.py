"""The arbiter node: the only one that commands the arm; what it decides is in ``core.arbiter``, for which run in
``nodes.arbiter_engagement``.

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
from irevla_ros.core.arbiter_step import BETWEEN, ArbiterStep, Hold
from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.durations import SECOND, period_ns
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ControlSource
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.arbiter_engagement import Engagement
from irevla_ros.nodes.arbiter_inputs import CLOSED_M, OPEN_M, HumanInputs, RobotInputs
from irevla_ros.nodes.arbiter_operator import ConsentVoice, Operator
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import arbiter as parameters
from irevla_ros.ros.messages import CameraInfo, JointState, JointTrajectory, PoseStamped
from irevla_ros.ros.qos import COMMAND, SENSOR
from irevla_ros.ros.run import run_node

POLICY, SCRIPT = ControlSource.POLICY, ControlSource.SCRIPT


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
        self._pending: tuple[ControlSource, ActionChunk] | None = None  # lock step: waits for its pose
        self._last: ArbiterStep | None = None  # that acted, in this run
        self._ticked_wall_ns = self._recorded_wall_ns = 0
        self._hold: Hold | None = None  # of the last record published

        to = topics.DRY_RUN if self._config.dry_run else ""
        self._target = self.create_publisher(PoseStamped, topics.of(to, topics.TARGET), COMMAND)
        self._gripper = self.create_publisher(JointState, topics.of(to, topics.GRIPPER_COMMAND), COMMAND)
        self._say_step = self.speak(ArbiterStep, topics.STEP)
        self._robot = RobotInputs(self, self._core, config.frame, self._on_pose)
        self.create_subscription(JointTrajectory, topics.ACTION, self._on_chunk(POLICY, topics.ACTION), COMMAND)
        if config.script or config.script_resets:
            self.create_subscription(JointTrajectory, topics.SCRIPT, self._on_chunk(SCRIPT, topics.SCRIPT), COMMAND)
        commands = self._target.topic_name, self._gripper.topic_name
        self._engagement = Engagement(self, self._core, config, commands, ready=self._can_begin, began=self._answer,
                                      left=self._left)  # fmt: skip
        if not config.lock_step:
            self._human = HumanInputs(self, self._core, config.frame)
            self._consent = ConsentVoice(self)
            Operator(self, engage=self._engagement.permit, disengage=self._engagement.forbid, stop=self._core.stop,
                     resume=self._resume)  # fmt: skip
            self.create_subscription(CameraInfo, topics.camera_info(config.cameras[0]), self._on_frame, SENSOR)
            self.every(core.servo_ns / SECOND, self._servo)

    def _tune(self, found: parameters.ArbiterSettings) -> None:
        self._core.tune(found.core)

    def _resume(self) -> None:
        self._core.resume(self.wall_ns())

    def _can_begin(self, started_ns: int) -> bool:
        return not self.lock_step or self._robot.pose_ns >= started_ns

    def _left(self, engaged: bool) -> None:
        if engaged:
            self._tick()
        self._pending = self._last = None

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_pose(self) -> None:
        if not self._engagement.engaged:
            self._engagement.attempt()
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
            elif not self._engagement.engaged:
                self.health.counts["chunks.unengaged"] += 1
            elif self._core.offer(source, chunk, self.now_ns(), self.wall_ns()) and not self._core.human_held:
                self._tick()

        return received

    def _answer(self) -> None:
        """Lock step: the chunk that waited now has its pose, or was answered before and is asked for again."""
        if self._pending is None or not self._engagement.engaged:
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
        if self._engagement.engaged and self._core.human_held:
            self._tick()

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _servo(self) -> None:
        """Real time: the actions of a chunk after its first, holds, and the next target of the stream. While a human drives,
        the camera gives the time of steps; where it stalls the arm holds."""
        if not self._engagement.engaged:
            self._engagement.attempt()
        elif not self._core.human_held:
            self._tick()
        elif self.wall_ns() - self._ticked_wall_ns > 3 * self._period_ns:
            self._tick(blind=True)
        self._stream()
        objection = self._core.objection(self.wall_ns(), self._engagement.resetting)
        self._consent.say(self._engagement.permitted, objection.value if objection else "")

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
        self._engagement.leave()
        while self._core.moving:
            self._stream()
            time.sleep(self._core.config.servo_ns / SECOND)


def main() -> int:
    return run_node(ArbiterNode)


if __name__ == "__main__":
    sys.exit(main())
