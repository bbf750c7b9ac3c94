"""For how long a stream has been silent, as seen by a process that may itself have had to wait."""

from __future__ import annotations

from irevla_ros.nodes.franka.procedure import LOOK_S
from irevla_ros.nodes.node import GraphNode

LOOKS = 5


class Silence:
    """``wall_ns``: when ``heard`` was called last, at first when this began.

    A process that had to wait reads only then what came meanwhile, and its timers may come first: silence is none before it has
    lasted for ``LOOKS`` looks, too, a quarter of a second."""

    def __init__(self, node: GraphNode) -> None:
        self._node, self.wall_ns, self._looks = node, node.wall_ns(), 0
        node.every(LOOK_S, self._look)

    def heard(self) -> None:
        self.wall_ns, self._looks = self._node.wall_ns(), 0

    def lasts_ns(self) -> int:
        """0 while it is not known."""
        return self._node.wall_ns() - self.wall_ns if self._looks >= LOOKS else 0

    def _look(self) -> None:
        self._looks += 1
