"""What the other processes of the middleware tests do."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from irevla_ros.ros import ExternalShutdownException, Node, init, ok, spin, try_shutdown
from irevla_ros.ros.clock_offset import serve_clock
from irevla_ros.ros.messages import Image, Int64, String, Trigger, TwistStamped, numbers
from irevla_ros.ros.qos import COMMAND, EVENT, LATCHED, SENSOR
from irevla_ros.ros.run import run_node
from ros_toys import opened, say, spin_until, wait_until


def main(role: str, arguments: list[str]) -> int:
    roles: dict[str, Callable[..., int]] = {
        "arm": arm, "camera": camera, "flood": flood, "latch": latch, "echo": echo, "forget": forget,
        "talker": talker, "reopen": reopen, "clock": clock,
        "robot": robot, "learner": learner, "plain": plain,
    }  # fmt: skip
    return roles[role](*arguments)


class Arm(Node):
    """Commands something for ever, and stops it when it is told to end."""

    def __init__(self) -> None:
        super().__init__("arm")
        self.publisher = self.create_publisher(TwistStamped, "command", COMMAND)
        self.last_words = self.create_publisher(String, "last_words", EVENT)
        self.create_timer(0.02, self.tick)
        self.ticks = 0

    def tick(self) -> None:
        if self.publisher.get_subscription_count():
            self.ticks += 1
            message = TwistStamped()
            message.twist.linear.x = 0.5
            self.publisher.publish(message)
            if self.ticks == 1:
                say("moving")

    def on_shutdown(self) -> None:
        self.publisher.publish(TwistStamped())  # zero velocity
        self.last_words.publish(String(data="stopped"))


class FaultyArm(Arm):
    def tick(self) -> None:
        super().tick()
        if self.ticks == 5:
            raise RuntimeError("a fault in a callback")


def arm(kind: str = "good") -> int:
    code = run_node(Arm if kind == "good" else FaultyArm)
    say("ended", code)
    return code


def camera(count: str, width: str, height: str) -> int:
    """Publishes numbered images and their checksums, and answers strings with strings."""

    def make() -> Node:
        node = Node("camera")
        images = node.create_publisher(Image, "image", EVENT)
        sums = node.create_publisher(String, "sum", EVENT)
        sent = [0]

        def tick() -> None:
            if sent[0] < int(count) and images.get_subscription_count() and sums.get_subscription_count():
                image = picture(sent[0], int(width), int(height))
                images.publish(image)
                sums.publish(String(data=f"{sent[0]} {int(np.asarray(image.data).astype(np.int64).sum())}"))
                sent[0] += 1

        node.create_timer(0.01, tick)
        answers = node.create_publisher(String, "answer", EVENT)
        keep = node.create_subscription(String, "question", lambda m: answers.publish(String(data=m.data[::-1])), EVENT)
        assert keep
        return node

    return run_node(make)


def picture(number: int, width: int, height: int) -> Any:
    """Image ``number``: uint8 noise that any process can make again."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=numbers("B", pixels))
    image.header.frame_id = str(number)
    return image


def talker(topics: str) -> int:
    """Publishes ascending numbers on several topics, 50 a second on each."""

    def make() -> Node:
        node = Node("talker")
        publishers = [node.create_publisher(Int64, f"numbers{k}", EVENT) for k in range(int(topics))]
        sent = [0]

        def tick() -> None:
            if all(one.get_subscription_count() for one in publishers):
                for one in publishers:
                    one.publish(Int64(data=sent[0]))
                sent[0] += 1

        node.create_timer(0.02, tick)
        return node

    return run_node(make)


def flood(topic: str) -> int:
    """Publishes as fast as it can until it is killed."""
    with opened():
        node = Node("flood")
        publisher = node.create_publisher(String, topic, SENSOR)
        message = String(data="x" * 2000)
        say("flooding")
        while True:
            publisher.publish(message)


def reopen(topic: str, times: str) -> int:
    """Opens and closes contexts while messages arrive."""
    for number in range(int(times)):
        with opened():
            node = Node("reopen")
            got = [0]
            node.create_subscription(String, topic, lambda _: got.__setitem__(0, got[0] + 1), SENSOR)  # noqa: B023
            node.create_publisher(String, "latched", LATCHED).publish(String(data="x"))
            spin_until(lambda: got[0] > 20, node)  # noqa: B023
        say("closed", number)
    return 0


def latch(name: str, text: str) -> int:
    """Publishes one latched message and stays; says whom it sees."""
    with opened():
        node = Node(name)
        node.create_publisher(String, "latched", LATCHED).publish(String(data=text))
        seen: set[str] = set()

        def look() -> None:
            now = {node for node, _ in node.get_node_names_and_namespaces()}
            if now != seen:
                seen.clear()
                seen.update(now)
                say("sees", json.dumps(sorted(now)))

        node.create_timer(0.02, look)
        say("latched", time.monotonic())
        spin(node)
    return 0


def echo() -> int:
    """Answers a service until it is told to end."""

    def make() -> Node:
        node = Node("server")

        def answer(_: Any, response: Any) -> Any:
            response.success, response.message = True, "from another process"
            return response

        keep = node.create_service(Trigger, "echo", answer)
        assert keep
        say("serving")
        return node

    return run_node(make)


def forget() -> int:
    """Opens, publishes and leaves without a word."""
    init(args=[])
    Node("forgetful").create_publisher(String, "word", LATCHED).publish(String(data="x"))
    say("leaving")
    return 0


def robot() -> int:
    """One side of two hosts: numbers out, answers in, a service, a latched state that SIGUSR1 changes."""

    def make() -> Node:
        node = Node("robot")
        numbers_out = node.create_publisher(Int64, "number", EVENT)
        state = node.create_publisher(String, "state", LATCHED)
        state.publish(String(data="ready"))
        signal.signal(signal.SIGUSR1, lambda *_: changed.append(True))
        sent = [0]
        changed: list[bool] = []

        def tick() -> None:
            if changed and changed.pop():
                state.publish(String(data="changed"))
                say("changed")
            sent[0] += 1
            numbers_out.publish(Int64(data=sent[0]))

        def answer(_: Any, response: Any) -> Any:
            response.success, response.message = True, "robot"
            return response

        node.create_timer(0.05, tick)
        node.create_subscription(Int64, "echo", lambda m: say("echo", m.data), EVENT)
        node.create_service(Trigger, "stop", answer)
        say("up")
        return node

    return run_node(make)


def learner() -> int:
    """The other side: sends every number back, calls the service every half second."""

    def make() -> Node:
        node = Node("learner")
        back = node.create_publisher(Int64, "echo", EVENT)
        client = node.create_client(Trigger, "stop")
        node.create_subscription(Int64, "number", back.publish, EVENT)
        node.create_subscription(String, "state", lambda m: say("state", m.data), LATCHED)
        node.create_timer(0.5, lambda: client.call_async(Trigger.Request()).add_done_callback(told))
        say("up")
        return node

    def told(future: Any) -> None:
        if future.done():
            say("answer", future.result().message)

    return run_node(make)


def clock(host: str, ahead_s: str) -> int:
    """Tells a time that is ahead of this host's."""

    def make() -> Node:
        node = Node("clock")
        serve_clock(node, host, lambda: time.time_ns() + int(float(ahead_s) * 1e9))
        say("up")
        return node

    return run_node(make)


def plain() -> int:
    """rclpy's own idiom: init, spin, and whatever a signal makes of it."""
    # Where the tests run in the background, children inherit that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    init(args=[])
    node = Node("plain")
    try:
        say("spinning")
        spin(node)
        say("end returned")
    except (KeyboardInterrupt, ExternalShutdownException) as error:
        say("end", type(error).__name__)
    wait_until(lambda: not ok())  # rclpy closes the context in a thread of its own
    say("closed")
    try_shutdown()
    return 0
