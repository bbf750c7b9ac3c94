"""Success as a learned classifier sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from irevla_ros.core.types import Observation
from irevla_ros.rewards.detector import Detection

FILE = "classifier.safetensors"  # in the folder that `irevla reward train` writes


class Classifier(Protocol):
    """Probability of success, 0 to 1, of each observation of an episode, in order."""

    def begin(self, task: str) -> None:
        """The next observation is the first of an episode of ``task``."""

    def __call__(self, observation: Observation, info: Mapping[str, Any]) -> float: ...


class ClassifierReward:
    """Success from the task's threshold upwards; progress is the probability.

    What is no probability (NaN, outside of [0, 1]) and all of a task without a threshold show nothing and are counted in
    ``unusable``.
    """

    def __init__(self, classifier: Classifier, thresholds: Mapping[str, float]) -> None:
        self._classifier, self._thresholds = classifier, thresholds
        self._threshold: float | None = None
        self.unusable = 0

    def reset(self, task: str) -> None:
        self._threshold = self._thresholds.get(task)
        self._classifier.begin(task)

    def observe(self, observation: Observation, info: Mapping[str, Any]) -> Detection:
        probability = math.nan if self._threshold is None else float(self._classifier(observation, info))
        if self._threshold is None or not 0.0 <= probability <= 1.0:
            self.unusable += 1
            return Detection()
        return Detection(probability >= self._threshold, False, probability)
