"""Frames of many episodes one after the other in MP4 files, and back."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import ByteArray

KEY_EVERY = 2  # frames: readers jump to any frame; LeRobot's own choice
CRF = 18  # of H.264, 0 to 51: no loss that the eye sees


class VideoWriter:
    """One MP4 file. lossless: H.264 in RGB, every pixel as it was, which browsers do not play; else in YUV 4:2:0."""

    def __init__(self, path: Path, height: int, width: int, fps: int, lossless: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = 0
        self._path, self._format = path, pixel_format(height, width, lossless)
        self._file: Any = av.open(str(path), "w")
        options = {"g": str(KEY_EVERY), "bf": "0", **({"qp": "0"} if lossless else {"crf": str(CRF)}), "threads": "1"}
        self._stream = self._file.add_stream("libx264rgb" if lossless else "libx264", rate=fps, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, self._format
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, fps)

    def append(self, frames: ByteArray) -> None:
        """uint8 RGB [n, H, W, 3]."""
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = self.frames
            self._file.mux(self._stream.encode(frame))
            self.frames += 1

    @property
    def megabytes(self) -> float:
        return self._path.stat().st_size / 1e6

    def close(self) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()


def pixel_format(height: int, width: int, lossless: bool) -> str:
    """4:2:0 halves the colours' resolution and so wants even sizes."""
    if lossless:
        return "rgb24"
    return "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"


class VideoReader:
    """Frames of one MP4 file, asked for in increasing order."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: Any = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise DataError(f"{path}: {error}", "the video must be readable", "copy the dataset again") from None
        self._path, self._next = path, 0
        self._frames: Iterator[Any] = self._file.decode(video=0)

    def take(self, first: int, count: int) -> ByteArray:
        """Frames [first, first + count) as uint8 RGB [count, H, W, 3]. ``DataError`` when the file ends before."""
        found: list[ByteArray] = []
        try:
            for frame in self._frames:
                if self._next >= first:
                    found.append(frame.to_ndarray(format="rgb24"))
                self._next += 1
                if len(found) == count:
                    return np.stack(found)
        except av.FFmpegError as error:
            raise DataError(f"{self._path} frame {self._next}: {error}", "the video must be whole",
                            "copy the dataset again") from None  # fmt: skip
        raise DataError(f"{self._path}: {self._next} frames", f"frames {first} to {first + count - 1} are asked for",
                        "copy the dataset again")  # fmt: skip

    def close(self) -> None:
        self._file.close()
