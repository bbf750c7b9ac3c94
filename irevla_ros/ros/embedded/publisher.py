"""Publishers. Those of latched topics keep what they sent last for whoever subscribes later."""

from __future__ import annotations

import itertools
from typing import Any

import zenoh
from zenoh import ext

from irevla_ros.ros.embedded.attachment import stamped
from irevla_ros.ros.embedded.endpoint import Declared, Owner
from irevla_ros.ros.embedded.keys import Kind
from irevla_ros.ros.embedded.qos import QoSProfile
from irevla_ros.ros.embedded.types.cdr import serialize
from irevla_ros.ros.embedded.types.hashes import message_hash
from irevla_ros.ros.embedded.wire import zenoh_fault
from irevla_ros.ros.statistics import TopicStatistics

# rmw_zenoh_cpp's period for telling subscriptions of a reliable latched topic what number was sent last.
_HEARTBEAT_S = 0.5


class Publisher(Declared):
    """Made by ``Node.create_publisher``; ``publish`` may be called from any thread."""

    def __init__(self, node: Owner, msg_type: type[Any], topic: str, profile: QoSProfile) -> None:
        name: str = msg_type._type_name
        super().__init__(node, Kind.PUBLISHER, topic, name, message_hash(name), profile)
        self.msg_type = msg_type
        self.qos_profile = profile
        self._numbers = itertools.count(1)
        self._published = 0
        self._publisher = self._declare()
        self._announce(self._publisher)

    @property
    def topic_name(self) -> str:
        return self.endpoint.name

    def publish(self, msg: Any) -> None:
        """Send a message.

        Raises TypeError for another type's, CdrError, NotInitializedException after shutdown, MiddlewareError once the
        publisher is destroyed.
        """
        if not isinstance(msg, self.msg_type):
            raise TypeError(f"Expected {self.msg_type}, got {type(msg)}")
        if not self._context.ok():
            self._context.require(f"publish on {self.topic_name}")
        payload = serialize(msg)
        try:
            self._publisher.put(payload, attachment=stamped(next(self._numbers), self.gid))
        except zenoh.ZError as error:
            raise zenoh_fault(f"publish on {self.topic_name}", error) from error
        self._published += 1

    def get_subscription_count(self) -> int:
        return self._context.graph.count_matching(Kind.SUBSCRIPTION, self.endpoint)

    def statistics(self) -> TopicStatistics:
        return TopicStatistics(self.topic_name, "publisher", self.endpoint.type_name, self._published)

    def _declare(self) -> zenoh.Publisher | ext.AdvancedPublisher:
        session = self._context.session
        reliable = self.qos_profile.reliable
        reliability = zenoh.Reliability.RELIABLE if reliable else zenoh.Reliability.BEST_EFFORT
        # A reader that does not keep up loses messages; it must not hold up the one that commands an arm.
        congestion = zenoh.CongestionControl.DROP
        if not self.qos_profile.transient_local:
            return session.declare_publisher(self.key, congestion_control=congestion, reliability=reliability)
        heartbeat = ext.MissDetectionConfig(heartbeat=None, sporadic_heartbeat=_HEARTBEAT_S)
        return ext.declare_advanced_publisher(
            session,
            self.key,
            congestion_control=congestion,
            reliability=reliability,
            cache=ext.CacheConfig(self.qos_profile.depth),
            sample_miss_detection=heartbeat if reliable else None,
            publisher_detection=True,
        )
