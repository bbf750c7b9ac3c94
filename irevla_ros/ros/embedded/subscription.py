"""Subscriptions: Zenoh's thread puts samples into a bounded queue, the executor's thread reads them and calls back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import zenoh
from zenoh import ext

from irevla_ros.ros.embedded.attachment import Attachment, unpack
from irevla_ros.ros.embedded.endpoint import Declared, Inbox, Owner, read
from irevla_ros.ros.embedded.keys import Kind
from irevla_ros.ros.embedded.qos import QoSProfile
from irevla_ros.ros.embedded.types.cdr import CdrError
from irevla_ros.ros.embedded.types.hashes import message_hash
from irevla_ros.ros.embedded.wire import Declaration, direct
from irevla_ros.ros.statistics import TopicStatistics

_MOST_SENDERS = 256


class Subscription(Declared):
    """Made by ``Node.create_subscription``."""

    def __init__(
        self, node: Owner, msg_type: type[Any], topic: str, callback: Callable[[Any], object], profile: QoSProfile
    ) -> None:
        name: str = msg_type._type_name
        super().__init__(node, Kind.SUBSCRIPTION, topic, name, message_hash(name), profile)
        self.msg_type = msg_type
        self.callback = callback
        self.qos_profile = profile
        self._inbox: Inbox[zenoh.Sample] = Inbox(profile.depth)
        self._delivered = self._malformed = self._missing = 0
        self._last: dict[bytes, int] = {}
        self._announce(self._declare())

    @property
    def topic_name(self) -> str:
        return self.endpoint.name

    def statistics(self) -> TopicStatistics:
        # What the queue dropped shows as a gap, too.
        dropped = self._inbox.dropped
        lost = max(0, self._missing - dropped)
        return TopicStatistics(
            self.topic_name, "subscription", self.endpoint.type_name, self._delivered, lost, dropped, self._malformed
        )

    def take(self) -> Callable[[], object] | None:
        sample, more = self._inbox.pop()
        if more:
            self._node._has_work(self)
        if sample is None or sample.kind != zenoh.SampleKind.PUT:
            return None
        try:
            # rmw_zenoh_cpp refuses a sample without a good attachment: it is not from ROS.
            self._follow(unpack(b"" if sample.attachment is None else sample.attachment.to_bytes()))
            message = read(sample.payload, self.endpoint.type_name)
        except (CdrError, ValueError) as error:
            self._malformed += 1
            self._complain(f"malformed message number {self._malformed} ignored: {error}")
            return None
        self._delivered += 1
        return functools.partial(self.callback, message)

    def destroy(self) -> None:
        super().destroy()
        self._inbox.clear()

    def _declare(self) -> Declaration:
        session, handler = self._context.session, direct(self._arrived)
        if not self.qos_profile.transient_local:
            return session.declare_subscriber(self.key, handler)
        return ext.declare_advanced_subscriber(
            session,
            self.key,
            handler,
            # Publishers that were there before and those that come later are both asked for what they keep.
            history=ext.HistoryConfig(detect_late_publishers=True, max_samples=self.qos_profile.depth),
            recovery=ext.RecoveryConfig(periodic_queries=None, heartbeat=True) if self.qos_profile.reliable else None,
            subscriber_detection=True,
        )

    def _arrived(self, sample: zenoh.Sample) -> None:
        if self._inbox.put(sample):
            self._node._has_work(self)

    def _follow(self, attachment: Attachment) -> None:
        last = self._last.get(attachment.gid)
        if last is not None and attachment.sequence > last + 1:
            self._missing += attachment.sequence - last - 1
        elif last is None and len(self._last) >= _MOST_SENDERS:
            self._last.clear()
        self._last[attachment.gid] = max(attachment.sequence, last or 0)
