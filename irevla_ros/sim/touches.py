"""Pictures of tasks that a place reader learns from: where the named thing is, while the arm presses and pushes at random.

Nothing here says whether a task has succeeded, and no policy acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.core.types import ByteArray, FloatArray
from irevla_ros.sim.env import START_HIGH, START_LOW
from irevla_ros.sim.objects import BUTTON_TRAVEL, COLOURS, SHAPES
from irevla_ros.sim.panda import Vector
from irevla_ros.sim.tasks import DIRECTIONS, Press, Push, TaskSpec
from irevla_ros.sim.world import FRONT, WORKSPACE_HIGH, WORKSPACE_LOW, World

PUSHES = 0.6  # share of the scenes; the others are presses
VIEWS = ("before", "on the way", "touching", "touching", "touching", "touching")  # of each scene
OPEN = 0.1  # share of the touches with an open hand
PRESSED = 0.6  # of the travel, from where the simulator counts a button as pressed


@dataclass(frozen=True)
class Touch:
    """A picture uint8 [H, W, 3], an instruction, proprioception [P]; place [3] of the thing that it names (m).

    pressed: 1 where that is a button and down, 0 where it is one and is not, NaN for anything else.
    """

    image: ByteArray
    instruction: str
    proprio: FloatArray
    place: Vector
    pressed: float


def touches(seed: int, image_size: int) -> Iterator[Touch]:
    """Endless; equal seeds give equal ones."""
    rng, world = np.random.default_rng(seed), World(image_size, ActionSpec())
    try:
        while True:
            yield from _scene(world, rng)
    finally:
        world.close()


def _scene(world: World, rng: np.random.Generator) -> Iterator[Touch]:
    world.clear()
    task = _task(rng)
    task.place(world, rng)
    things = [task.target, *task.others]
    for view in VIEWS:
        asked, other = (int(one) for one in rng.choice(len(things), 2, replace=False))
        _pose(world, rng, view, _where(world, things[asked]), isinstance(task, Push))
        image, proprio = world.render(FRONT), ProprioSpec().to_normalised(world.arm.proprio())
        for thing in (things[asked], things[other]):
            if isinstance(task, Press):
                instruction = f"press the {thing.colour} button"
                pressed = float(-world.joint(thing.body, 0) > PRESSED * BUTTON_TRAVEL)
            else:
                instruction = f"push the {thing.colour} {thing.shape} {rng.choice(list(DIRECTIONS))}"
                pressed = np.nan
            yield Touch(image, instruction, proprio, _where(world, thing), pressed)


def _task(rng: np.random.Generator) -> Press | Push:
    colour = str(rng.choice(list(COLOURS)))
    if rng.random() < PUSHES:
        shape, direction = str(rng.choice(SHAPES)), str(rng.choice(list(DIRECTIONS)))
        task = TaskSpec("push", colour=colour, shape=shape, direction=direction).build()
    else:
        task = TaskSpec("press", colour=colour).build()
    assert isinstance(task, (Press, Push))
    return task


def _where(world: World, thing: object) -> Vector:
    xy = getattr(thing, "xy", None)
    return np.array([*xy, 0.03]) if xy is not None else world.position(thing.body)  # type: ignore[attr-defined]


def _pose(world: World, rng: np.random.Generator, view: str, place: Vector, push: bool) -> None:
    """Set the arm before the touch, on the way to it, or let it touch by the simulator's physics."""
    start, low, yaw = rng.uniform(START_LOW, START_HIGH), place.copy(), rng.uniform(-0.3, 0.3)
    hand = 1.0 if view == "before" or rng.random() < OPEN else -1.0
    low[:2] += rng.normal(0.0, 0.03, 2)
    low[2] = rng.uniform(0.005, 0.05 if push else 0.036)
    if view != "touching":
        world.place_arm(_inside(start + (rng.random() if view == "on the way" else 0.0) * (low - start)), yaw, hand)
    elif push:
        way = DIRECTIONS[str(rng.choice(list(DIRECTIONS)))]
        at, step = place - rng.uniform(0.04, 0.09) * way, rng.uniform(0.01, 0.035) * way
        at[:2] += rng.normal(0.0, 0.012, 2)
        at[2] = rng.uniform(0.008, 0.05)
        world.place_arm(_inside(at), yaw, hand)
        for _ in range(int(rng.integers(0, 9))):
            at = at + step
            world.move_to(at, yaw, hand)
    else:
        above = low + [*rng.normal(0.0, 0.015, 2), rng.uniform(0.04, 0.09)]
        world.place_arm(_inside(above), yaw, hand)
        for _ in range(int(rng.integers(1, 5))):
            world.move_to(low, yaw, hand)


def _inside(position: Vector) -> Vector:
    return np.clip(position, WORKSPACE_LOW, WORKSPACE_HIGH)
