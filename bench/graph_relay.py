"""A camera in the hands of graph_faults.py: passes images on from one topic to another, or does so badly.

    python bench/graph_relay.py FROM TO pass|freeze|ahead|back|rubbish
"""

from __future__ import annotations

import sys

from irevla_ros.ros import Node, SingleThreadedExecutor, init
from irevla_ros.ros.messages import Image
from irevla_ros.ros.qos import SENSOR

SHIFT_S = {"ahead": 5, "back": -5}


class Relay(Node):
    def __init__(self, source: str, target: str, how: str) -> None:
        super().__init__("relay")
        self._how, self._first = how, Image()
        self._publisher = self.create_publisher(Image, target, SENSOR)
        self.create_subscription(Image, source, self._pass, SENSOR)

    def _pass(self, image: Image) -> None:
        if self._how == "freeze":
            self._first = image = self._first if self._first.height else image
        elif self._how == "rubbish":
            image.encoding, image.height = "no such encoding", 1 << 20
        image.header.stamp.sec += SHIFT_S.get(self._how, 0)
        self._publisher.publish(image)


if __name__ == "__main__":
    init()
    executor = SingleThreadedExecutor()
    executor.add_node(Relay(*sys.argv[1:]))
    executor.spin()
