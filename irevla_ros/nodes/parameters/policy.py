"""What the policy node is set to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irevla_ros.core.durations import period_ns
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.spec import MAX_STD
from irevla_ros.nodes.parameters.reading import Reader, check_arms
from irevla_ros.nodes.parameters.streams import StreamsConfig


@dataclass(frozen=True)
class PolicyConfig(StreamsConfig):
    """run: absolute path of the run's folder; checkpoint: folder of the first VLA, absolute or within ``run``, "" where a
    learner announces one; std: exploration where no head file gives one, in normalised action units, 0 for none; threads:
    of torch."""

    run: str = ""
    run_id: str = ""
    arms: tuple[str, ...] = ("",)
    checkpoint: str = ""
    std: float = 0.3
    device: str = "cpu"
    rate_hz: float = 10.0
    lock_step: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_arms(self.arms)
        period_ns(self.rate_hz)
        if not 0 <= self.std <= MAX_STD or self.threads < 1:
            raise ConfigError(f"std = {self.std}, threads = {self.threads}", f"0 to {MAX_STD}, and at least 1",
                              "give 0.3 and 1, say")  # fmt: skip


def settings(read: Reader) -> PolicyConfig:
    config = read(PolicyConfig)
    if config.checkpoint and not (Path(config.run) / config.checkpoint / "config.json").is_file():
        raise ConfigError(f"checkpoint = {config.checkpoint!r}", "the folder of a checkpoint, absolute or within the run's",
                          "check the path, or leave it out where a learner announces one")  # fmt: skip
    return config
