"""What the simulator node is set to."""

from __future__ import annotations

from dataclasses import dataclass

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.nodes.parameters.reading import Reader
from irevla_ros.sim.suite import load_suite
from irevla_ros.sim.world import CAMERAS, CONTROL_HZ


@dataclass(frozen=True)
class SimConfig:
    """suite: name or YAML file; cameras: of the simulator (front, wrist), image_size: pixels, square; frame: of poses.

    wait_recorder: in lock step, wait for ``recorder/recorded``, too. script: in episodes of mode demo the scripted expert
    publishes ``script/action``. Durations in ns of wall time: resend_ns: lock step, without an answer; target_ns: real time,
    how old the newest target may be before the arm holds."""

    lock_step: bool = False
    rate_hz: float = float(CONTROL_HZ)
    suite: str = "demo"
    cameras: tuple[str, ...] = ("front",)
    image_size: int = 64
    frame: str = "base"
    wait_recorder: bool = True
    script: bool = False
    resend_ns: int = 2 * SECOND
    target_ns: int = 3 * SECOND // 10

    def __post_init__(self) -> None:
        for camera in self.cameras:
            if camera not in CAMERAS:
                raise unknown_name("camera", camera, CAMERAS)
        if self.image_size < 8 or not self.cameras:
            raise ConfigError(f"image_size = {self.image_size}, cameras = {list(self.cameras)}",
                              "at least 8 pixels and one camera", "give 64 and front")  # fmt: skip
        if self.rate_hz != CONTROL_HZ:
            raise ConfigError(f"rate_hz = {self.rate_hz}", f"this simulator is controlled at {CONTROL_HZ} Hz",
                              "leave rate_hz out")  # fmt: skip
        if self.resend_ns <= 0 or self.target_ns <= 0:
            raise ConfigError(f"resend_s, target_s = {self.resend_ns / SECOND}, {self.target_ns / SECOND}",
                              "both are positive", "give seconds")  # fmt: skip


def settings(read: Reader) -> SimConfig:
    config = read(SimConfig)
    load_suite(config.suite)
    return config
