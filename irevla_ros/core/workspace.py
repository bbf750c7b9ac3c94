"""Where the tip may be commanded: a box, cut by half-spaces. Convex, which the shaper relies on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.rotation import Vector

ROUNDS = 6  # of projections: enough but for walls that meet in a sharp edge; a step then ends where it leaves the room
SEARCH_ROUNDS = 500
TOLERANCE = 1e-9  # m
NORMAL_TOLERANCE = 1e-3


class Workspace:
    """All points p (m, base frame) with low <= p <= high and n . p <= d for each plane.

    ``planes``: nx ny nz d of each in a row, n a unit vector that points out. ConfigError unless something is left.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], planes: Sequence[float] = ()) -> None:
        self.low, self.high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all() and (self.low < self.high).all()):
            raise ConfigError(f"workspace box {tuple(low)} to {tuple(high)}", "low lies below high on each axis",
                              "give corners in metres, base frame")  # fmt: skip
        flat = np.asarray(planes, np.float64)
        if flat.size % 4 or not np.isfinite(flat).all():
            raise ConfigError(f"workspace planes {tuple(planes)}",
                              "four finite numbers each, nx ny nz d: allowed is n . p <= d",
                              "give the unit normal that points out, and the distance in metres")  # fmt: skip
        rows = flat.reshape(-1, 4)
        lengths = np.linalg.norm(rows[:, :3], axis=1)
        if (np.abs(lengths - 1) > NORMAL_TOLERANCE).any():
            wrong = rows[int(np.argmax(np.abs(lengths - 1)))]
            raise ConfigError(f"workspace plane {tuple(wrong.tolist())}", "its normal has length 1",
                              "divide nx ny nz by the length")  # fmt: skip
        self.normals, self.offsets = rows[:, :3] / lengths[:, None], rows[:, 3]
        middle = self.nearest((self.low + self.high) / 2, SEARCH_ROUNDS)
        if not self.contains(middle, 1e-4):
            raise ConfigError(f"workspace box {tuple(low)} to {tuple(high)} with planes {tuple(planes)}",
                              "they leave some room", "check the signs: allowed is n . p <= d")  # fmt: skip

    def contains(self, p: Vector, tolerance: float = TOLERANCE) -> bool:
        boxed = bool((p >= self.low - tolerance).all() and (p <= self.high + tolerance).all())
        return boxed and bool((self.normals @ p <= self.offsets + tolerance).all())

    def nearest(self, p: Vector, rounds: int = ROUNDS) -> Vector:
        """An allowed point near ``p`` [3]: the nearest where one wall is in the way, a near one where several meet, one that
        is nearly allowed where they meet in a sharp edge."""
        p = np.clip(p, self.low, self.high)
        for _ in range(rounds if len(self.offsets) else 0):
            if self.contains(p):
                break
            for normal, offset in zip(self.normals, self.offsets, strict=True):
                p = p - normal * max(0.0, float(normal @ p - offset))
            p = np.clip(p, self.low, self.high)
        return p

    def reach(self, start: Vector, end: Vector) -> Vector:
        """The last allowed point on the way from ``start``, which is allowed, to ``end``."""
        end = np.clip(end, self.low, self.high)
        way = end - start
        rise, room = self.normals @ way, self.offsets - self.normals @ start
        stops = [max(0.0, float(left)) / float(up) for up, left in zip(rise, room, strict=True) if up > max(0.0, left)]
        return np.asarray(start + way * min(stops)) if stops else end
