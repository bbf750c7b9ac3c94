"""What the camera node is set to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.camera_source import SourceConfig
from irevla_ros.nodes.parameters.reading import Reader, check_cameras


@dataclass(frozen=True)
class CameraConfig:
    """camera: its name in the topics. calibration: a YAML file of camera_calibration; rectify: take the distortion out.
    quality: of JPEG, 1 to 100. silence_ns: without pictures for so long, the camera is reported; frozen_ns: with the same
    picture for so long it is reported and not published any more, 0 for a source that may stand still."""

    camera: str = "front"
    frame_id: str = ""
    calibration: str = ""
    rectify: bool = True
    quality: int = 90
    silence_ns: int = SECOND
    frozen_ns: int = 2 * SECOND

    def __post_init__(self) -> None:
        check_cameras((self.camera,))
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality = {self.quality}", "of JPEG: 1 to 100", "give 90")


class CameraSettings(NamedTuple):
    """The picture as it is published, and where it comes from."""

    camera: CameraConfig
    source: SourceConfig


def settings(read: Reader) -> CameraSettings:
    found = CameraSettings(read(CameraConfig), read(SourceConfig))
    if found.camera.calibration and not Path(found.camera.calibration).is_file():
        raise ConfigError(f"calibration = {found.camera.calibration!r}", "no such file", "give a YAML file, or leave it out")
    return found
