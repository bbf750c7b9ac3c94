"""A node as a process: signals reach the node before the middleware closes."""

from __future__ import annotations

import signal
import sys

import pytest

from irevla_ros.core.errors import ConfigError
from irevla_ros.ros import Node, ok
from irevla_ros.ros.errors import CONFIGURATION
from irevla_ros.ros.messages import String, TwistStamped
from irevla_ros.ros.qos import COMMAND, EVENT
from irevla_ros.ros.run import run_node
from ros_toys import Process, opened, spin_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_safe_command_goes_out_before_the_context_closes(number: signal.Signals) -> None:
    with opened(), Process("arm") as arm:
        node = Node("watcher")
        speeds: list[float] = []
        words: list[str] = []
        node.create_subscription(TwistStamped, "command", lambda m: speeds.append(m.twist.linear.x), COMMAND)
        node.create_subscription(String, "last_words", lambda m: words.append(m.data), EVENT)
        arm.expect("moving")
        spin_until(lambda: speeds, node)
        arm.signal(number)
        # A terminal and a launcher at once: the second signal must not cut the node short.
        arm.signal(number)
        spin_until(lambda: words, node)
        code, output, errors = arm.finish()
        spin_until(lambda: speeds[-1] == 0.0, node)
    assert (code, output.strip(), errors.strip()) == (0, "ended 0", "")
    assert words == ["stopped"] and speeds[0] == 0.5


def test_a_fault_in_a_callback_also_stops_the_arm_first() -> None:
    with opened(), Process("arm", "faulty") as arm:
        node = Node("watcher")
        words: list[str] = []
        node.create_subscription(TwistStamped, "command", lambda _: None, COMMAND)
        node.create_subscription(String, "last_words", lambda m: words.append(m.data), EVENT)
        spin_until(lambda: words, node)
        code, _, errors = arm.finish()
    assert code == 1 and "RuntimeError: a fault in a callback" in errors


def test_an_error_of_the_users_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> Node:
        raise ConfigError("topic 'x y'", "has a space", "rename it")

    assert run_node(make, args=[]) == CONFIGURATION
    assert capsys.readouterr().err == "error: topic 'x y': has a space; rename it\n"
    assert not ok()


def test_the_handlers_from_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    class Quitter(Node):
        def __init__(self) -> None:
            super().__init__("quitter")
            self.create_timer(0.01, lambda: signal.raise_signal(signal.SIGTERM))

    assert run_node(Quitter, args=[]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert not ok() and "irevla_ros.ros.run" in sys.modules


@pytest.mark.parametrize(
    ("number", "ends"),
    # A signal before the first wait makes spin return; one while it waits makes it raise.
    [(signal.SIGINT, {"KeyboardInterrupt"}), (signal.SIGTERM, {"ExternalShutdownException", "returned"})],
)  # fmt: skip
def test_plain_spin_ends_on_signals_as_in_rclpy(number: signal.Signals, ends: set[str]) -> None:
    with Process("plain") as process:
        process.expect("spinning")
        process.signal(number)
        assert process.expect("end").split()[1] in ends
        assert process.expect("closed")
        assert process.finish()[0] == 0
