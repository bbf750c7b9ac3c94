"""Finding out which axis and button of a device is which, from what it says while a person moves one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.teleop import Action, PadMapping

MOTIONS = ("forward", "to the left", "up", "tilt it to the right (roll)", "tilt it forward (pitch)", "turn it to the left")
LEAST = 0.25  # of deflection: less is no answer
BACK = 0.3  # of its peak: it has been let go


@dataclass(frozen=True)
class Rest:
    """The device when nobody touches it: the mean of each axis, and how far any went from it."""

    centre: tuple[float, ...]
    drift: float

    @classmethod
    def of(cls, samples: Sequence[Sequence[float]]) -> Rest:
        """From samples [N][axes]. Raises ConfigError where there are none, or of different lengths."""
        if not samples or len({len(one) for one in samples}) != 1:
            raise ConfigError(f"{len(samples)} messages of the device", "it says the same axes all the time",
                              "check that its driver runs, and its topic")  # fmt: skip
        found = np.asarray(samples, np.float64)
        centre = found.mean(axis=0)
        return cls(tuple(map(float, centre)), float(np.abs(found - centre).max()))


@dataclass(frozen=True)
class Found:
    """Axis ``number`` moves by ``full`` with this ``sign``."""

    number: int
    sign: float
    full: float


class AxisSearch:
    """One motion: fully there and back. ``see`` answers once it is back; the axis is the one that went furthest."""

    def __init__(self, rest: Rest) -> None:
        self._centre = np.asarray(rest.centre)
        self._peak = np.zeros(len(self._centre))

    def see(self, values: Sequence[float]) -> Found | None:
        if len(values) != len(self._centre):
            return None
        away = np.asarray(values, np.float64) - self._centre
        self._peak = np.where(np.abs(away) > np.abs(self._peak), away, self._peak)
        number = int(np.abs(self._peak).argmax())
        peak = float(self._peak[number])
        if abs(peak) < LEAST or abs(away[number]) > BACK * abs(peak):
            return None
        return Found(number, float(np.sign(peak)), abs(peak))


class ButtonSearch:
    """The first button that goes down after all were up."""

    def __init__(self) -> None:
        self._clear = False

    def see(self, buttons: Sequence[int]) -> int | None:
        down = [number for number, pressed in enumerate(buttons) if pressed]
        self._clear = self._clear or not down
        return down[0] if self._clear and down else None


def mapping_of(rest: Rest, axes: Sequence[Found | None], deadman: int, buttons: Mapping[Action, int]) -> PadMapping:
    """The mapping; what was left out is not mapped. Raises ConfigError for a button that was given twice."""
    full = [one.full if one is not None else 1.0 for one in axes]
    dead_zone = min(0.5, max(0.05, 2 * rest.drift / min(full)))
    return PadMapping(
        axes=tuple(one.number if one is not None else -1 for one in axes),
        signs=tuple(one.sign if one is not None else 1.0 for one in axes),
        full=tuple(round(0.97 * one, 3) for one in full),  # so that full speed is reached everywhere
        dead_zone=round(dead_zone, 3), deadman=deadman, **{action.value: buttons.get(action, -1) for action in Action},
    )  # fmt: skip


def as_parameters(device: str, mapping: PadMapping) -> str:
    """A ROS parameter file for the teleop node."""
    values = {field.name: getattr(mapping, field.name) for field in fields(mapping)}
    lines = [f"    {device}.{name}: {list(value) if isinstance(value, tuple) else value}" for name, value in values.items()]
    return "\n".join(["/**/teleop:", "  ros__parameters:", f"    device: {device}", *lines, ""])
