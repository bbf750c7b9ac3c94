from __future__ import annotations

import math
import os
import pty
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arm_toys import Rest, discovered, graph
from irevla_ros.core.arbiter_step import Hold
from irevla_ros.core.episode_state import Phase, Request, Start, Verb
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import ControlSource, Mode
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.arbiter import ArbiterNode
from irevla_ros.nodes.teleop import TeleopNode
from irevla_ros.nodes.terminal import Terminal
from irevla_ros.ros.messages import CameraInfo, JointState, Joy, Trigger, Twist, TwistStamped, numbers
from irevla_ros.ros.qos import COMMAND, SENSOR
from node_toys import SECOND, Peer
from ros_toys import Process, spin_for, spin_until


class Desk(Peer):
    """Devices and the services that an operator's verbs go to."""

    def __init__(self) -> None:
        super().__init__()
        self.twists = self.take(TwistStamped, topics.TWIST, COMMAND)
        self.grips = self.take(JointState, topics.TELEOP_GRIPPER, COMMAND)
        self.requests = self.hear(Request, topics.REQUEST)
        self.asked: list[str] = []
        self.joy = self.create_publisher(Joy, "joy", SENSOR)
        self.space = self.create_publisher(Twist, "spacenav/twist", SENSOR)
        self.space_joy = self.create_publisher(Joy, "spacenav/joy", SENSOR)
        self.width = self.create_publisher(JointState, topics.GRIPPER, SENSOR)
        self.stick: Any = None  # what the gamepad says, at 50 Hz
        self.late_ns = 0
        self.every(0.02, self._tick)
        self.health_now = self.health_of("/teleop")

    def _tick(self) -> None:
        if self.stick is not None:
            self.say_joy(*self.stick)

    def say_joy(self, axes: Any, buttons: Any) -> None:
        pressed = numbers("i", [int(n in buttons) for n in range(11)])
        self.joy.publish(Joy(header=convert.header(self.now_ns() - self.late_ns), axes=numbers("f", axes), buttons=pressed))

    def serve(self, name: str, good: bool = True) -> None:
        def answer(_: Any, response: Any) -> Any:
            self.asked.append(name)
            response.success, response.message = good, f"answer of {name}"
            return response

        self.create_service(Trigger, name, answer)

    def moving(self) -> bool:
        return bool(self.twists) and self.twists[-1].header.frame_id == "base" and self.twists[-1].twist.linear.x > 0

    def let_go(self) -> bool:
        return bool(self.twists) and self.twists[-1].header.frame_id == topics.RELEASED


AHEAD, REST = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 6


@contextmanager
def desk(device: str, **parameters: Any) -> Iterator[tuple[TeleopNode, Desk]]:
    with graph(TeleopNode, Desk, device=device, input_s=1.0, **parameters) as (teleop, rest):
        spin_until(lambda: teleop.count_subscribers(topics.TWIST) and rest.count_subscribers(topics.STATE), teleop, rest)
        yield teleop, rest


@contextmanager
def keyboard(**parameters: Any) -> Iterator[tuple[TeleopNode, Desk, Callable[[str], int]]]:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with desk("keyboard", terminal=os.ttyname(slave), **parameters) as (teleop, rest):
        yield teleop, rest, lambda text: os.write(master, text.encode())
    assert termios.tcgetattr(slave) == before  # the terminal is as it was
    os.close(master)
    os.close(slave)


def test_keys_move_the_arm_for_their_time_and_then_let_go_once() -> None:
    with keyboard(speeds__linear=0.1) as (teleop, rest, press):
        press("w")
        spin_until(rest.let_go, teleop, rest)
        spin_for(0.2, teleop, rest)
        frames = [twist.header.frame_id for twist in rest.twists]
        assert frames[-1] == topics.RELEASED and set(frames[:-1]) == {"base"}
        assert [twist.twist.linear.x for twist in rest.twists] == [pytest.approx(0.1)] * (len(frames) - 1) + [0]
        assert not rest.grips
        age = rest.now_ns() - convert.stamp_of(rest.twists[-1].header)
        assert 0 <= age < 30 * SECOND


def test_the_gripper_is_said_before_its_twist_with_the_same_stamp() -> None:
    with keyboard(key_hold_s=1.0) as (teleop, rest, press):
        press("p")
        spin_until(lambda: rest.grips and rest.twists, teleop, rest)
        assert convert.width_of(rest.grips[-1]) == 0.0
        assert {convert.stamp_of(g.header) for g in rest.grips} & {convert.stamp_of(t.header) for t in rest.twists}
        spin_until(rest.let_go, teleop, rest)
        rest.width.publish(convert.width_message(0.001, 1))
        spin_until(lambda: teleop._measured() == 0.001, teleop, rest)
        press(" ")
        spin_until(lambda: convert.width_of(rest.grips[-1]) == 0.08, teleop, rest)


def test_verbs_call_their_services_and_show_the_answers(capfd: pytest.CaptureFixture[str]) -> None:
    with keyboard() as (teleop, rest, press):
        names = [topics.SUCCESS, topics.FAILURE, *(f"episode/{n}" for n in ("start", "confirm", "engage", "stop", "discard")),
                 topics.UNDO, *(f"arbiter/{n}" for n in ("engage", "disengage", "stop", "resume"))]  # fmt: skip
        for name in names:
            rest.serve(name, good=name != topics.FAILURE)
        spin_until(lambda: all(client.service_is_ready() for client in teleop._verbs.values()), teleop, rest)
        for key, name in zip("yntcgxzu+-h.", names, strict=True):
            press(key)
            spin_until(lambda name=name: rest.asked[-1:] == [name], teleop, rest)
        spin_until(lambda: sum(teleop.health.counts.values()) == 12, teleop, rest)
        assert teleop.health.counts == {"asked": 11, "asked.refused": 1}
        assert not rest.twists  # none of these moves the arm
    shown = capfd.readouterr()
    assert "success: answer of reward/success" in shown.err + shown.out
    assert "failure: refused: answer of reward/failure" in shown.err + shown.out


def test_a_service_that_is_not_there_or_does_not_answer_is_told() -> None:
    with keyboard(answer_s=0.3) as (teleop, rest, press):
        press("y")
        spin_until(lambda: teleop.health.counts["asked.refused"] == 1, teleop, rest)
        rest.serve(topics.SUCCESS)
        spin_until(lambda: all(c.service_is_ready() for a, c in teleop._verbs.items() if a.value == "success"), teleop, rest)
        press("y")
        spin_until(lambda: teleop.health.counts["asked.refused"] == 2, teleop)  # the server does not spin


def test_within_a_run_engage_asks_the_arbiter() -> None:
    with keyboard() as (teleop, rest, press):
        state = rest.start()
        spin_until(lambda: teleop._episode is not None and teleop._episode.phase is Phase.RUN, teleop, rest)
        press("g")
        spin_until(lambda: rest.requests, teleop, rest)
        press("b")
        spin_until(lambda: len(rest.requests) == 2, teleop, rest)
        assert rest.requests == [Request(verb, "by the operator", state.episode_id) for verb in (Verb.ENGAGE, Verb.DISTURB)]


def test_out_of_a_run_there_is_nothing_to_disturb() -> None:
    with keyboard() as (teleop, rest, press):
        press("b")
        spin_until(lambda: teleop.health.counts["asked.refused"] == 1, teleop, rest)
        assert not rest.requests


def test_the_hands_axes_steer_once_it_is_known_how_it_stands() -> None:
    with keyboard(axes_of="hand", key_hold_s=30.0, speeds__linear=0.1) as (teleop, rest, press):
        pose = rest.create_publisher(convert.PoseStamped, topics.POSE, SENSOR)
        press("w")
        spin_until(lambda: rest.twists and rest.health_now().get(topics.POSE, "").startswith("WARN"), teleop, rest)
        assert rest.twists[-1].twist.linear.x == 0 and rest.twists[-1].header.frame_id == "base"
        half = math.sqrt(0.5)
        turned = convert.Pose((0.5, 0.0, 0.25), (half, half, 0.0, 0.0))  # pointing down, turned to the left by 90 degrees
        rest.every(0.05, lambda: pose.publish(convert.pose_message(turned, rest.now_ns(), "base")))
        spin_until(lambda: rest.twists[-1].twist.linear.y == pytest.approx(0.1), teleop, rest)
        assert rest.twists[-1].twist.linear.x == pytest.approx(0.0)


def test_a_terminal_that_is_closed_stops_the_arm_without_letting_go() -> None:
    master, slave = pty.openpty()
    with desk("keyboard", terminal=os.ttyname(slave), key_hold_s=30.0) as (teleop, rest):
        os.write(master, b"w")
        spin_until(rest.moving, teleop, rest)
        os.close(slave)
        os.close(master)
        spin_until(lambda: rest.twists[-1].twist.linear.x == 0, teleop, rest)
        heard = len(rest.twists)
        spin_for(0.3, teleop, rest)
        assert (len(rest.twists), rest.twists[-1].header.frame_id) == (heard, "base")
        spin_until(lambda: rest.health_now().get("keyboard") == "WARN: silent", teleop, rest)


def test_a_gamepad_steers_under_its_deadman() -> None:
    with desk("gamepad", speeds__linear=0.2, speeds__angular=0.5) as (teleop, rest):
        rest.stick = AHEAD, ()
        spin_until(lambda: rest.health_now().get("gamepad") == "OK: released", teleop, rest)
        assert not rest.twists
        rest.stick = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0], (5,)
        spin_until(rest.moving, teleop, rest)
        assert (rest.twists[-1].twist.linear.x, rest.twists[-1].twist.angular.z) == pytest.approx((0.2, 0.5))
        rest.stick = AHEAD, (5, 0)
        spin_until(lambda: rest.grips, teleop, rest)
        assert convert.width_of(rest.grips[-1]) == 0.0
        rest.stick = AHEAD, ()
        spin_until(rest.let_go, teleop, rest)
        heard = len(rest.twists)
        spin_for(0.3, teleop, rest)
        assert len(rest.twists) == heard


@pytest.mark.parametrize("how", ["silent", "stale"])
def test_a_gamepad_that_is_lost_stops_the_arm_at_once_and_steers_only_after_a_release(how: str) -> None:
    with desk("gamepad") as (teleop, rest):
        rest.stick = REST, ()
        spin_until(lambda: rest.health_now().get("gamepad") == "OK: released", teleop, rest)
        rest.stick = AHEAD, (5,)
        spin_until(rest.moving, teleop, rest)
        if how == "silent":
            rest.stick = None
        else:
            rest.late_ns = 2 * SECOND  # it goes on, but what it says is old
        spin_until(lambda: not rest.moving(), teleop, rest)
        assert (rest.twists[-1].header.frame_id, rest.twists[-1].twist.linear.x) == ("base", 0)
        heard = len(rest.twists)
        spin_until(lambda: rest.health_now().get("gamepad") == "WARN: silent", teleop, rest)
        rest.stick, rest.late_ns = (AHEAD, (5,)), 0
        spin_for(0.3, teleop, rest)
        assert len(rest.twists) == heard  # still pressed
        rest.stick = AHEAD, ()
        spin_until(rest.let_go, teleop, rest)
        rest.stick = AHEAD, (5,)
        spin_until(rest.moving, teleop, rest)


def test_a_malformed_joy_is_refused_and_stops_the_arm() -> None:
    with desk("gamepad") as (teleop, rest):
        rest.stick = REST, ()
        spin_until(lambda: rest.health_now().get("gamepad") == "OK: released", teleop, rest)
        rest.stick = AHEAD, (5,)
        spin_until(rest.moving, teleop, rest)
        rest.stick = [float("nan")] * 6, (5,)
        spin_until(lambda: teleop.health.counts["joy.refused"] > 0 and not rest.moving(), teleop, rest)
        rest.stick = [0.5], (5,)
        spin_for(0.2, teleop, rest)
        assert not rest.moving()


def test_a_spacemouse_needs_twist_and_button() -> None:
    with desk("spacemouse") as (teleop, rest):
        pressed: list[int] = [0, 0]
        moved = Twist()
        rest.every(0.02, lambda: rest.space_joy.publish(
            Joy(header=convert.header(rest.now_ns()), axes=numbers("f", REST), buttons=numbers("i", pressed))))  # fmt: skip
        timer = rest.every(0.02, lambda: rest.space.publish(moved))
        moved.linear.x = 0.7
        spin_until(lambda: rest.health_now().get("spacemouse") == "OK: released", teleop, rest)
        pressed[0] = 1
        spin_until(rest.moving, teleop, rest)
        assert rest.twists[-1].twist.linear.x == pytest.approx(0.15)
        rest.width.publish(convert.width_message(0.08, 1))
        spin_until(lambda: teleop._measured() is not None, teleop, rest)
        pressed[1] = 1
        spin_until(lambda: rest.grips and convert.width_of(rest.grips[-1]) == 0.0, teleop, rest)
        rest.destroy_timer(timer)  # the puck is gone, the button still says pressed
        spin_until(lambda: not rest.moving(), teleop, rest)
        assert not rest.let_go()


def test_the_operator_takes_over_from_the_policy_and_gives_back() -> None:
    """Teleop, arbiter and the rest of the graph: the records say who moved the arm."""
    with graph(TeleopNode, ArbiterNode, Desk, lambda: Rest(lock_step=False), device="gamepad", input_s=1.0,
               human_s=2.0, pose_s=2.0, command_s=2.0, chunk_age_s=2.0) as (teleop, arbiter, rest, policy):  # fmt: skip
        everyone = teleop, arbiter, rest, policy
        pose = policy.create_publisher(convert.PoseStamped, topics.POSE, SENSOR)
        info = policy.create_publisher(CameraInfo, topics.camera_info("front"), SENSOR)
        policy.seal = False

        def observe() -> None:
            at = convert.Pose((0.5, 0.0, 0.25), (1.0, 0.0, 0.0, 0.0))
            pose.publish(convert.pose_message(at, policy.now_ns(), "base"))
            info.publish(CameraInfo(header=convert.header(policy.now_ns())))
            policy.send(policy.now_ns(), [0.0, 0.1, 0.0, 0.0, 1.0])

        steps = policy.heard[topics.STEP]
        spin_until(discovered(policy, topics.ACTION, topics.TWIST, topics.TELEOP_GRIPPER), *everyone)
        policy.every(0.1, observe)
        rest.stick = REST, ()
        rest.say_state(rest.machine.state)
        spin_until(lambda: arbiter._robot.pose_ns > 0 and arbiter._engagement._state is not None, *everyone)
        rest.play(Start("press-red", "press the red button", Mode.TRAIN, 3), rest.now_ns())

        def by(source: ControlSource, count: int = 3) -> Callable[[], bool]:
            return lambda: [step.source for step in steps if step.acted][-count:] == [source] * count

        spin_until(by(ControlSource.POLICY), *everyone)
        rest.stick = AHEAD, (5,)
        spin_until(by(ControlSource.HUMAN), *everyone)
        human = steps[-1]
        assert human.executed[0] == pytest.approx(0.015 / 0.04, rel=1e-4)  # 0.15 m/s for 0.1 s, of 4 cm
        assert human.executed[1] == 0.0
        rest.stick = AHEAD, (5, 0)
        spin_until(lambda: steps[-1].source is ControlSource.HUMAN and steps[-1].gripper == -1, *everyone)
        rest.stick = REST, ()
        spin_until(lambda: steps[-1].hold is Hold.RELEASED, *everyone)
        rest.stick = REST, (4,)  # engage: the policy has it again
        spin_until(by(ControlSource.POLICY), *everyone)


def test_a_wish_for_the_gripper_ends_with_the_release_even_when_that_overtakes_it() -> None:
    with graph(ArbiterNode, Desk) as (arbiter, rest):
        twist = rest.create_publisher(TwistStamped, topics.TWIST, COMMAND)
        grip = rest.create_publisher(JointState, topics.TELEOP_GRIPPER, COMMAND)
        spin_until(lambda: all(rest.count_subscribers(t) > 1 for t in (topics.TWIST, topics.TELEOP_GRIPPER)), arbiter, rest)
        twist.publish(TwistStamped(header=convert.header(2000, topics.RELEASED)))
        spin_until(lambda: arbiter._human._released_ns == 2000, arbiter, rest)
        grip.publish(convert.width_message(0.0, 1000))
        spin_until(lambda: len(rest.grips) == 1, arbiter, rest)
        spin_for(0.2, arbiter, rest)
        assert arbiter._human.grip is None
        grip.publish(convert.width_message(0.0, 3000))
        spin_until(lambda: arbiter._human.grip == -1.0, arbiter, rest)


def test_a_pipe_gives_keys_until_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        monkeypatch.setattr("sys.stdin", os.fdopen(0, closefd=False))
        terminal = Terminal()
        assert (terminal.read(), terminal.ended) == ("", False)
        os.write(writer, b"ww\xff")
        assert terminal.read() == "ww\N{REPLACEMENT CHARACTER}"
        os.close(writer)
        assert (terminal.read(), terminal.ended) == ("", True)
        terminal.close()
        terminal.close()
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)


def test_without_a_terminal_the_remedy_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start teleop by itself in a terminal"):
        Terminal(str(tmp_path / "no-terminal"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_arm_and_restores_the_terminal(number: int) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    words = ("-p", f"terminal:={os.ttyname(slave)}", "-p", "key_hold_s:=30.0")
    with graph(Desk) as (rest,), Process(*words, script=Path(__file__).with_name("teleop_role.py")) as process:
        spin_until(lambda: rest.count_publishers(topics.TWIST) and rest.count_subscribers(topics.STATE), rest)
        assert termios.tcgetattr(slave) != before
        os.write(master, b"w")
        spin_until(rest.moving, rest)
        process.signal(number)
        spin_until(lambda: not rest.moving(), rest)
        assert (rest.twists[-1].twist.linear.x, rest.twists[-1].header.frame_id) == (0, "base")
        assert process.finish()[0] == 0
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
