"""What is wrong with a recording itself, whatever its outcome: said to the operator at once, and kept with the episode."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from irevla_ros.core.durations import MILLISECOND, SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.limits import Clip
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import ByteArray, FloatArray, Observation


@dataclass(frozen=True)
class QualityConfig:
    """enabled: whether episodes are looked at. least_steps: fewer are too short; missing_share: of the frames that were due;
    frozen_m: how far the hand may move while a camera shows the same picture; clipped_share: of the steps."""

    enabled: bool = False
    least_steps: int = 10
    missing_share: float = 0.05
    frozen_m: float = 0.05
    clipped_share: float = 0.3

    def __post_init__(self) -> None:
        shares = self.missing_share, self.clipped_share
        if self.least_steps < 1 or not all(0 <= share <= 1 for share in shares) or not self.frozen_m > 0:
            raise ConfigError(f"quality {self}", "at least 1 step, shares from 0 to 1, a positive distance", "see the defaults")


class QualityCheck:
    """Looks at one episode as it comes; ``defects`` says what was found so far, in words with the numbers.

    arrived: the stamp of every complete observation of the run. taken: the observation of each recorded row. acted: each
    step of the arbiter with the limits that changed it. The first is told apart from the second because a pause of the
    operator leaves out steps, a camera's leaves out observations.
    """

    def __init__(self, config: QualityConfig, period_ns: int, spec: ProprioSpec = ProprioSpec()) -> None:
        self._config, self._period_ns = config, period_ns
        self._axes = [spec.names.index(name) for name in ("x", "y", "z")]
        self._scale = np.asarray(spec.scale, np.float32)[self._axes]
        self._newest_ns: int | None = None
        self._frames = self._missing = self._steps = self._clipped = 0
        self._longest_ns = 0
        self._clips: Counter[Clip] = Counter()
        self._shown: dict[str, tuple[ByteArray, FloatArray]] = {}  # camera -> its picture, and where the hand was first
        self._frozen_m: dict[str, float] = {}

    def arrived(self, stamp_ns: int) -> None:
        if self._newest_ns is not None and stamp_ns > self._newest_ns:
            gap = stamp_ns - self._newest_ns
            self._missing += max(0, round(gap / self._period_ns) - 1)
            self._longest_ns = max(self._longest_ns, gap)
        self._frames += 1
        self._newest_ns = stamp_ns

    def acted(self, clips: tuple[Clip, ...]) -> None:
        self._clipped += bool(clips)
        self._clips.update(dict.fromkeys(clips).keys())
        self._steps += 1

    def taken(self, observation: Observation) -> None:
        hand = observation.proprio[self._axes] * self._scale
        for camera, picture in observation.images.items():
            known = self._shown.get(camera)
            if known is None or not np.array_equal(known[0], picture):
                self._shown[camera] = picture, hand
            else:
                self._frozen_m[camera] = max(self._frozen_m.get(camera, 0.0), float(np.linalg.norm(hand - known[1])))

    def defects(self, steps: int) -> tuple[str, ...]:
        """``steps``: how many the episode has in the end."""
        config, found = self._config, []
        due = self._frames + self._missing
        if steps < config.least_steps:
            found.append(f"too short: {steps} steps, at least {config.least_steps} wanted")
        if self._missing > config.missing_share * due:
            longest = f"longest gap {self._longest_ns / SECOND:.2f} s at {self._period_ns / MILLISECOND:.0f} ms a frame"
            found.append(f"missing frames: {self._missing} of {due}, {longest}")
        for camera, moved in sorted(self._frozen_m.items()):
            if moved > config.frozen_m:
                found.append(f"frozen camera: {camera} showed one picture while the hand moved {100 * moved:.1f} cm")
        if self._clipped > config.clipped_share * self._steps:
            by = ", ".join(f"{clip.value} {n / self._steps:.0%}" for clip, n in self._clips.most_common())
            found.append(f"clipped actions: {self._clipped / self._steps:.0%} of the steps ({by})")
        return tuple(found)
