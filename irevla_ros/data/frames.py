"""Frames of one camera of a sealed episode, decoded on demand."""

from __future__ import annotations

import numpy as np

from irevla_ros.core.types import ByteArray
from irevla_ros.data.codecs import decode_frame
from irevla_ros.data.container import Container


class FrameStream:
    """Reads ranges of frames in any order; ranges that overlap the previous one decode only what is new."""

    def __init__(self, container: Container, camera: str) -> None:
        self._container, self._camera = container, camera
        self._offsets = container.rows(f"images.{camera}.offsets")
        self._decoded: dict[int, ByteArray] = {}

    def rows(self, start: int, stop: int) -> ByteArray:
        """Frames [start, stop) -> uint8 RGB [stop - start, H, W, 3]. ``DataError`` when one does not decode."""
        kept = {t: frame for t, frame in self._decoded.items() if start <= t < stop}
        missing = [t for t in range(start, stop) if t not in kept]
        if missing:
            first, last = missing[0], missing[-1]
            begin = int(self._offsets[first])
            data = self._container.rows(f"images.{self._camera}.data", begin, int(self._offsets[last + 1]))
            for t in missing:
                encoded = data[int(self._offsets[t]) - begin : int(self._offsets[t + 1]) - begin]
                kept[t] = decode_frame(encoded, f"{self._container.path} camera {self._camera!r} frame {t}")
        self._decoded = kept
        return np.stack([kept[t] for t in range(start, stop)])
