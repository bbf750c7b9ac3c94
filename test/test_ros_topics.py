"""Topics within a process: delivery, queues, latched messages, counts. The same tests on both backends."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

import ros_toys
from irevla_ros.ros import Node, QoSProfile
from irevla_ros.ros.messages import Image, Int64, JointState, String, numbers
from irevla_ros.ros.qos import COMMAND, EVENT, LATCHED, SENSOR
from ros_toys import embedded_only, spin_for, spin_until

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]


def connected(publisher: object, count: int = 1) -> Callable[[], bool]:
    return lambda: publisher.get_subscription_count() == count  # type: ignore[attr-defined]


def test_messages_arrive_whole_and_in_order(make_node: MakeNode) -> None:
    talker, listener = make_node("talker"), make_node("listener")
    got: list[int] = []
    listener.create_subscription(Int64, "count", lambda m: got.append(m.data), EVENT)
    publisher = talker.create_publisher(Int64, "count", EVENT)
    spin_until(connected(publisher), talker, listener)
    for number in range(50):
        publisher.publish(Int64(data=number))
    spin_until(lambda: len(got) == 50, listener)
    assert got == list(range(50))
    assert publisher.topic_name == "/count"


def test_an_image_and_a_joint_state_keep_every_number(make_node: MakeNode) -> None:
    node = make_node()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    images: list[Image] = []
    states: list[JointState] = []
    node.create_subscription(Image, "image", images.append, SENSOR)
    node.create_subscription(JointState, "state", states.append, SENSOR)
    image_publisher = node.create_publisher(Image, "image", SENSOR)
    state_publisher = node.create_publisher(JointState, "state", SENSOR)
    spin_until(lambda: connected(image_publisher)() and connected(state_publisher)(), node)
    image = Image(height=48, width=64, encoding="rgb8", step=192, data=numbers("B", pixels))
    image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id = 12, 34, "camera_optical"
    image_publisher.publish(image)
    position = np.array([0.1, -2.5, np.pi])
    state_publisher.publish(JointState(name=["a", "b", "c"], position=numbers("d", position)))
    spin_until(lambda: images and states, node)
    received = images[0]
    assert np.array_equal(np.asarray(received.data).reshape(48, 64, 3), pixels)
    assert (received.header.stamp.sec, received.header.stamp.nanosec, received.header.frame_id) == (12, 34, "camera_optical")
    assert list(states[0].name) == ["a", "b", "c"] and np.array_equal(np.asarray(states[0].position), position)
    assert len(states[0].velocity) == 0


def test_a_slow_subscription_keeps_the_newest(make_node: MakeNode) -> None:
    talker, listener = make_node("talker"), make_node("listener")
    sensor: list[int] = []
    command: list[int] = []
    listener.create_subscription(Int64, "sensor", lambda m: sensor.append(m.data), SENSOR)
    listener.create_subscription(Int64, "command", lambda m: command.append(m.data), COMMAND)
    publishers = [talker.create_publisher(Int64, "sensor", SENSOR), talker.create_publisher(Int64, "command", COMMAND)]
    spin_until(lambda: all(connected(one)() for one in publishers), talker, listener)
    # The listener is not spun while these come: depth 5 and depth 1.
    for number in range(20):
        for publisher in publishers:
            publisher.publish(Int64(data=number))
    spin_until(lambda: sensor and sensor[-1] == 19 and command, listener)
    spin_for(0.2, listener)
    assert sensor == [15, 16, 17, 18, 19] and command == [19]


@embedded_only
def test_what_a_queue_drops_is_counted(make_node: MakeNode) -> None:
    node = make_node(enable_rosout=False)
    node.create_subscription(Int64, "sensor", lambda m: None, SENSOR)
    publisher = node.create_publisher(Int64, "sensor", SENSOR)
    spin_until(connected(publisher), node)
    for number in range(20):
        publisher.publish(Int64(data=number))
    spin_until(lambda: node.io_statistics()[1].messages == 5, node)
    sent, received = node.io_statistics()
    assert (sent.kind, sent.topic, sent.messages) == ("publisher", "/sensor", 20)
    assert (received.kind, received.type_name, received.dropped) == ("subscription", "std_msgs/msg/Int64", 15)
    assert (received.lost, received.malformed) == (0, 0)


def test_both_backends_count_what_passes(make_node: MakeNode) -> None:
    node = make_node()
    got: list[str] = []
    node.create_subscription(String, "word", lambda m: got.append(m.data), EVENT)
    publisher = node.create_publisher(String, "word", EVENT)
    spin_until(connected(publisher), node)
    publisher.publish(String(data="x"))
    spin_until(lambda: got, node)
    counts = {one.kind: one.messages for one in node.io_statistics() if one.topic == "/word"}
    assert counts == {"publisher": 1, "subscription": 1}


def test_a_late_joiner_receives_the_last_latched_message(make_node: MakeNode) -> None:
    early, late = make_node("early"), make_node("late")
    publisher = early.create_publisher(String, "state", LATCHED)
    for word in ("idle", "reset", "ready"):
        publisher.publish(String(data=word))
    got: list[str] = []
    late.create_subscription(String, "state", lambda m: got.append(m.data), LATCHED)
    spin_until(lambda: got, early, late)
    publisher.publish(String(data="run"))
    spin_until(lambda: "run" in got, early, late)
    assert got == ["ready", "run"]


def test_a_latched_publisher_that_comes_later_is_received(make_node: MakeNode) -> None:
    subscriber, publisher = make_node("subscriber"), make_node("publisher")
    got: list[str] = []
    subscriber.create_subscription(String, "version", lambda m: got.append(m.data), LATCHED)
    spin_for(0.2, subscriber)
    publisher.create_publisher(String, "version", LATCHED).publish(String(data="head 7"))
    spin_until(lambda: got, subscriber, publisher)
    spin_for(0.2, subscriber, publisher)
    assert got == ["head 7"]


def test_volatile_topics_keep_nothing(make_node: MakeNode) -> None:
    node = make_node()
    publisher = node.create_publisher(String, "event", EVENT)
    publisher.publish(String(data="missed"))
    got: list[str] = []
    node.create_subscription(String, "event", lambda m: got.append(m.data), EVENT)
    spin_until(connected(publisher), node)
    publisher.publish(String(data="heard"))
    spin_until(lambda: got, node)
    assert got == ["heard"]


def test_a_destroyed_subscription_is_called_no_more(make_node: MakeNode) -> None:
    node = make_node()
    gone: list[str] = []
    stays: list[str] = []
    subscription = node.create_subscription(String, "word", lambda m: gone.append(m.data), EVENT)
    node.create_subscription(String, "word", lambda m: stays.append(m.data), EVENT)
    publisher = node.create_publisher(String, "word", EVENT)
    spin_until(connected(publisher, 2), node)
    assert node.destroy_subscription(subscription) and not node.destroy_subscription(subscription)
    spin_until(connected(publisher, 1), node)
    publisher.publish(String(data="x"))
    spin_until(lambda: stays, node)
    assert gone == []


def test_the_graph_counts_endpoints_and_knows_types(make_node: MakeNode) -> None:
    node = make_node("counter", namespace="/cell")
    publisher = node.create_publisher(String, "word", EVENT)
    node.create_subscription(String, "word", lambda m: None, EVENT)
    node.create_subscription(String, "/cell/word", lambda m: None, EVENT)
    spin_until(lambda: node.count_subscribers("word") == 2, node)
    spin_until(lambda: node.count_publishers("/cell/word") == 1, node)
    assert publisher.get_subscription_count() == 2
    assert ("/cell/word", ["std_msgs/msg/String"]) in node.get_topic_names_and_types()
    assert ("counter", "/cell") in node.get_node_names_and_namespaces()
    node.destroy_publisher(publisher)
    spin_until(lambda: node.count_publishers("word") == 0, node)


def test_a_message_of_another_type_is_refused(make_node: MakeNode) -> None:
    publisher = make_node().create_publisher(String, "word", EVENT)
    with pytest.raises(TypeError, match="Expected"):
        publisher.publish(Int64(data=1))


def test_a_depth_stands_for_a_profile(make_node: MakeNode) -> None:
    node = make_node()
    got: list[int] = []
    node.create_subscription(Int64, "number", lambda m: got.append(m.data), 3)
    publisher = node.create_publisher(Int64, "number", QoSProfile(depth=3))
    spin_until(connected(publisher), node)
    for number in range(9):
        publisher.publish(Int64(data=number))
    spin_until(lambda: got and got[-1] == 8, node)
    assert got == [6, 7, 8]


def test_publishing_from_many_threads_loses_nothing(make_node: MakeNode) -> None:
    node = make_node()
    got: list[int] = []
    node.create_subscription(Int64, "number", lambda m: got.append(m.data), QoSProfile(depth=1000))
    publisher = node.create_publisher(Int64, "number", QoSProfile(depth=1000))
    spin_until(connected(publisher), node)

    def publish(first: int) -> None:
        for number in range(first, first + 50):
            publisher.publish(Int64(data=number))

    threads = [threading.Thread(target=publish, args=(50 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spin_until(lambda: len(got) == 200, node)
    assert sorted(got) == list(range(200))


@embedded_only
def test_a_destroyed_publisher_says_so(make_node: MakeNode) -> None:
    from irevla_ros.ros.errors import MiddlewareError

    node = make_node()
    publisher = node.create_publisher(String, "word", EVENT)
    node.destroy_publisher(publisher)
    with pytest.raises(MiddlewareError, match=r"^publish on /word: .*; see whether the endpoint or the context was closed$"):
        publisher.publish(String(data="x"))
