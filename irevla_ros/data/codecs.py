"""Camera frames to PNG (lossless) or JPEG bytes and back; both open in any viewer with the right colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import ByteArray

FORMATS = ("auto", "png", "jpeg")


@dataclass(frozen=True)
class ImageCodec:
    """``format`` is png, jpeg, or auto: png up to ``png_pixels`` (H x W), jpeg of ``quality`` (1 to 100) above.

    OpenCV's default PNG settings are the fastest lossless ones to write at 64x64 (docs/episode-format.md).
    """

    format: str = "auto"
    quality: int = 95
    png_pixels: int = 128 * 128

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(f"image format {self.format!r}", f"one of {', '.join(FORMATS)}", "choose one of these")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"JPEG quality {self.quality}", "a quality lies between 1 and 100", "try 95")

    def format_of(self, height: int, width: int) -> str:
        """png or jpeg, for frames of this size."""
        if self.format != "auto":
            return self.format
        return "png" if height * width <= self.png_pixels else "jpeg"

    def encode(self, frame: ByteArray) -> bytes:
        """uint8 RGB [H, W, 3] -> a standard PNG or JPEG file's bytes."""
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if self.format_of(*frame.shape[:2]) == "png":
            done, encoded = cv2.imencode(".png", bgr)
        else:
            done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not done:
            raise DataError(f"a frame of shape {frame.shape}", "OpenCV must be able to encode it",
                            "check the camera's resolution")  # fmt: skip
        return encoded.tobytes()


def decode_frame(encoded: ByteArray, what: str) -> ByteArray:
    """A PNG or JPEG file's bytes, uint8 [n] -> uint8 RGB [H, W, 3]; ``what`` names the frame in the error."""
    bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if bgr is None:
        raise DataError(what, "a frame is a PNG or JPEG file", "delete the episode or restore it from a copy")
    rgb: ByteArray = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb
