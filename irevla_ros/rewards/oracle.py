"""Success as the simulator knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irevla_ros.core.types import Observation
from irevla_ros.rewards.detector import Detection


class OracleReward:
    """Reads ``success`` and ``failure`` (bool) from the simulator's published state, given as ``info``.

    A state of another ``task``, or without these entries, shows nothing. ``unusable`` counts such states.
    """

    def __init__(self) -> None:
        self._task = ""
        self.unusable = 0

    def reset(self, task: str) -> None:
        self._task = task

    def observe(self, observation: Observation, info: Mapping[str, Any]) -> Detection:
        success, failure, progress = info.get("success"), info.get("failure"), info.get("progress")
        if info.get("task") != self._task or not isinstance(success, bool) or not isinstance(failure, bool):
            self.unusable += 1
            return Detection()
        known = isinstance(progress, float) and 0.0 <= progress <= 1.0
        return Detection(success, failure, progress if known else None)
