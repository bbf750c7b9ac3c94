"""The teleoperation node: keyboard, gamepad or SpaceMouse as a twist under a deadman, and as verdicts and requests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState, Phase, Request, Verb
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose
from irevla_ros.core.teleop import (
    GRIPPER_ACTIONS,
    KEYS_HELP,
    STILL,
    Action,
    Deadman,
    Hand,
    Keys,
    Motion,
    Pad,
    Say,
    in_hand,
)
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import teleop as parameters
from irevla_ros.nodes.parameters.reading import Reader
from irevla_ros.nodes.parameters.teleop import TeleopConfig
from irevla_ros.nodes.terminal import Terminal
from irevla_ros.ros import Client, Future
from irevla_ros.ros.calls import call
from irevla_ros.ros.messages import JointState, Joy, PoseStamped, Trigger, Twist, TwistStamped
from irevla_ros.ros.qos import COMMAND, SENSOR
from irevla_ros.ros.run import run_node

SERVICES = {
    Action.SUCCESS: topics.SUCCESS, Action.FAILURE: topics.FAILURE, Action.START: "episode/start",
    Action.CONFIRM: "episode/confirm", Action.ENGAGE: "episode/engage", Action.STOP: "episode/stop",
    Action.DISCARD: "episode/discard", Action.UNDO: topics.UNDO,
    Action.ARM_ENGAGE: "arbiter/engage", Action.ARM_DISENGAGE: "arbiter/disengage", Action.ARM_STOP: "arbiter/stop",
    Action.ARM_RESUME: "arbiter/resume",
}  # fmt: skip
REQUESTS = {Action.ENGAGE: Verb.ENGAGE, Action.DISTURB: Verb.DISTURB}
MEASURED_NS = SECOND  # a gripper width or a pose that is older is not known


class TeleopNode(GraphNode):
    """Parameters: ``TeleopConfig``. name, settings, keyboard: of a node that is more than that, with what its settings say of
    teleoperation."""

    def __init__(self, name: str = "teleop", settings: Callable[[Reader], Any] = parameters.settings,
                 teleop: Callable[[Any], TeleopConfig] = lambda found: found) -> None:  # fmt: skip
        self._terminal: Terminal | None = None
        super().__init__(name)
        self.settings = self.declare(settings)
        self._config = config = teleop(self.settings)
        self._deadman = Deadman(config.open_m, self._measured)
        self._episode: EpisodeState | None = None
        self._width = (0.0, -MEASURED_NS)  # m, wall time of its arrival
        self._hand_at: tuple[Pose | None, int] = None, -MEASURED_NS
        self._twist = self.create_publisher(TwistStamped, topics.TWIST, COMMAND)
        self._gripper = self.create_publisher(JointState, topics.TELEOP_GRIPPER, COMMAND)
        self._request = self.speak(Request, topics.REQUEST)
        self._verbs: dict[Action, Client] = {a: self.create_client(Trigger, name) for a, name in SERVICES.items()}
        self.create_subscription(JointState, topics.GRIPPER, self._on_width, SENSOR)
        if config.axes_of == "hand":
            self.create_subscription(PoseStamped, topics.POSE, self._on_pose, SENSOR)
        self.follow(self._on_state)
        self._hand = {"keyboard": self._keyboard, "gamepad": self._gamepad, "spacemouse": self._spacemouse}[config.device]()
        self.every(1 / config.twist_hz, self._tick)

    # ---- devices -------------------------------------------------------------------------------------------------

    def _keyboard(self) -> Callable[[], Hand]:
        keys = Keys(self._config.key_hold_ns)
        self._terminal = terminal = Terminal(self._config.terminal)
        self._greet()

        def hand() -> Hand:
            keys.press(self._typed(terminal.read()), self.wall_ns())
            found = keys.hand(self.wall_ns())
            return Hand(False, False, STILL, found.actions) if terminal.ended else found

        return hand

    def _greet(self) -> None:
        self.get_logger().info(f"keys:\n{KEYS_HELP}")

    def _typed(self, text: str) -> str:
        """What of the keys that came drives the arm."""
        return text

    def _gamepad(self) -> Callable[[], Hand]:
        pad = Pad(self._config.gamepad, self._config.input_ns)

        def received(message: Joy) -> None:
            stamp_ns, wall_ns = convert.stamp_of(message.header), self.wall_ns()
            try:
                pad.steer(message.axes, stamp_ns, wall_ns)
                pad.press(message.buttons, stamp_ns, wall_ns)
            except MessageError as error:
                self.refuse("joy", error)

        self.create_subscription(Joy, "joy", received, SENSOR)
        return lambda: pad.hand(self.now_ns(), self.wall_ns())

    def _spacemouse(self) -> Callable[[], Hand]:
        pad = Pad(self._config.spacemouse, self._config.input_ns)

        def moved(message: Twist) -> None:
            """It has no stamp: its arrival counts."""
            at, turn = message.linear, message.angular
            try:
                pad.steer((at.x, at.y, at.z, turn.x, turn.y, turn.z), self.now_ns(), self.wall_ns())
            except MessageError as error:
                self.refuse("spacenav/twist", error)

        def pressed(message: Joy) -> None:
            try:
                pad.press(message.buttons, convert.stamp_of(message.header), self.wall_ns())
            except MessageError as error:
                self.refuse("spacenav/joy", error)

        self.create_subscription(Twist, "spacenav/twist", moved, SENSOR)
        self.create_subscription(Joy, "spacenav/joy", pressed, SENSOR)
        return lambda: pad.hand(self.now_ns(), self.wall_ns())

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState) -> None:
        self._episode = state

    def _on_width(self, message: JointState) -> None:
        try:
            self._width = convert.width_of(message), self.wall_ns()
        except MessageError as error:
            self.refuse(topics.GRIPPER, error)

    def _measured(self) -> float | None:
        width, arrived_ns = self._width
        return width if self.wall_ns() - arrived_ns < MEASURED_NS else None

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            self._hand_at = convert.pose_of(message), self.wall_ns()
        except MessageError as error:
            self.refuse(topics.POSE, error)

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        hand = self._hand()
        say = self._deadman.tick(hand)
        if say is Say.TWIST:
            self._say_twist(hand.motion, self._deadman.gripper)
        elif say is not Say.NOTHING:
            self._say_twist(STILL, None, released=say is Say.RELEASED)
        state = (Level.OK, "held" if self._deadman.held else "released") if hand.fresh else (Level.WARN, "silent")
        self.health.check(self._config.device, *state)
        for action in hand.actions:
            if action not in GRIPPER_ACTIONS:
                self._ask(action)

    def _say_twist(self, motion: Motion, gripper: float | None, released: bool = False) -> None:
        """The gripper first, so that the arbiter has it when it acts on the twist of the same stamp."""
        stamp_ns = self.now_ns()
        if gripper is not None:
            self._gripper.publish(convert.width_message(gripper, stamp_ns))
        message = TwistStamped(header=convert.header(stamp_ns, topics.RELEASED if released else self._config.frame))
        linear, angular = self._in_base(*self._config.speeds.twist(motion))
        message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = linear
        message.twist.angular.x, message.twist.angular.y, message.twist.angular.z = angular
        self._twist.publish(message)

    def _in_base(self, linear: list[float], angular: list[float]) -> tuple[list[float], list[float]]:
        """The twist in the base frame; where the hand's axes are meant and it is not known how it stands: stand still."""
        if self._config.axes_of == "base":
            return linear, angular
        pose, arrived_ns = self._hand_at
        known = pose is not None and self.wall_ns() - arrived_ns < MEASURED_NS
        self.health.check(topics.POSE, Level.OK if known else Level.WARN, "" if known else "the hand's axes are not known")
        if pose is None or not known:
            return [0.0] * 3, [0.0] * 3
        return in_hand(linear, pose.q), in_hand(angular, pose.q)

    def _ask(self, action: Action) -> None:
        """Call the service, or, for what is meant for a run that is on (give the arm back, disturb the scene), request it."""
        state = self._episode
        if action in REQUESTS and state is not None and state.phase is Phase.RUN:
            self._request(Request(REQUESTS[action], "by the operator", state.episode_id))
            self._answered(action, True, "requested")
            return
        if action not in self._verbs:
            self._answered(action, False, "no episode is running")
            return
        client = self._verbs[action]
        if not client.service_is_ready():
            self._answered(action, False, f"nobody offers {client.service_name}")
            return

        def done(future: Future) -> None:
            error = future.exception()
            answer: Any = None if error else future.result()
            self._answered(action, error is None and answer.success, str(error) if error else answer.message)

        call(self, client, Trigger.Request(), self._config.answer_ns / SECOND).add_done_callback(done)

    def _answered(self, action: Action, good: bool, text: str) -> None:
        self.health.counts["asked" if good else "asked.refused"] += 1
        self.get_logger().info(f"{action.words}: {'' if good else 'refused: '}{text}")

    def on_shutdown(self) -> None:
        if self._deadman.held:
            self._say_twist(STILL, None)  # not released: nobody but the operator gives the arm back

    def destroy_node(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
        super().destroy_node()


def main() -> int:
    return run_node(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
