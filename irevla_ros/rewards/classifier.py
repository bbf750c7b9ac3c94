"""Success as a learned classifier sees it: any callable that gives a probability for a frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Observation
from irevla_ros.rewards.detector import Detection

Classifier = Callable[[Observation], float]


class ClassifierReward:
    """``classifier`` gives the probability of success, 0 to 1, for one observation (a torch model goes behind it).

    Success from ``on`` upwards; then until the probability is at or below ``off``. What is no probability (NaN, outside
    of [0, 1]) shows nothing and is counted in ``unusable``. Progress is the probability.
    """

    def __init__(self, classifier: Classifier, on: float = 0.8, off: float = 0.5) -> None:
        if not 0.0 <= off < on <= 1.0:
            raise ConfigError(f"classifier thresholds on={on}, off={off}", "0 <= off < on <= 1", "give 0.8 and 0.5")
        self._classifier, self._on, self._off = classifier, on, off
        self._success = False
        self.unusable = 0

    def reset(self, task: str) -> None:
        self._success = False

    def observe(self, observation: Observation, info: Mapping[str, Any]) -> Detection:
        probability = float(self._classifier(observation))
        if not (math.isfinite(probability) and 0.0 <= probability <= 1.0):
            self.unusable += 1
            return Detection()
        self._success = probability > self._off if self._success else probability >= self._on
        return Detection(self._success, False, probability)
