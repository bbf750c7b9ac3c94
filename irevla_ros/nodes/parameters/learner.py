"""What the learner node is set to: see ``jobs.graph_config``."""

from __future__ import annotations

from irevla_ros.core.config import find_config
from irevla_ros.jobs.graph_config import LearnerConfig
from irevla_ros.nodes.parameters.reading import Reader, check_arms


def settings(read: Reader) -> LearnerConfig:
    config = read(LearnerConfig)
    check_arms(config.arms)
    config.initial()
    find_config(config.config)
    return config
