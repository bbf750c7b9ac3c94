"""The wire format against another implementation of it, zenoh-ros2-sdk, in both directions.

rmw_zenoh_cpp itself is not here: what passes these tests follows the format.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ros_toys
from irevla_ros.ros import Node
from irevla_ros.ros.messages import SetBool, String, Twist
from irevla_ros.ros.qos import EVENT, LATCHED
from ros_toys import DEADLINE_S, EMBEDDED, Process, spin_until

if not EMBEDDED:
    pytest.skip("looks into the embedded backend; this run is native", allow_module_level=True)
if importlib.util.find_spec("zenoh_ros2_sdk") is None:
    pytest.skip("zenoh-ros2-sdk is not installed: pip install 'irevla_ros[conformance]'", allow_module_level=True)

from irevla_ros.ros.embedded.context import current
from irevla_ros.ros.embedded.network import Network
from irevla_ros.ros.embedded.types.hashes import message_hash, service_hash

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]
TWIST_HASH = message_hash("geometry_msgs/msg/Twist")


def sdk(*words: str) -> Process:
    """A process of the SDK, which takes one of our meeting points for its router."""
    points = [one.rpartition(":")[2] for one in Network(domain=current("the tests").domain).meeting_points]
    held = next(port for port in points if _listens(int(port)))
    return Process(*words, script=Path(__file__).with_name("ros_sdk.py"), environment={"IREVLA_TEST_PORT": held})


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_we_hear_the_sdk(make_node: MakeNode) -> None:
    node = make_node()
    words: list[str] = []
    twists: list[Any] = []
    node.create_subscription(String, "/sdk/word", lambda m: words.append(m.data), EVENT)
    node.create_subscription(Twist, "/sdk/twist", twists.append, EVENT)
    with sdk("talk", TWIST_HASH) as talker:
        # Its own computation of the hash, from the text of the definition.
        assert talker.expect("hash") == f"hash {message_hash('std_msgs/msg/String')}"
        spin_until(lambda: len(words) >= 3 and len(twists) >= 3, node)
        assert ("sdk_talker", "/sdk") in node.get_node_names_and_namespaces()
        assert ("/sdk/word", ["std_msgs/msg/String"]) in node.get_topic_names_and_types()
        assert node.count_publishers("/sdk/word") == 1
    numbers = [int(word.split()[1]) for word in words]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert [(one.linear.x, one.linear.y, one.linear.z) for one in twists] == [(1.5, -2.0, 0.25)] * len(twists)
    assert all(other.angular.z == one.angular.z + 1.0 for one, other in itertools.pairwise(twists))
    statistics = {one.topic: one for one in node.io_statistics() if one.kind == "subscription"}
    assert (statistics["/sdk/word"].malformed, statistics["/sdk/word"].lost) == (0, 0)


def test_the_sdk_hears_us(make_node: MakeNode) -> None:
    node = make_node()
    words, twists = node.create_publisher(String, "word", EVENT), node.create_publisher(Twist, "twist", EVENT)
    with sdk("listen", TWIST_HASH) as listener:
        listener.expect("listening")
        spin_until(lambda: words.get_subscription_count() == 1 and twists.get_subscription_count() == 1, node)
        twist = Twist()
        twist.linear.x, twist.linear.y, twist.angular.z = 0.5, -1.25, 3.0
        words.publish(String(data="grüß dich"))
        assert listener.expect("word") == "word grüß dich"
        twists.publish(twist)
        assert listener.expect("twist") == "twist 0.5 -1.25 3.0"


def test_the_sdk_receives_what_we_latched_before_it_came(make_node: MakeNode) -> None:
    node = make_node("episode", namespace="/cell")
    publisher = node.create_publisher(String, "/state", LATCHED)
    publisher.publish(String(data="idle"))
    publisher.publish(String(data="run"))
    with sdk("latched") as listener:
        assert listener.expect("state") == "state run"


def test_the_sdk_calls_our_service(make_node: MakeNode) -> None:
    node = make_node("server")

    def engage(request: Any, response: Any) -> Any:
        response.success, response.message = request.data, "from us"
        return response

    node.create_service(SetBool, "engage", engage)
    answers: list[str] = []
    with sdk("call") as caller:
        reader = threading.Thread(target=lambda: answers.extend(caller.expect("answer") for _ in range(2)))
        reader.start()
        spin_until(lambda: len(answers) == 2, node)
        reader.join()
    assert answers == ["answer True from us", "answer False from us"]


def test_we_call_a_service_of_the_sdk(make_node: MakeNode) -> None:
    node = make_node("caller")
    client = node.create_client(SetBool, "/sdk/engage")
    with sdk("serve") as server:
        assert server.expect("serving") == f"serving {service_hash('std_srvs/srv/SetBool')}"
        assert client.wait_for_service(timeout_sec=DEADLINE_S)
        answers: list[tuple[bool, str]] = []

        def ask(data: bool) -> None:
            future = client.call_async(SetBool.Request(data=data))
            future.add_done_callback(lambda done: answers.append((done.result().success, done.result().message)))

        # The SDK announces its service before it can answer, so that the first question may be lost.
        timer = node.create_timer(0.2, lambda: ask(True))
        spin_until(lambda: answers, node)
        node.destroy_timer(timer)
        ask(False)
        spin_until(lambda: (False, "from the SDK") in answers, node)
        assert set(answers) == {(True, "from the SDK"), (False, "from the SDK")}
        server.kill()
        spin_until(lambda: not client.service_is_ready(), node)


def test_the_sdk_sees_our_graph(make_node: MakeNode) -> None:
    node = make_node("episode", namespace="/cell")
    node.create_publisher(String, "/state", LATCHED)
    node.create_service(SetBool, "engage", lambda _, response: response)
    with sdk("look") as looker:
        graph = json.loads(looker.expect("graph").removeprefix("graph "))
        while "/state" not in graph["topics"] or not graph["qos"]:
            graph = json.loads(looker.expect("graph").removeprefix("graph "))
    assert graph["topics"]["/state"] == ["std_msgs/msg/String"] and graph["topics"]["/rosout"] == ["rcl_interfaces/msg/Log"]
    assert graph["services"]["/cell/engage"] == ["std_srvs/srv/SetBool"]
    assert graph["services"]["/cell/episode/set_parameters"] == ["rcl_interfaces/srv/SetParameters"]
    assert (graph["qos"], graph["nodes"]) == ([":1:,1:,:,:,,"], ["/cell episode"])
