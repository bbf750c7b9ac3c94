"""What the reward node is set to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.parameters.reading import Reader
from irevla_ros.nodes.parameters.streams import StreamsConfig
from irevla_ros.rewards.classifier import FILE


@dataclass(frozen=True)
class ClassifierConfig:
    """path: folder that `irevla reward train` wrote; checkpoint: whose vision-language model it reads, "shipped" or a folder,
    "" for that of the training."""

    path: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class RewardConfig(StreamsConfig):
    """hold, release: see ``Debounce``; 0 is 1 for the oracle, whose finding already lasts, and what the
    classifier was trained for.
    progress_reward: reward for the whole way to success where the detector knows the progress; 0 for none."""

    detector: Literal["oracle", "human", "classifier"] = "oracle"
    hold: int = 0
    release: int = 0
    progress_reward: float = 0.0
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    lock_step: bool = False


def settings(read: Reader) -> RewardConfig:
    config = read(RewardConfig)
    if config.detector == "classifier" and not (Path(config.classifier.path) / FILE).is_file():
        raise ConfigError(f"classifier.path = {config.classifier.path!r}", f"detector classifier needs a folder with {FILE}",
                          "make one by irevla reward train (docs/reward.md)")  # fmt: skip
    return config
