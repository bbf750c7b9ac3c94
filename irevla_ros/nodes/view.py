"""The view node: a page on the local host with the arms' pictures, the health of all nodes and how learning goes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial

from irevla_ros.core.durations import SECOND
from irevla_ros.core.episode_state import EpisodeState
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.graph_messages import LearnerStatus, Sealed
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import view as parameters
from irevla_ros.nodes.view_history import ViewHistory
from irevla_ros.nodes.view_model import EPISODES, ViewModel
from irevla_ros.nodes.view_server import ViewServer
from irevla_ros.ros import Subscription
from irevla_ros.ros.messages import CompressedImage, DiagnosticArray, Image
from irevla_ros.ros.qos import EVENT, LATCHED, SENSOR
from irevla_ros.ros.run import run_node

LOOKING_NS = 3 * SECOND  # who has asked for a picture within that time is looking


class ViewNode(GraphNode):
    """Listens to images only while somebody looks at them; the page asks, and its threads touch ``ViewModel`` alone."""

    def __init__(self) -> None:
        super().__init__("view")
        self._config = config = self.declare(parameters.settings)
        pictures = [topics.of(arm, camera) for arm in config.arms for camera in config.cameras]
        self.model = ViewModel(config.arms, pictures, self.wall_ns)
        self._history = ViewHistory(config.run, config.run_id)
        self.model.recall(self._history.newest(EPISODES))
        self._images: dict[str, Subscription] = {}
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, EVENT)
        self.listen(LearnerStatus, topics.STATUS, self.model.learner, LATCHED)
        for arm in config.arms:
            self.follow(self._on_state(arm), arm)
            self.listen(Sealed, topics.of(arm, topics.SEALED), partial(self.model.sealed, arm))
        self.server = self._open()
        threading.Thread(target=self.server.serve_forever, name="page", daemon=True).start()
        self.get_logger().info(f"page: {self.server.url}")
        self.health.check("page", Level.OK, self.server.url)
        self.every(0.25, self._attend)

    def _open(self) -> ViewServer:
        config = self._config
        try:
            return ViewServer(config.host, config.port, self.model)
        except ConfigError as error:
            if not config.port:
                raise
            self.get_logger().warning(f"{error}; taking any")
            return ViewServer(config.host, 0, self.model)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.model.diagnostics(message)

    def _on_state(self, arm: str) -> Callable[[EpisodeState], None]:
        return lambda state: self.model.state(arm, state)

    # ---- pictures --------------------------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Subscribe to what is looked at, and to nothing else."""
        wanted = self.model.wanted(LOOKING_NS)
        kind = CompressedImage if self._config.compressed else Image
        for arm in self._config.arms:
            for camera in self._config.cameras:
                name = topics.of(arm, camera)
                if name in wanted and name not in self._images:
                    topic = topics.of(arm, topics.image(camera)) + ("/compressed" if self._config.compressed else "")
                    self._show_last(name, arm, camera)
                    self._images[name] = self.create_subscription(kind, topic, self._on_image(name), SENSOR)
                elif name not in wanted and name in self._images:
                    self.destroy_subscription(self._images.pop(name))

    def _show_last(self, name: str, arm: str, camera: str) -> None:
        """Of an arm that waits nothing comes: show what it saw last."""
        episode_id = self.model.last_episode(arm)
        pixels = self._history.last_picture(episode_id, camera) if episode_id and not self.model.running(arm) else None
        if pixels is not None:
            self.model.picture(name, pixels)

    def _on_image(self, name: str) -> Callable[[Image | CompressedImage], None]:
        def received(message: Image | CompressedImage) -> None:
            if not self.model.due(name):
                return
            try:
                self.model.picture(name, convert.image_pixels(message))
            except MessageError as error:
                self.refuse(name, error)

        return received

    def update_health(self) -> None:
        self.health.absorb("page", {"watched": len(self._images)})

    def on_shutdown(self) -> None:
        self.server.close()


def main() -> int:
    return run_node(ViewNode)


if __name__ == "__main__":
    sys.exit(main())
