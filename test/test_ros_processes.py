"""Several processes: images and words between two, floods, kill -9, restarts, and nothing left behind after closing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ros_toys
from irevla_ros.ros import Node, spin_once
from irevla_ros.ros.messages import Image, Int64, String, Trigger
from irevla_ros.ros.qos import EVENT, LATCHED, SENSOR
from ros_roles import picture
from ros_toys import DEADLINE_S, Process, embedded_only, opened, spin_until, wait_until

make_node = ros_toys.make_node
MakeNode = Callable[..., Node]


@pytest.fixture
def context() -> Iterator[None]:
    with opened():
        yield


@pytest.mark.usefixtures("context")
def test_images_and_words_between_two_processes(make_node: MakeNode) -> None:
    node = make_node("viewer")
    images: list[Any] = []
    sums: list[str] = []
    answers: list[str] = []
    node.create_subscription(Image, "image", images.append, EVENT)
    node.create_subscription(String, "sum", lambda m: sums.append(m.data), EVENT)
    node.create_subscription(String, "answer", lambda m: answers.append(m.data), EVENT)
    question = node.create_publisher(String, "question", EVENT)
    with Process("camera", 1000, 320, 240) as camera:
        spin_until(lambda: len(images) >= 10 and len(sums) >= 10, node)
        said = dict(line.split() for line in sums)
        # On a machine that is busy enough images are lost between processes; what arrives is whole and in order.
        numbers = [int(image.header.frame_id) for image in images]
        assert numbers == sorted(set(numbers))
        for number, image in zip(numbers, images, strict=True):
            expected = picture(number, 320, 240)
            assert (image.height, image.width, image.step) == (240, 320, 960)
            assert bytes(np.asarray(image.data)) == bytes(np.asarray(expected.data))
            assert int(said.get(str(number), total(image))) == total(image)
        question.publish(String(data="straße"))
        spin_until(lambda: answers, node)
        assert answers == ["eßarts"]
        camera.signal(signal.SIGTERM)
        code, _, errors = camera.finish()
        assert (code, errors) == (0, "")


@embedded_only
@pytest.mark.usefixtures("context")
def test_a_full_hd_image_arrives_whole(make_node: MakeNode) -> None:
    node = make_node("viewer")
    images: list[Any] = []
    node.create_subscription(Image, "image", images.append, EVENT)
    node.create_subscription(String, "sum", lambda m: None, EVENT)
    with Process("camera", 1000, 1920, 1080):
        spin_until(lambda: len(images) >= 2, node)
    for image in images[:2]:
        expected = picture(int(image.header.frame_id), 1920, 1080)
        assert len(image.data) == 1920 * 1080 * 3
        assert hashlib.sha256(bytes(np.asarray(image.data))).digest() == hashlib.sha256(bytes(expected.data)).digest()


@pytest.mark.usefixtures("context")
def test_a_flood_does_not_hold_up_another_topic(make_node: MakeNode) -> None:
    node = make_node("listener")
    flooded = [0]
    got: list[int] = []
    node.create_subscription(String, "flood", lambda m: flooded.__setitem__(0, flooded[0] + 1), SENSOR)
    node.create_subscription(Int64, "quiet", lambda m: got.append(m.data), EVENT)
    publisher = node.create_publisher(Int64, "quiet", EVENT)
    spin_until(lambda: publisher.get_subscription_count() == 1, node)
    with Process("flood", "flood") as flood:
        flood.expect("flooding")
        spin_until(lambda: flooded[0] > 50, node)
        sent = [0]
        timer = node.create_timer(0.02, lambda: (publisher.publish(Int64(data=sent[0])), sent.__setitem__(0, sent[0] + 1)))
        spin_until(lambda: len(got) >= 25, node)
        node.destroy_timer(timer)
        more = flooded[0]
        spin_until(lambda: flooded[0] > more + 50, node)
    assert got == list(range(len(got)))
    statistics = {one.topic: one for one in node.io_statistics() if one.kind == "subscription"}
    assert statistics["/flood"].messages == flooded[0] and statistics["/quiet"].messages == len(got)


@pytest.mark.usefixtures("context")
def test_several_topics_at_300_messages_a_second_leave_room_for_a_thread(make_node: MakeNode) -> None:
    node = make_node("listener")
    got: dict[int, list[int]] = {number: [] for number in range(6)}
    for number, numbers in got.items():
        node.create_subscription(Int64, f"numbers{number}", lambda m, numbers=numbers: numbers.append(m.data), EVENT)
    turns, stop = [0], threading.Event()

    def work() -> None:
        while not stop.wait(0.001):
            turns[0] += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with Process("talker", 6):
            spin_until(lambda: all(len(numbers) >= 100 for numbers in got.values()), node)
        busy = turns[0]
        spin_until(lambda: turns[0] > busy + 100, node)  # an executor that waits must not hold the interpreter
    finally:
        stop.set()
        worker.join()
    assert busy > 100
    for numbers in got.values():
        assert numbers == sorted(set(numbers))


@embedded_only
class TestDeath:
    """Processes that find each other, die by SIGKILL and come back."""

    def test_killing_the_first_leaves_the_rest_together_and_open_to_newcomers(self) -> None:
        """The first process holds the first meeting point; the others must not need it."""
        with Process("latch", "first", "1") as first:
            first.expect("latched")
            others = [Process("latch", name, name) for name in ("b", "c")]
            try:
                self.all_see(others, {"first", "b", "c"})
                first.kill()
                self.all_see(others, {"b", "c"})
                newcomers = [Process("latch", name, name) for name in ("d", "first")]
                others += newcomers
                self.all_see(others, {"b", "c", "d", "first"})
            finally:
                for one in others:
                    one.kill()

    def test_newcomers_meet_while_the_first_hangs(self) -> None:
        with Process("latch", "first", "1") as first:
            first.expect("latched")
            first.signal(signal.SIGSTOP)
            with Process("latch", "b", "b") as b, Process("latch", "c", "c") as c:
                self.all_see([b, c], {"b", "c"})
                first.signal(signal.SIGCONT)
                self.all_see([b, c], {"first", "b", "c"})

    def all_see(self, processes: list[Process], names: set[str]) -> None:
        for one in processes:
            while set(json.loads(one.expect("sees").removeprefix("sees "))) != names:
                pass

    def test_a_peer_that_comes_back_is_heard_again(self, make_node: MakeNode) -> None:
        with opened():
            node = make_node("watcher")
            got: list[str] = []
            node.create_subscription(String, "latched", lambda m: got.append(m.data), LATCHED)
            for text in ("one", "two"):
                with Process("latch", "peer", text) as peer:
                    peer.expect("latched")
                    spin_until(lambda text=text: got and got[-1] == text, node)
                    assert node.count_publishers("latched") == 1
                    peer.kill()
                    spin_until(lambda: node.count_publishers("latched") == 0, node)
            assert got == ["one", "two"]

    def test_a_peer_that_hangs_does_not_stall_the_publisher(self, make_node: MakeNode) -> None:
        with opened():
            node = make_node("talker")
            publisher = node.create_publisher(String, "question", EVENT)
            got: list[str] = []
            node.create_subscription(String, "question", lambda m: got.append(m.data), EVENT)
            with Process("camera", 0, 8, 8) as hung:
                spin_until(lambda: publisher.get_subscription_count() == 2, node)
                hung.signal(signal.SIGSTOP)
                big = "x" * 100_000
                for number in range(200):  # more than the sockets between the two can hold
                    publisher.publish(String(data=big + str(number)))
                    spin_until(lambda number=number: len(got) == number + 1, node)
                hung.signal(signal.SIGCONT)
            assert len(got) == 200


@embedded_only
class TestClosing:
    def test_contexts_close_while_messages_pour_in(self) -> None:
        """Zenoh waits for tasks of its own while it holds the interpreter, for which a reading thread waits."""
        with Process("flood", "flood"), Process("reopen", "flood", 15) as child:
            for number in range(15):
                assert child.expect("closed") == f"closed {number}"
            assert child.finish()[0] == 0

    def test_twenty_contexts_leave_nothing_behind(self) -> None:
        def once() -> None:
            with opened():
                node = Node("short")
                got: list[str] = []
                node.create_subscription(String, "word", lambda m: got.append(m.data), LATCHED)
                node.create_publisher(String, "word", LATCHED).publish(String(data="x"))
                node.create_service(Trigger, "serve", lambda _, response: response)
                client = node.create_client(Trigger, "serve")
                assert client.wait_for_service(timeout_sec=DEADLINE_S)
                future = client.call_async(Trigger.Request())
                client.call_async(Trigger.Request())  # answered by nobody
                spin_until(lambda: got and future.done(), node)

        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        once()  # Zenoh's threads and their descriptors are made once a process
        threads = threading.active_count()
        wait_until(lambda: _stable(descriptors))
        before = descriptors()
        for _ in range(20):
            once()
        wait_until(lambda: descriptors() <= before)
        assert threading.active_count() == threads
        native = len(os.listdir("/proc/self/task"))
        once()
        assert len(os.listdir("/proc/self/task")) <= native + 2

    def test_tokens_vanish_at_once_when_a_process_closes(self, make_node: MakeNode) -> None:
        with opened():
            watcher = make_node("watcher")
            with Process("echo") as server:
                server.expect("serving")
                spin_until(lambda: ("server", "/") in watcher.get_node_names_and_namespaces(), watcher)
                server.signal(signal.SIGINT)
                spin_until(lambda: ("server", "/") not in watcher.get_node_names_and_namespaces(), watcher)
                assert server.finish()[0] == 0

    def test_a_process_that_forgets_to_shut_down_still_ends(self) -> None:
        with opened():
            watcher = Node("watcher")
            with Process("forget") as process:
                code, output, errors = process.finish()
            assert (code, output.strip(), errors) == (0, "leaving", "")
            spin_once(watcher, timeout_sec=0.0)
            wait_until(lambda: "forgetful" not in {name for name, _ in watcher.get_node_names_and_namespaces()})

    def test_nothing_listens_beyond_loopback(self) -> None:
        with opened():
            own = {int(m.group(1)) for link in Path("/proc/self/fd").iterdir()
                   if (m := re.match(r"socket:\[(\d+)\]", _readlink(link)))}  # fmt: skip
            listening = set()
            for table in ("tcp", "tcp6", "udp", "udp6"):
                for line in (Path("/proc/net") / table).read_text().splitlines()[1:]:
                    words = line.split()
                    bound = words[3] in ("0A", "07")  # TCP listening, UDP bound
                    if bound and int(words[9]) in own:
                        listening.add((table, words[1].split(":")[0]))
            assert listening == {("tcp", "0100007F")}  # 127.0.0.1, as the kernel writes it


def total(image: Any) -> int:
    return int(np.asarray(image.data).astype(np.int64).sum())


def _readlink(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed in between
        return ""


def _stable(read: Callable[[], int]) -> bool:
    values = set()
    for _ in range(20):
        values.add(read())
        threading.Event().wait(0.01)
    return len(values) == 1
