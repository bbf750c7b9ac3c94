"""rclpy's Node with the counts that the embedded backend has, as far as rclpy can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rclpy.node
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

from irevla_ros.ros.statistics import TopicStatistics


class Node(rclpy.node.Node):
    """Counts what it publishes and what reaches its callbacks; losses are rclpy's secret."""

    def __init__(self, node_name: str, **kwargs: Any) -> None:
        # Before rclpy's constructor: it makes publishers and subscriptions of its own.
        self._counted: dict[int, tuple[Any, str, list[int]]] = {}
        super().__init__(node_name, **kwargs)

    def create_publisher(self, msg_type: Any, topic: str, qos_profile: Any, **kwargs: Any) -> Publisher:
        publisher = super().create_publisher(msg_type, topic, qos_profile, **kwargs)
        count = self._count(publisher, "publisher")
        publish = publisher.publish

        def counted(msg: Any) -> None:
            publish(msg)
            count[0] += 1

        publisher.publish = counted
        return publisher

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Callable[[Any], object], qos_profile: Any, **kwargs: Any
    ) -> Subscription:
        count = [0]

        def counted(msg: Any) -> object:
            count[0] += 1
            return callback(msg)

        subscription = super().create_subscription(msg_type, topic, counted, qos_profile, **kwargs)
        self._counted[id(subscription)] = (subscription, "subscription", count)
        return subscription

    def destroy_publisher(self, publisher: Publisher) -> bool:
        self._counted.pop(id(publisher), None)
        return bool(super().destroy_publisher(publisher))

    def destroy_subscription(self, subscription: Subscription) -> bool:
        self._counted.pop(id(subscription), None)
        return bool(super().destroy_subscription(subscription))

    def io_statistics(self) -> list[TopicStatistics]:
        """What passed through this node's publishers and subscriptions so far."""
        return [
            TopicStatistics(one.topic_name, kind, _type_name(one.msg_type), count[0])
            for one, kind, count in list(self._counted.values())
        ]

    def _count(self, endpoint: Any, kind: str) -> list[int]:
        count = [0]
        self._counted[id(endpoint)] = (endpoint, kind, count)
        return count


def _type_name(msg_type: Any) -> str:
    """``std_msgs.msg._string.String`` is std_msgs/msg/String."""
    package, kind, *_ = msg_type.__module__.split(".")
    return f"{package}/{kind}/{msg_type.__name__}"
