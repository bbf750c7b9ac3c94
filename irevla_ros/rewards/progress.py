"""Dense reward from what a detector knows of the progress."""

from __future__ import annotations

import math

from irevla_ros.core.errors import ConfigError
from irevla_ros.rewards.detector import Detection


class ProgressReward:
    """``scale`` times the increase of ``Detection.progress``: over an episode it adds up to the progress made, so that going
    back and forth earns nothing. Where progress is not known, the last known one stands."""

    def __init__(self, scale: float) -> None:
        if not (math.isfinite(scale) and scale >= 0.0):
            raise ConfigError(f"progress_reward = {scale}", "it is finite and not negative", "give 0 for none")
        self._scale = scale
        self._progress: float | None = None

    def reset(self) -> None:
        """An episode begins."""
        self._progress = None

    def earned(self, detection: Detection) -> float | None:
        """The reward for reaching this observation; None for none."""
        before, now = self._progress, detection.progress
        if now is None:
            return None
        self._progress = now
        return self._scale * (now - before) or None if before is not None else None
