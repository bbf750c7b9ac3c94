"""What the recorder node is set to."""

from __future__ import annotations

from dataclasses import dataclass, field

from irevla_ros.core.durations import period_ns
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.quality import QualityConfig
from irevla_ros.nodes.parameters.reading import Reader
from irevla_ros.nodes.parameters.streams import StreamsConfig


@dataclass(frozen=True)
class RecorderConfig(StreamsConfig):
    """run: absolute path of the run's folder, whose ``practice`` is the spool; latents: whether the policy's are waited
    for, at most ``wait_ns``; backlog: rows that may wait for the disk (in lock step half of them, then the simulator
    waits); min_free_bytes: below that no episode is opened; quality: what is reported as a defect of
    an episode."""

    run: str = ""
    run_id: str = ""
    rate_hz: float = 10.0
    lock_step: bool = False
    latents: bool = True
    wait_ns: int = 500_000_000
    longest_gap_ns: int = 10_000_000_000
    backlog: int = 256
    min_free_bytes: int = 200_000_000
    quality: QualityConfig = field(default_factory=QualityConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        period_ns(self.rate_hz)
        if self.backlog < 2 or self.min_free_bytes < 0:
            raise ConfigError(f"backlog = {self.backlog}, min_free_bytes = {self.min_free_bytes}",
                              "at least 2, and not negative", "give 256 and 200000000, say")  # fmt: skip


def settings(read: Reader) -> RecorderConfig:
    return read(RecorderConfig)
