"""What every node that joins an arm's observations is set to."""

from __future__ import annotations

from dataclasses import dataclass

from irevla_ros.core.durations import MILLISECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.parameters.reading import check_cameras


@dataclass(frozen=True)
class StreamsConfig:
    """cameras: the first one's stamps are the observations'. image_size: pixels, square, 0 for as they come; compressed:
    listen to the compressed topics. Durations in ns: max_age_ns of pose and gripper at an observation; camera_skew_ns
    between cameras; silence_ns of wall time. In lock step all stamps of an observation are equal, and nothing is stale."""

    cameras: tuple[str, ...] = ("front",)
    image_size: int = 64
    compressed: bool = False
    max_age_ns: int = 100 * MILLISECOND
    camera_skew_ns: int = 50 * MILLISECOND
    silence_ns: int = 1000 * MILLISECOND

    def __post_init__(self) -> None:
        check_cameras(self.cameras)
        if self.image_size < 0:
            raise ConfigError(f"image_size = {self.image_size}", "it is not negative", "give 64, or 0 for as it comes")
