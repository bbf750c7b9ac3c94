"""Where a camera's pictures come from: a device, a stream or a file that OpenCV opens, or a folder of images."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from irevla_ros.core.errors import ConfigError, IrevlaError
from irevla_ros.core.health import Level
from irevla_ros.core.types import ByteArray

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
NETWORK_MS = 5000
AWAY_S = 0.2  # without a grab for so long, a driver's buffer holds pictures that are old
BUFFERED = 4
FOLDER_FPS = 10.0
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class SourceError(IrevlaError):
    """The camera is not there, or gives nothing. It may come back."""


@dataclass(frozen=True)
class SourceConfig:
    """source: device number or path, stream URL, video file, or folder of images. fps: pictures a second, 0 for as many as
    the device or file has. width, height: asked of a device, 0 for its own. repeat: a file or folder starts again."""

    source: str = "0"
    fps: float = 0.0
    width: int = 0
    height: int = 0
    repeat: bool = False

    def __post_init__(self) -> None:
        if not self.source or not 0 <= self.fps < 1e4 or self.width < 0 or self.height < 0:
            raise ConfigError(f"source {self.source!r}, fps {self.fps}, size {self.width} x {self.height}",
                              "a source, and numbers that are not negative", "see docs/cameras.md")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, uint8 BGR [H, W, 3], and when it was grabbed: the graph's clock and wall time in ns."""

    stamp_ns: int
    wall_ns: int
    pixels: ByteArray


class Source(Protocol):
    """``live``: it gives pictures at its own pace, and each is lost that is not taken. Else ``fps`` says how fast."""

    live: bool
    fps: float

    def grab(self) -> bool:
        """Take the next picture; False when there is none."""

    def retrieve(self) -> ByteArray | None:
        """The one that was grabbed; None when it cannot be decoded."""

    def close(self) -> None: ...


class CaptureSource:
    """By OpenCV's VideoCapture."""

    def __init__(self, config: SourceConfig) -> None:
        where, url = config.source, "://" in config.source
        device = re.fullmatch(r"(?:/dev/video)?([0-9]+)", where)
        self.live = url or where.startswith("/dev/") or device is not None
        if not self.live and not Path(where).is_file():
            raise SourceError(f"camera source {where!r}", "no such file", "check the path")
        if url:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, NETWORK_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, NETWORK_MS]
            self._capture = cv2.VideoCapture(where, cv2.CAP_FFMPEG, limits)
        else:
            self._capture = cv2.VideoCapture(int(device[1]) if device else where)
        if not self._capture.isOpened():
            raise SourceError(f"camera source {shown(where)!r}", "it cannot be opened", "check cable, rights and other users")
        if self.live:
            settings = {cv2.CAP_PROP_BUFFERSIZE: 1, cv2.CAP_PROP_FRAME_WIDTH: config.width,
                        cv2.CAP_PROP_FRAME_HEIGHT: config.height, cv2.CAP_PROP_FPS: config.fps}  # fmt: skip
            for setting, value in settings.items():
                if value:
                    self._capture.set(setting, value)
        own = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = config.fps or (own if 0 < own < 1e4 else FOLDER_FPS)

    def grab(self) -> bool:
        return bool(self._capture.grab())

    def retrieve(self) -> ByteArray | None:
        good, pixels = self._capture.retrieve()
        return np.asarray(pixels, np.uint8) if good and pixels is not None else None

    def close(self) -> None:
        self._capture.release()


class FolderSource:
    """The images of a folder in the order of their names."""

    live = False

    def __init__(self, config: SourceConfig) -> None:
        self.fps = config.fps or FOLDER_FPS
        self._paths = sorted(path for path in Path(config.source).iterdir() if path.suffix.lower() in _IMAGES)
        self._next = 0
        if not self._paths:
            raise SourceError(f"camera source {config.source!r}", "a folder without images", f"put {', '.join(_IMAGES)} there")

    def grab(self) -> bool:
        self._next += 1
        return self._next <= len(self._paths)

    def retrieve(self) -> ByteArray | None:
        pixels = cv2.imread(str(self._paths[self._next - 1]), cv2.IMREAD_COLOR)
        return None if pixels is None else np.asarray(pixels, np.uint8)

    def close(self) -> None:
        pass


def open_source(config: SourceConfig) -> Source:
    """Raises SourceError."""
    return FolderSource(config) if Path(config.source).is_dir() else CaptureSource(config)


def shown(source: str) -> str:
    """Without the user and password of a URL."""
    return re.sub(r"://[^/@]*@", "://...@", source)


class Grabber:
    """The thread of a camera: opens the source, takes every picture, opens it again with growing waits when it is lost.

    ``clock`` is the graph's. ``state`` says how it is; ``reconnects`` and ``undecoded`` count.
    """

    def __init__(self, config: SourceConfig, clock: Callable[[], int]) -> None:
        self._config, self._clock = config, clock
        self.state = (Level.WARN, "not opened yet")
        self._due_s = 0.0  # of a file's next picture
        self.reconnects = self.undecoded = 0

    def run(self, emit: Callable[[Frame], None], stopped: threading.Event) -> None:
        wait_s = FIRST_WAIT_S
        where = shown(self._config.source)
        while not stopped.is_set():
            grabbed = 0
            try:
                source = open_source(self._config)
            except SourceError as error:
                problem = str(error)
            else:
                problem = f"camera source {where!r} gives nothing any more" if source.live else f"{where!r} has ended"
                try:
                    grabbed = self._read(source, emit, stopped)
                finally:
                    source.close()
                if grabbed and not source.live:
                    if not self._config.repeat:
                        self.state = (Level.ERROR, problem)
                        return
                    continue
            wait_s = FIRST_WAIT_S if grabbed else wait_s
            self.reconnects += 1
            self.state = (Level.ERROR, f"{problem}; next try in {wait_s:.1f} s")
            stopped.wait(wait_s)
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)

    def _read(self, source: Source, emit: Callable[[Frame], None], stopped: threading.Event) -> int:
        """Until the source has no more; how many pictures it gave."""
        grabbed, ended_s = 0, time.monotonic()
        while not stopped.is_set():
            if source.live:
                if grabbed and time.monotonic() - ended_s > AWAY_S:
                    for _ in range(BUFFERED):
                        source.grab()
            else:
                stopped.wait(max(0.0, self._due_s - time.monotonic()))
                self._due_s = max(self._due_s, time.monotonic() - AWAY_S)
            if not source.grab():
                break
            stamp_ns, wall_ns, ended_s = self._clock(), time.monotonic_ns(), time.monotonic()
            pixels = source.retrieve()
            if pixels is None:
                self.undecoded += 1
                continue
            grabbed += 1
            self._due_s += 1 / source.fps
            self.state = (Level.OK, "")
            emit(Frame(stamp_ns, wall_ns, pixels))
        return grabbed
