"""Videos of episodes, alone or before and after side by side, as animated WebP.

WebP, because every current browser plays it in an <img>, GitHub too, and Pillow writes it everywhere. The OpenCV wheels
have no H.264 encoder and their VP9 depends on how FFmpeg was built; a GIF is some twenty times as large.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import ByteArray
from irevla_ros.jobs.jsonfile import Fields, read_json, write_bytes, write_json

RATE_HZ = 10.0
SCALE = 4
QUALITY = 60  # of WebP; about 80 KB for six seconds at 256 x 256
HOLD_S = 1.5  # the last frame, with the verdict, stays this long before the loop restarts
_GAP, _LINE, _MARGIN, _TEXT = 6, 19, 6, 13  # pixels
_INK, _MUTED, _PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)
_VERDICTS = {True: ("success", (0, 114, 178)), False: ("no success", (190, 70, 0))}  # Okabe-Ito blue and vermillion


@dataclass(frozen=True)
class Clip:
    """One episode to be seen. frames: uint8 RGB [T, H, W, 3] at ``RATE_HZ``; label: who acted, such as ``sft``."""

    frames: ByteArray
    instruction: str
    label: str
    success: bool

    def __post_init__(self) -> None:
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3 or not len(self.frames):
            raise DataError(f"clip {self.label!r} of shape {self.frames.shape} and type {self.frames.dtype}",
                            "frames are uint8 RGB [T, H, W, 3] with at least one frame",
                            "record the episode with a camera")  # fmt: skip


@dataclass(frozen=True)
class ClipInfo:
    """What the report says of one side of a video."""

    label: str
    success: bool
    steps: int


@dataclass(frozen=True)
class VideoInfo:
    """The ``<name>.json`` beside ``<name>.webp``; two clips are the same start state before and after."""

    task: str
    category: str
    instruction: str
    seed: int
    clips: tuple[ClipInfo, ...]


def write_video(path: Path, clips: Sequence[Clip], task: str, category: str, seed: int, scale: int = SCALE) -> Path:
    """Write clips of one start state side by side to ``path`` (.webp) with ``VideoInfo`` beside it; both atomic.

    A shorter clip waits on its last frame, with its verdict, until the longest has ended.
    """
    if path.suffix != ".webp" or not clips:
        raise DataError(f"video {path.name} of {len(clips)} clips", "a video is a .webp of one clip or more",
                        "name it <task>.webp and give the clips to show")  # fmt: skip
    write_bytes(path, encode(compose(clips, scale)))
    info = VideoInfo(task, category, clips[0].instruction, seed,
                     tuple(ClipInfo(c.label, c.success, len(c.frames) - 1) for c in clips))  # fmt: skip
    write_json(path.with_suffix(".json"), asdict(info))
    return path


def read_video_info(path: Path) -> VideoInfo | None:
    """What is known of the video at ``path``; None when nothing was written beside it."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return None
    content = Fields(beside, read_json(beside), "delete the file, or write the video again")
    clips = tuple(
        ClipInfo(one.take("label", str), one.take("success", bool), one.take("steps", int))
        for one in content.each("clips")
    )
    return VideoInfo(content.take("task", str), content.take("category", str), content.take("instruction", str),
                     content.take("seed", int), clips)  # fmt: skip


def compose(clips: Sequence[Clip], scale: int = SCALE) -> ByteArray:
    """Clips side by side, enlarged ``scale`` times, with a caption strip: uint8 RGB [T, H', W', 3]."""
    length = max(len(clip.frames) for clip in clips)
    panels = [_panel(clip, length, scale) for clip in clips]
    height = max(panel.shape[1] for panel in panels)
    columns: list[ByteArray] = []
    for panel in panels:
        if columns:
            columns.append(np.full((length, height, _GAP, 3), 255, np.uint8))
        columns.append(np.pad(panel, ((0, 0), (0, height - panel.shape[1]), (0, 0), (0, 0)), constant_values=255))
    return np.concatenate(columns, axis=2)


def encode(frames: ByteArray, rate_hz: float = RATE_HZ) -> bytes:
    """An endlessly looping animated WebP of uint8 RGB [T, H, W, 3]."""
    images = [Image.fromarray(frame) for frame in frames]
    durations = [round(1000 / rate_hz)] * len(images)
    durations[-1] = round(1000 * HOLD_S)
    stream = io.BytesIO()
    images[0].save(stream, "WEBP", save_all=True, append_images=images[1:], duration=durations, loop=0,
                   quality=QUALITY, method=4)  # fmt: skip
    return stream.getvalue()


def _panel(clip: Clip, length: int, scale: int) -> ByteArray:
    """One clip padded to ``length`` frames, with its caption below: uint8 RGB [length, H', W', 3]."""
    height, width = (size * scale for size in clip.frames.shape[1:3])
    caption = textwrap.wrap(clip.instruction, max(12, (width - 2 * _MARGIN) // 7)) or [""]
    strip = _LINE * (len(caption) + 1) + 2 * _MARGIN
    panel = np.empty((length, height + strip, width, 3), np.uint8)
    last = len(clip.frames) - 1
    for t in range(length):
        step = min(t, last)
        panel[t, :height] = cv2.resize(clip.frames[step], (width, height), interpolation=cv2.INTER_CUBIC)
        panel[t, height:] = _caption((strip, width), caption, clip.label, f"step {step}",
                                     clip.success if step == last else None)  # fmt: skip
    return panel


def _caption(size: tuple[int, int], lines: list[str], label: str, step: str, verdict: bool | None) -> ByteArray:
    """The strip below a frame: who acts, the step, the verdict once there is one, and the instruction."""
    height, width = size
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN), label, _INK, _font(bold=True))
    colour = _MUTED
    if verdict is not None:
        word, colour = _VERDICTS[verdict]
        step = f"{step}, {word}"
    draw.text((width - _MARGIN, _MARGIN), step, colour, _font(bold=verdict is not None), anchor="ra")
    for i, line in enumerate(lines, start=1):
        draw.text((_MARGIN, _MARGIN + i * _LINE), line, _INK, _font())
    return np.asarray(image)


@cache
def _font(bold: bool = False) -> Any:
    """DejaVu Sans as matplotlib ships it: the same face, and the same glyphs, on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, _TEXT)
