"""Names, units and limits of actions and proprioception: the only place where they are normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import FloatArray

MIN_STD, MAX_STD = 0.05, 1.0  # of exploration, in normalised action units


@dataclass(frozen=True)
class ActionSpec:
    """End-effector delta per control step plus gripper.

    ``names`` orders the dimensions: translations ``dx dy dz`` (metres, base frame), rotation vector ``drx dry drz``
    (radians, base frame), ``gripper`` (-1 closed, +1 open). ``limits`` is the magnitude of one step in those units.
    A normalised action of +-1 is +-limit.
    """

    names: tuple[str, ...] = ("dx", "dy", "dz", "drz", "gripper")
    limits: tuple[float, ...] = (0.04, 0.04, 0.04, 0.25, 1.0)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.limits) or len(set(self.names)) != len(self.names):
            raise ConfigError(f"action names {self.names} with limits {self.limits}",
                              "one limit for each distinct name", "make the two lists match")  # fmt: skip
        if not all(np.isfinite(limit) and limit > 0 for limit in self.limits):
            raise ConfigError(f"action limits {self.limits}", "limits are finite and positive",
                              "give the magnitude of one step in SI units")  # fmt: skip

    @property
    def size(self) -> int:
        return len(self.names)

    def to_physical(self, action: FloatArray) -> FloatArray:
        """Normalised [..., A] -> SI units, clipped to the limits first."""
        return (np.clip(action, -1.0, 1.0) * np.asarray(self.limits, np.float32)).astype(np.float32)

    def to_normalised(self, action: FloatArray) -> FloatArray:
        """SI units [..., A] -> normalised and clipped to [-1, 1]."""
        return np.clip(action / np.asarray(self.limits, np.float32), -1.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class ProprioSpec:
    """End-effector position (m, base frame), yaw as cosine and sine, gripper opening (m), normalised to about [-1, 1].

    ``centre`` and ``scale`` map the raw values: normalised = (raw - centre) / scale.
    """

    names: tuple[str, ...] = ("x", "y", "z", "cos_yaw", "sin_yaw", "gripper_width")
    centre: tuple[float, ...] = (0.5, 0.0, 0.2, 0.0, 0.0, 0.04)
    scale: tuple[float, ...] = (0.2, 0.25, 0.2, 1.0, 1.0, 0.04)

    @property
    def size(self) -> int:
        return len(self.names)

    def to_normalised(self, raw: FloatArray) -> FloatArray:
        """Raw SI values [..., P] -> normalised [..., P]."""
        return ((raw - np.asarray(self.centre, np.float32)) / np.asarray(self.scale, np.float32)).astype(np.float32)
