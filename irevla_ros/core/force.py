"""The external wrench: how long it has been above its limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irevla_ros.core.durations import MILLISECOND, SECOND
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.tuning import Safer, limit


@dataclass(frozen=True)
class ForceConfig:
    """watched: whether a fresh wrench is required and the limits apply; force_n, torque_nm: of the vectors' length;
    debounce_ns: wall time above a limit before it counts; fresh_ns: of the wrench."""

    watched: bool = False
    force_n: float = limit(30.0, Safer.LOWER)
    torque_nm: float = limit(10.0, Safer.LOWER)
    debounce_ns: int = limit(20 * MILLISECOND, Safer.LOWER)
    fresh_ns: int = 200 * MILLISECOND

    def __post_init__(self) -> None:
        if not all(math.isfinite(most) and most > 0 for most in (self.force_n, self.torque_nm)):
            raise ConfigError(f"force limits {self.force_n} N, {self.torque_nm} Nm", "both are positive", "give 30 and 10")
        if self.debounce_ns < 0 or self.fresh_ns <= 0:
            raise ConfigError(f"debounce {self.debounce_ns / SECOND} s, fresh {self.fresh_ns / SECOND} s",
                              "not negative, and positive", "give 0.02 and 0.2")  # fmt: skip


class ForceGuard:
    """The newest wrench. ``pressed`` once it has been above a limit for the debounce time, until one is below, or until there
    is none any more: a driver that died of a collision says no other."""

    def __init__(self) -> None:
        self.force_n = self.torque_nm = 0.0
        self._since_wall_ns: int | None = None
        self._heard_wall_ns = 0

    def push(
        self, config: ForceConfig, force: npt.ArrayLike, torque: npt.ArrayLike, wall_ns: int, in_order: bool = True
    ) -> bool:
        """force [3] N, torque [3] Nm. False for what is no six finite numbers: that says nothing. One that comes out of order
        tells of a force, but not that there is none."""
        try:
            wrench = np.asarray([*np.asarray(force, np.float64), *np.asarray(torque, np.float64)])
        except (TypeError, ValueError):
            return False
        if wrench.shape != (6,) or not np.isfinite(wrench).all():
            return False
        self._heard_wall_ns = wall_ns
        force_n, torque_nm = (math.hypot(*part) for part in (wrench[:3], wrench[3:]))
        above = force_n > config.force_n or torque_nm > config.torque_nm
        if above and self._since_wall_ns is None:
            self._since_wall_ns = wall_ns
        elif not above and in_order:
            self._since_wall_ns = None
        if above or in_order:
            self.force_n, self.torque_nm = force_n, torque_nm
        return True

    def pressed(self, config: ForceConfig, wall_ns: int) -> bool:
        if self._since_wall_ns is None or wall_ns - self._heard_wall_ns > config.fresh_ns:
            return False
        return wall_ns - self._since_wall_ns >= config.debounce_ns

    def __str__(self) -> str:
        return f"{self.force_n:.1f} N, {self.torque_nm:.1f} Nm"
