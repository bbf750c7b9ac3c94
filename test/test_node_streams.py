"""Observations of one arm: complete, in order, once, whatever comes late."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from arm_toys import graph
from irevla_ros.core.rotation import POINTING_DOWN, Pose
from irevla_ros.core.types import Observation
from irevla_ros.nodes import convert
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.streams import ObservationStreams, StreamsConfig
from irevla_ros.ros.messages import CompressedImage, numbers

SECOND = 1_000_000_000


class Arm(GraphNode):
    """What arrives is given to the streams by hand: the order is what is tested."""

    def __init__(self, lock_step: bool) -> None:
        super().__init__("streams")
        self.lock_step = lock_step
        self.observed: list[int] = []
        self.repeated: list[int] = []
        self.streams = ObservationStreams(self, StreamsConfig(image_size=8), self._observed, repeated=self._repeated)

    def _observed(self, stamp_ns: int, observation: Observation) -> None:
        assert observation.images["front"][0, 0, 0] == stamp_ns // SECOND % 256  # of this stamp, not of another
        self.observed.append(stamp_ns // SECOND)

    def _repeated(self, stamp_ns: int) -> None:
        self.repeated.append(stamp_ns // SECOND)

    def pose(self, second: int) -> None:
        self.streams._on_pose(convert.pose_message(Pose((0.4, 0.0, 0.2), POINTING_DOWN), second * SECOND, "base"))

    def gripper(self, second: int) -> None:
        self.streams._on_gripper(convert.width_message(0.08, second * SECOND))

    def image(self, second: int) -> None:
        pixels = np.full((8, 8, 3), second % 256, np.uint8)
        self.streams._on_image("front")(convert.image_message(pixels, second * SECOND, "camera"))


@contextmanager
def arm(lock_step: bool) -> Iterator[Arm]:
    with graph(lambda: Arm(lock_step)) as (made,):
        yield made


def test_a_late_image_of_the_last_episode_does_not_stand_before_the_next() -> None:
    with arm(lock_step=True) as one:
        one.pose(1)
        one.gripper(1)
        one.streams.forget()  # the next episode's reset, while that image was still on its way
        one.image(1)
        one.pose(1000)
        one.gripper(1000)
        one.image(1000)
        assert one.observed == [1000]


@pytest.mark.parametrize("lock_step", [True, False])
def test_an_older_image_does_not_push_out_the_one_that_waits(lock_step: bool) -> None:
    with arm(lock_step) as one:
        one.image(1000)
        one.image(999)
        one.pose(1000)
        one.gripper(1000)
        assert one.observed == [1000] and one.repeated == []


def test_in_lock_step_the_parts_may_come_in_any_order_and_again() -> None:
    with arm(lock_step=True) as one:
        one.gripper(5)
        one.image(5)
        assert one.observed == []
        one.pose(5)
        assert one.observed == [5] and one.repeated == []
        one.pose(5)
        one.gripper(5)
        one.image(5)
        assert one.observed == [5] and one.repeated == [5]


def test_a_picture_that_claims_too_large_a_size_is_counted_and_nothing_else() -> None:
    """OpenCV raises for such a header, where it answers other rubbish with nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    claimed = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", claimed) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with arm(lock_step=False) as one:
        one.streams._on_image("front")(CompressedImage(format="png", data=numbers("B", png)))
        assert one.health.counts["camera front.refused"] == 1 and one.observed == []
