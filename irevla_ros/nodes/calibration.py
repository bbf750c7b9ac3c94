"""A camera's calibration from the YAML file that camera_calibration writes; its CameraInfo, and rectified pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from irevla_ros.core.config import read_yaml
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import ByteArray
from irevla_ros.nodes import convert
from irevla_ros.ros.messages import CameraInfo, numbers

Matrix = npt.NDArray[np.float64]
COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
_REMEDY = "use the file that camera_calibration wrote"


@dataclass(frozen=True)
class Calibration:
    """Of pictures of ``width`` x ``height``: camera_matrix [3, 3], coefficients [N] of ``model``, rectification [3, 3],
    projection [3, 4], in the sense of sensor_msgs/CameraInfo."""

    width: int
    height: int
    model: str
    coefficients: Matrix
    camera_matrix: Matrix
    rectification: Matrix
    projection: Matrix

    def message(self, stamp_ns: int, frame: str) -> CameraInfo:
        return camera_info(self.width, self.height, stamp_ns, frame, self)

    def rectified(self) -> Calibration:
        """That of the pictures which ``Rectifier`` gives: no distortion, the projection's camera matrix."""
        projection = self.projection
        return Calibration(self.width, self.height, "plumb_bob", np.zeros(5), projection[:, :3], np.eye(3), projection)


def camera_info(width: int, height: int, stamp_ns: int, frame: str, calibration: Calibration | None = None) -> CameraInfo:
    """The message; all zero but for the size, as an uncalibrated camera is to say it, without a calibration."""
    message = CameraInfo(header=convert.header(stamp_ns, frame), width=width, height=height)
    if calibration is not None:
        message.distortion_model = calibration.model
        message.d = numbers("d", calibration.coefficients)
        message.k, message.r, message.p = (m.ravel() for m in (calibration.camera_matrix, calibration.rectification,
                                                               calibration.projection))  # fmt: skip
    return message


def load_calibration(path: Path) -> Calibration:
    """Raises ConfigError that names the file, the entry and what is required of it."""
    tree = read_yaml(path)
    width, height = tree.get("image_width"), tree.get("image_height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise ConfigError(f"{path}: image_width and image_height are {width!r} and {height!r}",
                          "both are positive numbers of pixels", _REMEDY)  # fmt: skip
    model = tree.get("distortion_model", "plumb_bob")
    if model not in COEFFICIENTS:
        raise ConfigError(f"{path}: distortion_model {model!r}", f"one of {', '.join(COEFFICIENTS)}", _REMEDY)
    coefficients = _matrix(path, tree, "distortion_coefficients").ravel()
    if coefficients.size not in COEFFICIENTS[model]:
        raise ConfigError(f"{path}: {coefficients.size} distortion_coefficients", f"{model} has {COEFFICIENTS[model]}", _REMEDY)
    camera = _matrix(path, tree, "camera_matrix", (3, 3))
    if camera[0, 0] <= 0 or camera[1, 1] <= 0 or not np.allclose(camera[2], (0, 0, 1)):
        raise ConfigError(f"{path}: camera_matrix {camera.ravel().tolist()}", "focal lengths are positive, its last row 0 0 1",
                          _REMEDY)  # fmt: skip
    plain = np.column_stack([camera, np.zeros(3)])
    rectification = _matrix(path, tree, "rectification_matrix", (3, 3)) if "rectification_matrix" in tree else np.eye(3)
    projection = _matrix(path, tree, "projection_matrix", (3, 4)) if "projection_matrix" in tree else plain
    if projection[0, 0] <= 0 or projection[1, 1] <= 0:
        raise ConfigError(f"{path}: projection_matrix {projection.ravel().tolist()}", "focal lengths are positive", _REMEDY)
    return Calibration(width, height, model, coefficients, camera, rectification, projection)


def _matrix(path: Path, tree: Mapping[Any, Any], name: str, shape: tuple[int, int] | None = None) -> Matrix:
    entry: Any = tree.get(name)
    try:
        rows, columns = shape or (int(entry["rows"]), int(entry["cols"]))
        found = np.asarray(entry["data"], np.float64).reshape(rows, columns)
    except (TypeError, KeyError, ValueError):
        wanted = f"{shape[0]} x {shape[1]}" if shape else "rows x cols"
        raise ConfigError(f"{path}: {name}", f"rows, cols and data of {wanted} numbers are required", _REMEDY) from None
    if not np.isfinite(found).all():
        raise ConfigError(f"{path}: {name}", "its numbers are finite", _REMEDY)
    return found


class Rectifier:
    """Takes the distortion out of pictures [H, W, C] of the calibration's size."""

    def __init__(self, calibration: Calibration) -> None:
        size = (calibration.width, calibration.height)
        initialise = cv2.fisheye.initUndistortRectifyMap if calibration.model == "equidistant" else cv2.initUndistortRectifyMap
        self._maps = initialise(calibration.camera_matrix, calibration.coefficients, calibration.rectification,
                                calibration.projection[:, :3], size, cv2.CV_16SC2)  # fmt: skip

    def __call__(self, pixels: ByteArray) -> ByteArray:
        return np.asarray(cv2.remap(pixels, *self._maps, cv2.INTER_LINEAR), np.uint8)
