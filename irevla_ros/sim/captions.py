"""Image-text pairs from the simulator: random scenes with questions about names, places, relations and states.

They play the part that images and text from the web play for a real vision-language model: what the words mean and
where the things are, but nothing about acting. No instruction of a task is among the questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ByteArray, FloatArray
from irevla_ros.sim.objects import COLOURS, CONTAINERS, SHAPES, Button, Container, Fixture, Item
from irevla_ros.sim.panda import Vector
from irevla_ros.sim.tasks import DIRECTIONS, Open, Press, Put, Task, TaskSpec, WithItems
from irevla_ros.sim.world import FRONT, WORKSPACE_HIGH, WORKSPACE_LOW, World

COLOUR_NAMES = tuple(COLOURS)
CENTRE, SCALE = np.array([0.48, 0.0, 0.1]), np.array([0.1, 0.15, 0.1])  # of the places in answers, m
LOCATE = (
    "where is the {}", "find the {}", "the {}", "{}", "look at the {}", "this is the {}", "next to the {}",
    "show the {}", "there is a {}",
)  # fmt: skip
BESIDE = {"left": 1.0, "right": -1.0}  # word -> sign along y


@dataclass(frozen=True)
class Caption:
    """A question and the parts of its answer that apply (the others are None).

    place [3] is the position of what is asked about, normalised by CENTRE and SCALE; colour an index into COLOUR_NAMES;
    state 0 or 1.
    """

    question: str
    place: Vector | None = None
    colour: int | None = None
    state: int | None = None


@dataclass(frozen=True)
class Frame:
    """A rendered scene: uint8 image [H, W, 3], tip position [3] (normalised like places), and captions."""

    image: ByteArray
    tip: FloatArray
    captions: tuple[Caption, ...]


@dataclass(frozen=True)
class _Thing:
    phrase: str
    colour: str
    position: Vector


def frames(seed: int, image_size: int) -> Iterator[Frame]:
    """Endless random frames; equal seeds give equal frames."""
    rng = np.random.default_rng(seed)
    world = World(image_size, ActionSpec())
    try:
        while True:
            yield _frame(world, rng)
    finally:
        world.close()


def _frame(world: World, rng: np.random.Generator) -> Frame:
    world.clear()
    task = _random_task(rng)
    # Half of the frames look like the middle of an episode: the hand is low, near something.
    position = rng.uniform(WORKSPACE_LOW + [0.06, 0.06, 0.0], WORKSPACE_HIGH - [0.08, 0.08, 0.10])
    task.place(world, rng)
    states = _states(world, task, rng)  # before the things are looked at: it may open one
    things = _things(world, task)
    if rng.random() < 0.5:
        near = things[int(rng.integers(len(things)))].position
        position[:2] = near[:2] + rng.normal(0.0, 0.03, 2)
        position[2] = rng.uniform(0.02, 0.12)
    closed = bool(rng.random() < 0.5)
    world.place_arm(np.clip(position, WORKSPACE_LOW, WORKSPACE_HIGH), rng.uniform(-0.6, 0.6), -1.0 if closed else 1.0)
    captions = _locate(rng, things) + _relate(rng, things)
    tip = (world.arm.tip()[0] - CENTRE) / SCALE
    captions += [Caption(str(rng.choice(["is the gripper open", "gripper open"])), place=tip, state=int(not closed))]
    captions += states
    return Frame(world.render(FRONT), tip.astype(np.float32), tuple(captions))


def _random_task(rng: np.random.Generator) -> Task:
    colour, shape = str(rng.choice(COLOUR_NAMES)), str(rng.choice(SHAPES))
    family = rng.choice(["press", "pick", "push", "open", "put"], p=[0.25, 0.25, 0.2, 0.15, 0.15])
    arguments = {
        "press": {"colour": colour},
        "pick": {"colour": colour, "shape": shape},
        "push": {"colour": colour, "shape": shape, "direction": str(rng.choice(list(DIRECTIONS)))},
        "open": {"fixture": str(rng.choice(["drawer", "door"]))},
        "put": {"colour": colour, "shape": shape, "container": str(rng.choice(CONTAINERS))},
    }[str(family)]
    return TaskSpec(str(family), **arguments).build()


def _things(world: World, task: Task) -> list[_Thing]:
    things: list[_Thing] = []
    if isinstance(task, Press):
        things += [_button(button) for button in (task.target, *task.others)]
    if isinstance(task, WithItems):
        things += [_item(world, item) for item in (task.target, *task.others)]
    if isinstance(task, Put):
        things += [_container(world, container) for container in task.containers]
    if isinstance(task, Open):
        things += [_fixture(world, fixture) for fixture in (task.target, task.other)]
    return things


def _button(button: Button) -> _Thing:
    return _Thing(f"{button.colour} button", button.colour, np.array([*button.xy, 0.03]))


def _item(world: World, item: Item) -> _Thing:
    return _Thing(f"{item.colour} {item.shape}", item.colour, world.position(item.body))


def _container(world: World, container: Container) -> _Thing:
    return _Thing(container.kind, "", world.position(container.body))


def _fixture(world: World, fixture: Fixture) -> _Thing:
    return _Thing(fixture.kind, "", fixture.handle(world))


def _locate(rng: np.random.Generator, things: list[_Thing]) -> list[Caption]:
    return [
        Caption(str(rng.choice(LOCATE)).format(thing.phrase), place=(thing.position - CENTRE) / SCALE)
        for thing in things
    ]


def _relate(rng: np.random.Generator, things: list[_Thing]) -> list[Caption]:
    """ "what is left of the red cube": the nearest thing on that side, if one is clearly there."""
    word = str(rng.choice(list(BESIDE)))
    origin = things[int(rng.integers(len(things)))]
    beside = [t for t in things if t.colour and BESIDE[word] * (t.position - origin.position)[1] > 0.04]
    if not beside:
        return []
    nearest = min(beside, key=lambda t: float(np.linalg.norm(t.position - origin.position)))
    return [
        Caption(f"what is {word} of the {origin.phrase}", place=(nearest.position - CENTRE) / SCALE,
                colour=COLOUR_NAMES.index(nearest.colour))
    ]


def _states(world: World, task: Task, rng: np.random.Generator) -> list[Caption]:
    """Open one of the fixtures at random, and ask for it."""
    if not isinstance(task, Open):
        return []
    opened = bool(rng.random() < 0.5)
    if opened:
        world.p.resetJointState(task.target.body, 0, rng.uniform(0.5, 1.0) * task.target.travel)
    place = (task.target.handle(world) - CENTRE) / SCALE
    return [Caption(f"is the {task.target.kind} open", place=place, state=int(opened))]
