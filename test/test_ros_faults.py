"""What strangers put on the wire: counted, logged at most once a second, never raised, and the good still arrives."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ros_toys
from irevla_ros.ros import Node
from irevla_ros.ros.catalogue import MESSAGES
from irevla_ros.ros.messages import SetBool, String, Trigger
from irevla_ros.ros.qos import EVENT, LATCHED
from ros_toys import DEADLINE_S, EMBEDDED, spin_for, spin_until

if not EMBEDDED:
    pytest.skip("looks into the embedded backend; this run is native", allow_module_level=True)

import zenoh

from irevla_ros.ros.embedded.attachment import Attachment, stamped, unpack
from irevla_ros.ros.embedded.keys import Endpoint, Entity, Kind, all_tokens, parse_token
from irevla_ros.ros.embedded.network import Network
from irevla_ros.ros.embedded.session import open_node_session
from irevla_ros.ros.embedded.types.cdr import serialize
from irevla_ros.ros.embedded.types.hashes import message_hash, service_hash
from irevla_ros.ros.embedded.types.message import message_class
from irevla_ros.ros.embedded.wire import direct

context, make_node = ros_toys.context, ros_toys.make_node
MakeNode = Callable[..., Node]
GID = bytes(range(16))


def domain() -> int:
    return int(os.environ["ROS_DOMAIN_ID"])


@pytest.fixture(scope="module")
def stranger(context: None) -> Iterator[zenoh.Session]:
    """A Zenoh program that knows the keys and nothing else."""
    session = open_node_session(Network(domain=domain()))
    yield session
    session.close()


def key(name: str, type_name: str) -> str:
    return Endpoint(name, type_name, message_hash(type_name), "").key(domain())


NOISE = [
    (b"", stamped(1, GID)),
    (b"\x00\x01\x00", stamped(1, GID)),
    (b"\xff" * 64, stamped(1, GID)),
    (b"\x00\x01\x00\x00" + b"\xff" * 64, stamped(1, GID)),
    (b"\x00\x07\x00\x00" + b"\x00" * 64, stamped(1, GID)),
    (b"\x00\x01\x00\x00" + b"\x00" * 1000, stamped(1, GID)),
]
BAD_ATTACHMENTS = [None, b"", b"\x00" * 32, b"\x00" * 34, stamped(1, GID)[:16] + b"\x0f" + GID]


def test_malformed_messages_of_every_type(make_node: MakeNode, stranger: zenoh.Session) -> None:
    node = make_node("victim", enable_rosout=False)
    got: dict[str, list[Any]] = {short: [] for short in MESSAGES}
    for short, full in MESSAGES.items():
        node.create_subscription(message_class(full), f"t_{short}", got[short].append, EVENT)

    def counted(short: str) -> Any:
        return next(one for one in node.io_statistics() if one.topic == f"/t_{short}")

    good = {short: message_class(full)() for short, full in MESSAGES.items()}
    for short, full in MESSAGES.items():
        where = key(f"t_{short}", full)
        # Until the stranger's session knows of the subscription, what it puts goes nowhere.
        spin_until(functools.partial(_heard, stranger, where, good[short], got[short]), node)
        for payload, attachment in NOISE:
            stranger.put(where, payload, attachment=attachment)
        for attachment in BAD_ATTACHMENTS:
            stranger.put(where, bytes(serialize(good[short])), attachment=attachment)
        stranger.delete(where)
        stranger.put(where, bytes(serialize(good[short])), attachment=stamped(7, GID))
    expected = len(NOISE) + len(BAD_ATTACHMENTS)
    spin_until(lambda: all(counted(short).malformed == expected for short in MESSAGES), node)
    for short in MESSAGES:
        assert all(message == good[short] for message in got[short]) and got[short], short


def _heard(session: zenoh.Session, where: str, message: Any, got: list[Any]) -> bool:
    session.put(where, bytes(serialize(message)), attachment=stamped(1, GID))
    return bool(got)


def test_complaints_come_at_most_once_a_second(
    make_node: MakeNode, stranger: zenoh.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    node = make_node("victim", enable_rosout=False)
    got: list[Any] = []
    subscription = node.create_subscription(String, "noisy", got.append, EVENT)
    where = key("noisy", "std_msgs/msg/String")
    spin_until(lambda: _heard(stranger, where, String(data="x"), got), node)
    capsys.readouterr()
    start = time.monotonic()
    sent = 0
    while time.monotonic() - start < 1.2:
        for _ in range(20):
            stranger.put(where, b"\xff" * 8, attachment=stamped(1, GID))
            sent += 1
        spin_for(0.01, node)
    seconds = time.monotonic() - start
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 1 + int(seconds)
    assert re.search(r"\[WARN\] .* \[victim\]: /noisy: malformed message number \d+ ignored: ", lines[0])
    statistics = subscription.statistics()
    assert statistics.malformed + statistics.dropped >= 0.5 * sent and got[0] == String(data="x")


def test_malformed_requests_and_responses(make_node: MakeNode, stranger: zenoh.Session) -> None:
    server, caller = make_node("server"), make_node("caller")
    asked: list[bool] = []

    def agree(request: Any, response: Any) -> Any:
        asked.append(request.data)
        response.success = True
        return response

    service = server.create_service(SetBool, "engage", agree)

    def ask(payload: bytes, attachment: bytes | None) -> None:
        stranger.get(service.key, direct(lambda _: None), payload=payload, attachment=attachment, timeout=5.0)

    def answered() -> bool:
        ask(bytes(serialize(SetBool.Request(data=True))), stamped(1, GID))
        return bool(asked)

    # Until the stranger's session knows of the service, what it asks goes nowhere.
    spin_until(answered, server)
    # Requests: no answer, no call of the callback, a count.
    for payload, attachment in [*NOISE[1:], (bytes(serialize(SetBool.Request())), None)]:
        before = service.malformed
        ask(payload, attachment)
        spin_until(lambda before=before: service.malformed == before + 1, server)
    assert asked and all(asked)
    # Responses: the future ends with the error.
    fake = Endpoint("/fake", "std_srvs/srv/Trigger", service_hash("std_srvs/srv/Trigger"), "::,10:,:,:,,")
    token = Entity(Kind.SERVICE, domain(), str(stranger.info.zid()), 0, 1, "/", "fake", fake).token()

    def answer(query: zenoh.Query) -> None:
        with query:
            query.reply(fake.key(domain()), b"\x00\x01\x00\x00\xff", attachment=query.attachment)

    queryable = stranger.declare_queryable(fake.key(domain()), direct(answer), complete=True)
    alive = stranger.liveliness().declare_token(token)
    client = caller.create_client(Trigger, "/fake")
    assert client.wait_for_service(timeout_sec=DEADLINE_S)
    future = client.call_async(Trigger.Request())
    spin_until(future.done, caller)
    assert "malformed CDR" in str(future.exception()) and client.malformed == 1
    alive.undeclare()
    queryable.undeclare()


def test_foreign_tokens_do_not_disturb_the_graph(make_node: MakeNode, stranger: zenoh.Session) -> None:
    node = make_node("watcher")
    base = f"@ros2_lv/{domain()}/abc"
    tokens = [stranger.liveliness().declare_token(f"{base}/{tail}") for tail in (
        "x", "0/0/NN", "0/0/XX/%/%/n", "a/b/NN/%/%/n", "0/1/MP/%/%/n/%t/type", "0/0/NN/%/%cell/n",
        "0/1/MP/%/%/n/%t/strange/hash/qos", "0/2/MP/%/%/n/%u/a::msg::dds_::B_/RIHS01_0/::,1:,:,:,,/more",
    )]  # fmt: skip
    spin_until(lambda: ("n", "/cell") in node.get_node_names_and_namespaces(), node)
    spin_until(lambda: ("/u", ["a/msg/B"]) in node.get_topic_names_and_types(), node)
    assert ("/t", ["strange"]) in node.get_topic_names_and_types()
    for token in tokens:
        token.undeclare()
    spin_until(lambda: ("n", "/cell") not in node.get_node_names_and_namespaces(), node)


def test_a_latched_message_of_a_stranger_is_checked_too(make_node: MakeNode, stranger: zenoh.Session) -> None:
    from zenoh import ext

    where = key("latched", "std_msgs/msg/String")
    publisher = ext.declare_advanced_publisher(stranger, where, cache=ext.CacheConfig(1), publisher_detection=True)
    publisher.put(b"\xff\xff", attachment=stamped(1, GID))
    node = make_node("late", enable_rosout=False)
    got: list[Any] = []
    subscription = node.create_subscription(String, "latched", got.append, LATCHED)
    spin_until(lambda: subscription.statistics().malformed == 1, node)
    publisher.put(bytes(serialize(String(data="good"))), attachment=stamped(2, GID))
    spin_until(lambda: got, node)
    assert got == [String(data="good")]
    publisher.undeclare()


def test_gaps_in_the_numbering_are_lost_messages(make_node: MakeNode, stranger: zenoh.Session) -> None:
    node = make_node("listener", enable_rosout=False)
    got: list[Any] = []
    subscription = node.create_subscription(String, "gaps", got.append, EVENT)
    where = key("gaps", "std_msgs/msg/String")
    spin_until(lambda: _heard(stranger, where, String(), got), node)
    spin_for(0.1, node)
    lost, count = subscription.statistics().lost, len(got)
    for number in (10, 11, 15, 16, 14):
        stranger.put(where, bytes(serialize(String())), attachment=stamped(number, b"\x01" * 16))
    stranger.put(where, bytes(serialize(String())), attachment=stamped(100, b"\x02" * 16))
    spin_until(lambda: len(got) == count + 6, node)
    assert subscription.statistics().lost - lost == 3


def test_the_attachment_by_hand() -> None:
    one = Attachment(sequence=2, stamp_ns=-1, gid=GID)
    assert one.pack() == b"\x02" + b"\x00" * 7 + b"\xff" * 8 + b"\x10" + GID and len(one.pack()) == 33
    assert unpack(one.pack()) == one
    # Zenoh's own serialisation of (int64, int64, bytes) is the same.
    from zenoh.ext import Int64, z_serialize

    assert z_serialize((Int64(2), Int64(-1), GID)).to_bytes() == one.pack()


def test_tokens_by_hand() -> None:
    """The examples of rmw_zenoh's design document."""
    session = "8b20917502ee955ac4476e0266340d5c"
    digits = "df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
    node = Entity(Kind.NODE, 0, session, 0, 0, "/", "talker")
    assert node.token() == f"@ros2_lv/0/{session}/0/0/NN/%/%/talker"
    endpoint = Endpoint("/robot1/chatter", "std_msgs/msg/String", f"RIHS01_{digits}", "::,7:,:,:,,")
    publisher = Entity(Kind.PUBLISHER, 0, session, 0, 10, "/robot1", "talker", endpoint)
    assert publisher.token() == (
        f"@ros2_lv/0/{session}/0/10/MP/%/%robot1/talker/%robot1%chatter/std_msgs::msg::dds_::String_/RIHS01_{digits}/::,7:,:,:,,"
    )
    assert endpoint.key(2) == f"2/robot1/chatter/std_msgs::msg::dds_::String_/RIHS01_{digits}"
    assert parse_token(publisher.token()) == publisher and parse_token(node.token()) == node
    assert all_tokens(3) == "@ros2_lv/3/**"
    assert len(publisher.gid()) == 16 and publisher.gid() != node.gid()


def test_qos_tokens_by_hand() -> None:
    from irevla_ros.ros.embedded import qos
    from irevla_ros.ros.embedded.qos import InvalidQoSProfileException, QoSProfile, as_profile, encode
    from irevla_ros.ros.qos import COMMAND, SENSOR

    assert [encode(one) for one in (SENSOR, COMMAND, EVENT, LATCHED, qos.SERVICES, as_profile(0))] == [
        "2::,5:,:,:,,", "::,1:,:,:,,", "::,100:,:,:,,", ":1:,1:,:,:,,", "::,10:,:,:,,", "::,:,:,:,,",
    ]  # fmt: skip
    with pytest.raises(InvalidQoSProfileException, match="a depth is required"):
        QoSProfile()
    with pytest.raises(InvalidQoSProfileException, match="history KEEP_ALL: the embedded backend has KEEP_LAST"):
        QoSProfile(depth=1, history=2)
    with pytest.raises(AssertionError, match="deadline"):
        QoSProfile(depth=1, deadline=3)
