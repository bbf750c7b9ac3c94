"""Task families: what is placed on the table, the instruction in words, and when a task has succeeded or failed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from irevla_ros.core.errors import ConfigError, SimulationError, unknown_name
from irevla_ros.sim.objects import (
    COLOURS,
    CONTAINERS,
    SHAPES,
    Button,
    Container,
    Fixture,
    Item,
    add_button,
    add_container,
    add_fixture,
    add_item,
)
from irevla_ros.sim.panda import Vector
from irevla_ros.sim.world import World

DIRECTIONS = {
    "left": np.array([0.0, 1.0, 0.0]),  # as the robot sees it: x away from its base, y to its left
    "right": np.array([0.0, -1.0, 0.0]),
    "forward": np.array([1.0, 0.0, 0.0]),
    "backward": np.array([-1.0, 0.0, 0.0]),
}
REGIONS = {  # x low, x high, y low, y high (m): where the target object may start
    "table": (0.39, 0.57, -0.16, 0.16),
    "left": (0.39, 0.57, 0.06, 0.16),
    "right": (0.39, 0.57, -0.16, -0.06),
    "far": (0.51, 0.57, -0.16, 0.16),
    "near": (0.39, 0.46, -0.16, 0.16),
}
SEPARATION = 0.095  # m between the centres of things on the table


@dataclass(frozen=True)
class TaskSpec:
    """One task, for example ``TaskSpec("push", colour="red", shape="cube", direction="left")``.

    ``region`` narrows where the target object starts; it is not said in the instruction.
    """

    family: str
    colour: str = ""
    shape: str = ""
    direction: str = ""
    fixture: str = ""
    container: str = ""
    region: str = "table"

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise unknown_name("task family", self.family, FAMILIES)
        used = FAMILIES[self.family].arguments
        for name, known in _ARGUMENTS.items():
            value = getattr(self, name)
            if bool(value) != (name in used):
                need = f"needs {', '.join(used)}"
                raise ConfigError(f"{name}={value!r} in a {self.family} task", f"a {self.family} task {need}",
                                  "give exactly these")  # fmt: skip
            if value and value not in known:
                raise unknown_name(name, value, known)
        if self.region not in REGIONS:
            raise unknown_name("region", self.region, REGIONS)

    @property
    def name(self) -> str:
        """Identifier such as ``push-red-cube-left`` or, away from the whole table, ``pick-red-cube@far``."""
        words = [self.family, *(getattr(self, argument) for argument in FAMILIES[self.family].arguments)]
        return "-".join(words) + ("" if self.region == "table" else f"@{self.region}")

    @property
    def instruction(self) -> str:
        return FAMILIES[self.family].sentence.format(**{name: getattr(self, name) for name in _ARGUMENTS})

    def build(self) -> Task:
        return FAMILIES[self.family](self)


class Task(ABC):
    """A family's rules for one task. ``place`` sets the scene; ``succeeded`` and ``failed`` judge the present tick."""

    arguments: ClassVar[tuple[str, ...]]
    sentence: ClassVar[str]
    time_limit: ClassVar[int]  # control steps
    hold: ClassVar[int] = 3  # consecutive ticks that success must last, so that it is not met by accident

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec

    @abstractmethod
    def place(self, world: World, rng: np.random.Generator) -> None:
        """Put fixtures, target and distractors on the table."""

    @abstractmethod
    def succeeded(self, world: World) -> bool: ...

    def failed(self, world: World) -> bool:
        """True when the task cannot succeed any more."""
        return False


class Press(Task):
    """Press the named button; pressing another one fails."""

    arguments = ("colour",)
    sentence = "press the {colour} button"
    time_limit = 25
    hold = 2

    target: Button
    others: list[Button]

    def place(self, world: World, rng: np.random.Generator) -> None:
        spots = _spots(rng, [self.spec.region, "table", "table"])
        colours = [self.spec.colour, *_other_colours(rng, self.spec.colour, 2)]
        self.target, *self.others = [add_button(world, c, xy) for c, xy in zip(colours, spots, strict=True)]

    def succeeded(self, world: World) -> bool:
        return self.target.pressed(world)

    def failed(self, world: World) -> bool:
        return any(button.pressed(world) for button in self.others)


class WithItems(Task):
    """A task about one movable object among two distractors of other colours."""

    target: Item
    others: list[Item]

    def place(self, world: World, rng: np.random.Generator) -> None:
        self._place_items(world, rng, _spots(rng, [self.spec.region, "table", "table"]))

    def _place_items(self, world: World, rng: np.random.Generator, spots: list[Vector]) -> None:
        colours = [self.spec.colour, *_other_colours(rng, self.spec.colour, 2)]
        shapes = [self.spec.shape, *(str(s) for s in rng.choice(SHAPES, size=2))]
        items = []
        for colour, shape, xy in zip(colours, shapes, spots, strict=True):
            size, yaw = rng.uniform(0.021, 0.026), rng.uniform(-0.6, 0.6)
            items.append(add_item(world, colour, shape, size, xy, yaw))
        self.target, *self.others = items

    def failed(self, world: World) -> bool:
        return bool(world.position(self.target.body)[2] < -0.02)  # it fell off the table


class Pick(WithItems):
    """Lift the named object 6 cm and keep it there."""

    arguments = ("colour", "shape")
    sentence = "pick up the {colour} {shape}"
    time_limit = 30

    def succeeded(self, world: World) -> bool:
        return bool(world.position(self.target.body)[2] > self.target.half_height + 0.06)


class Push(WithItems):
    """Push the named object 7 cm in a direction, at most 5 cm off the line, without lifting it."""

    arguments = ("colour", "shape", "direction")
    sentence = "push the {colour} {shape} {direction}"
    time_limit = 30
    distance = 0.07
    start: Vector

    def place(self, world: World, rng: np.random.Generator) -> None:
        # Keep the lane in front of the object free and on the table.
        lane = DIRECTIONS[self.spec.direction][:2]
        for _ in range(200):
            spots = _spots(rng, [self.spec.region, "table", "table"])
            end = spots[0] + 0.11 * lane
            inside = 0.37 <= end[0] <= 0.60 and abs(end[1]) <= 0.19
            if inside and all(_distance_to_segment(xy, spots[0] - 0.08 * lane, end) > 0.07 for xy in spots[1:]):
                break
        else:
            raise SimulationError(f"task {self.spec.name!r}", "no free lane found", "widen its region")
        self._place_items(world, rng, spots)
        self.start = world.position(self.target.body)

    def succeeded(self, world: World) -> bool:
        moved = world.position(self.target.body) - self.start
        along = DIRECTIONS[self.spec.direction]
        aside = moved - (moved @ along) * along
        return bool(moved @ along > self.distance and np.linalg.norm(aside[:2]) < 0.05 and aside[2] < 0.02)


class Open(Task):
    """Open the drawer (half its travel) or the door (40 degrees); both stand on the table."""

    arguments = ("fixture",)
    sentence = "open the {fixture}"
    time_limit = 35

    target: Fixture
    other: Fixture

    def place(self, world: World, rng: np.random.Generator) -> None:
        kinds = [self.spec.fixture, "door" if self.spec.fixture == "drawer" else "drawer"]
        sides = rng.permutation([-1.0, 1.0])
        colours = rng.choice(sorted(COLOURS), size=2, replace=False)
        fixtures = []
        for kind, side, colour in zip(kinds, sides, colours, strict=True):
            # On the left or right edge of the table, opening towards its middle.
            xy = np.array([rng.uniform(0.42, 0.54), side * rng.uniform(0.17, 0.20)])
            yaw = -side * np.pi / 2 + rng.uniform(-0.2, 0.2)
            fixtures.append(add_fixture(world, kind, str(colour), xy, yaw))
        self.target, self.other = fixtures

    def succeeded(self, world: World) -> bool:
        return self.target.opening(world) > 0.5

    def failed(self, world: World) -> bool:
        return self.other.opening(world) > 0.5


class Put(WithItems):
    """Put the named object into the named container, released; the other container stands beside it."""

    arguments = ("colour", "shape", "container")
    sentence = "put the {colour} {shape} in the {container}"
    time_limit = 45

    containers: list[Container]

    def place(self, world: World, rng: np.random.Generator) -> None:
        side = rng.choice([-1.0, 1.0])
        kinds = [self.spec.container, *(kind for kind in CONTAINERS if kind != self.spec.container)]
        ends = rng.permutation([0.41, 0.56])
        self.containers = []
        for kind, x in zip(kinds, ends, strict=True):
            xy = np.array([x + rng.uniform(-0.015, 0.015), side * rng.uniform(0.10, 0.14)])
            self.containers.append(add_container(world, kind, str(rng.choice(sorted(COLOURS))), xy))
        half = (0.39, 0.57, -0.16, -0.02) if side > 0 else (0.39, 0.57, 0.02, 0.16)
        region = REGIONS[self.spec.region]
        low = np.maximum(half[::2], region[::2])
        high = np.minimum(half[1::2], region[1::2])
        target = (low[0], high[0], low[1], high[1]) if (high > low).all() else half
        self._place_items(world, rng, _spots(rng, [target, half, half], 0.085))

    def succeeded(self, world: World) -> bool:
        released = np.linalg.norm(world.arm.tip()[0] - world.position(self.target.body)) > 0.035
        return bool(released and self.containers[0].holds(world, self.target))


FAMILIES: dict[str, type[Task]] = {"press": Press, "pick": Pick, "push": Push, "open": Open, "put": Put}
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "direction": tuple(DIRECTIONS),
    "fixture": ("drawer", "door"),
    "container": CONTAINERS,
}


def _spots(
    rng: np.random.Generator, regions: list[str | tuple[float, float, float, float]], apart: float = SEPARATION
) -> list[Vector]:
    """One position [2] (m) in each region, at least ``apart`` from each other."""
    boxes = [REGIONS[region] if isinstance(region, str) else region for region in regions]
    for _ in range(500):
        spots = [np.array([rng.uniform(b[0], b[1]), rng.uniform(b[2], b[3])]) for b in boxes]
        gaps = [np.linalg.norm(a - b) for i, a in enumerate(spots) for b in spots[:i]]
        if min(gaps) > apart:
            return spots
    raise SimulationError(f"regions {regions}", f"no {len(regions)} places {apart} m apart found", "widen a region")


def _other_colours(rng: np.random.Generator, colour: str, n: int) -> list[str]:
    return [str(c) for c in rng.choice([c for c in COLOURS if c != colour], size=n, replace=False)]


def _distance_to_segment(point: Vector, start: Vector, end: Vector) -> float:
    along = end - start
    t = np.clip((point - start) @ along / (along @ along), 0.0, 1.0)
    return float(np.linalg.norm(point - start - t * along))
