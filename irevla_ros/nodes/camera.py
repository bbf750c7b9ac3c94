"""The camera node: pictures of any source that OpenCV opens, stamped when they are taken, the newest only."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from irevla_ros.core.durations import SECOND
from irevla_ros.core.health import Level
from irevla_ros.core.types import ByteArray
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.calibration import Rectifier, camera_info, load_calibration
from irevla_ros.nodes.camera_source import Frame, Grabber
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters import camera as parameters
from irevla_ros.ros.messages import CameraInfo, CompressedImage, Image, numbers
from irevla_ros.ros.producer import LatestProducer
from irevla_ros.ros.run import run_node


class FreezeWatch:
    """How long the picture has been the very same: a sensor's noise never repeats."""

    def __init__(self) -> None:
        self._last: ByteArray | None = None
        self._since_ns = 0

    def still_ns(self, pixels: ByteArray, wall_ns: int) -> int:
        last, self._last = self._last, pixels
        same = (last is not None and last.shape == pixels.shape and np.array_equal(last[::16], pixels[::16])
                and np.array_equal(last, pixels))  # fmt: skip
        if not same:
            self._since_ns = wall_ns
        return wall_ns - self._since_ns


class CameraNode(GraphNode):
    """Parameters: ``CameraConfig``, ``SourceConfig``."""

    def __init__(self) -> None:
        self._producer: LatestProducer[Frame] | None = None
        super().__init__("camera")
        config, source = self.declare(parameters.settings)
        self._config = config
        self._frame_id = config.frame_id or f"camera_{config.camera}_optical_frame"
        self._calibration = load_calibration(Path(config.calibration)) if config.calibration else None
        self._rectify = None
        self._published = self._calibration
        if self._calibration is not None and config.rectify:
            self._rectify, self._published = Rectifier(self._calibration), self._calibration.rectified()
        self._freeze = FreezeWatch()
        qos = topics.observation_qos(False)
        topic = topics.image(config.camera)
        self._raw = self.create_publisher(Image, topic, qos)
        self._jpeg = self.create_publisher(CompressedImage, f"{topic}/compressed", qos)
        self._info = self.create_publisher(CameraInfo, topics.camera_info(config.camera), qos)
        self._meter = self.health.watch("pictures", stale_ns=config.silence_ns)
        self.grabber = Grabber(source, self.now_ns)
        self._producer = LatestProducer(self, self.grabber.run, self._on_frame)

    def _on_frame(self, frame: Frame) -> None:
        still_ns = self._freeze.still_ns(frame.pixels, frame.wall_ns)
        self._meter.arrived(frame.wall_ns)
        limit_ns = self._config.frozen_ns
        if limit_ns and still_ns > limit_ns:
            self.health.check("frozen", Level.ERROR, f"the same picture for {still_ns / SECOND:.1f} s; nothing is published")
            self.health.counts["dropped.frozen"] += 1
            return
        self.health.check("frozen", Level.OK)
        height, width = frame.pixels.shape[:2]
        calibration = self._calibration
        if calibration is not None and (width, height) != (calibration.width, calibration.height):
            text = f"pictures of {width} x {height}, calibrated are {calibration.width} x {calibration.height}"
            self.health.check("calibration", Level.ERROR, f"{text}; nothing is published")
            self.health.counts["dropped.uncalibrated"] += 1
            return
        self._publish(frame, frame.pixels if self._rectify is None else self._rectify(frame.pixels))

    def _publish(self, frame: Frame, pixels: ByteArray) -> None:
        """The camera_info first: it is small, and times the arbiter."""
        height, width = pixels.shape[:2]
        self._info.publish(camera_info(width, height, frame.stamp_ns, self._frame_id, self._published))
        if self._raw.get_subscription_count():
            rgb = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
            self._raw.publish(convert.image_message(rgb, frame.stamp_ns, self._frame_id))
        if self._jpeg.get_subscription_count():
            _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self._config.quality])
            header = convert.header(frame.stamp_ns, self._frame_id)
            self._jpeg.publish(CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=numbers("B", data)))

    def update_health(self) -> None:
        self.health.check("source", *self.grabber.state)
        overwritten = self._producer.overwritten if self._producer is not None else 0
        self.health.absorb("source", {"reconnects": self.grabber.reconnects, "undecoded": self.grabber.undecoded,
                                      "overwritten": overwritten})  # fmt: skip

    def destroy_node(self) -> None:
        if self._producer is not None:
            self._producer.close(1.0)
        super().destroy_node()


def main() -> int:
    return run_node(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
