"""What processes of a third party do in the conformance tests: zenoh-ros2-sdk, told of types as text.

It connects to a meeting point as to a router; beyond that it knows nothing of this package.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import zenoh_ros2_sdk as sdk
from zenoh_ros2_sdk.qos import QosDurability, QosProfile

STRING = "string data\n"
TWIST = (
    "geometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular\n"
    + "=" * 80
    + "\nMSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n"
)
REQUEST, RESPONSE = "bool data\n", "bool success\nstring message\n"


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main(role: str, *arguments: str) -> None:
    # Which of the meeting points is taken is up to the order in which the tests' processes start.
    where: dict[str, Any] = {"router_port": int(os.environ["IREVLA_TEST_PORT"]), "domain_id": int(os.environ["ROS_DOMAIN_ID"])}
    {"talk": talk, "listen": listen, "latched": latched, "serve": serve, "call": call, "look": look}[role](where, *arguments)


def talk(where: dict[str, Any], twist_hash: str) -> None:
    words = sdk.ROS2Publisher("/sdk/word", "std_msgs/msg/String", STRING, node_name="sdk_talker", namespace="/sdk", **where)
    twists = sdk.ROS2Publisher("/sdk/twist", "geometry_msgs/msg/Twist", TWIST, type_hash=twist_hash, **where)
    say("hash", words.type_hash)
    vector = words.session_mgr.store.types["geometry_msgs/msg/Vector3"]
    for number in range(10**9):
        words.publish(data=f"word {number}")
        twists.publish(linear=vector(x=1.5, y=-2.0, z=0.25), angular=vector(x=0.0, y=0.0, z=float(number)))
        time.sleep(0.05)


def listen(where: dict[str, Any], twist_hash: str) -> None:
    keep = [
        sdk.ROS2Subscriber("/word", "std_msgs/msg/String", lambda m: say("word", m.data), STRING, **where),
        sdk.ROS2Subscriber(
            "/twist",
            "geometry_msgs/msg/Twist",
            lambda m: say("twist", m.linear.x, m.linear.y, m.angular.z),
            TWIST,
            type_hash=twist_hash,
            **where,
        ),
    ]
    say("listening", len(keep))
    time.sleep(3600)


def latched(where: dict[str, Any]) -> None:
    qos = QosProfile(durability=QosDurability.TRANSIENT_LOCAL, history_depth=1)
    keep = sdk.ROS2Subscriber("/state", "std_msgs/msg/String", lambda m: say("state", m.data), STRING, qos=qos, **where)
    say("listening", keep.topic)
    time.sleep(3600)


def serve(where: dict[str, Any]) -> None:
    def answer(request: Any) -> Any:
        return server.response_msg_class(success=request.data, message="from the SDK")

    server = sdk.ROS2ServiceServer("/sdk/engage", "std_srvs/srv/SetBool", answer, REQUEST, RESPONSE, **where)
    say("serving", server.type_hash)
    time.sleep(3600)


def call(where: dict[str, Any]) -> None:
    client = sdk.ROS2ServiceClient("/engage", "std_srvs/srv/SetBool", REQUEST, RESPONSE, **where)
    time.sleep(0.5)  # it has no way to wait for a service
    for data in (True, False):
        response = client.call(data=data)
        say("answer", response.success, response.message)


def look(where: dict[str, Any]) -> None:
    """The graph as the SDK sees it, until it is killed."""
    while True:
        topics = dict(sdk.get_topic_names_and_types(**where))
        services = dict(sdk.get_service_names_and_types(**where))
        info = sdk.get_topic_info("/state", verbose=True, **where)
        qos = [one.qos for one in info.publishers] if info else []
        nodes = [f"{one.node_namespace} {one.node_name}" for one in info.publishers] if info else []
        say("graph", json.dumps({"topics": topics, "services": services, "qos": qos, "nodes": nodes}))


if __name__ == "__main__":
    main(*sys.argv[1:])
