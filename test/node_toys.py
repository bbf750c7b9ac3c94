"""The rest of the graph, for tests of the nodes at its edge: a peer that listens and speaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from irevla_ros.core.episode_machine import EpisodeConfig, EpisodeMachine
from irevla_ros.core.episode_state import EpisodeState, Event, Start
from irevla_ros.core.messages import Message
from irevla_ros.core.types import Mode
from irevla_ros.nodes import topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.ros import Node, QoSProfile
from irevla_ros.ros.messages import DiagnosticArray, Trigger
from irevla_ros.ros.qos import EVENT, LATCHED
from ros_toys import spin_until

SECOND = 1_000_000_000


class Peer(GraphNode):
    """The rest of the graph: ``heard`` keeps what comes by topic; an episode machine if asked for."""

    def __init__(self) -> None:
        super().__init__("peer")
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.say_state = self.speak(EpisodeState, topics.STATE, LATCHED)
        self.machine = EpisodeMachine(EpisodeConfig(()), "run1", 0, 0, 0)

    def hear(self, kind: type[Message], topic: str, qos: QoSProfile = EVENT) -> list[Any]:
        self.listen(kind, topic, self.heard[topic].append, qos)
        return self.heard[topic]

    def take(self, kind: type[Any], topic: str, qos: QoSProfile = EVENT) -> list[Any]:
        """The same for messages that are not JSON."""
        self.create_subscription(kind, topic, self.heard[topic].append, qos)
        return self.heard[topic]

    def start(self, mode: Mode = Mode.TRAIN) -> EpisodeState:
        return self.play(Start("press-red", "press the red button", mode, 3))

    def play(self, event: Event, now_ns: int = 0) -> EpisodeState:
        self.machine.handle(event, now_ns, 0)
        self.say_state(self.machine.state)
        return self.machine.state

    def health_of(self, name: str) -> Callable[[], dict[str, str]]:
        """The newest diagnostics of a node: its values, ``level`` and ``message``."""
        heard = self.take(DiagnosticArray, topics.DIAGNOSTICS)

        def newest() -> dict[str, str]:
            for array in reversed(heard):
                for status in array.status:
                    if status.name == name:
                        level = {"level": str(int.from_bytes(bytes(status.level), "little")), "message": status.message}
                        return {value.key: value.value for value in status.values} | level
            return {}

        return newest

    def trigger(self, service: str, *others: Node) -> Any:
        """Call a Trigger service and spin until it has answered."""
        client = self.create_client(Trigger, service)
        spin_until(client.service_is_ready, self, *others)
        future = client.call_async(Trigger.Request())
        spin_until(future.done, self, *others)
        self.destroy_client(client)
        return future.result()


def connected(node: Node, topic: str, listeners: int = 1) -> Callable[[], bool]:
    return lambda: node.count_subscribers(topic) >= listeners
