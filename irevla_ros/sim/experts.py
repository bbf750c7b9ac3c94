"""Scripted experts: waypoints from the simulator's true state, followed with varied speed and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import FloatArray
from irevla_ros.sim.panda import Vector
from irevla_ros.sim.tasks import DIRECTIONS, Open, Pick, Press, Push, Put, Task
from irevla_ros.sim.world import World

OPEN, CLOSED = 1.0, -1.0
TRAVEL_HEIGHT = 0.10  # m: passes over everything on the table


@dataclass(frozen=True)
class Waypoint:
    """Go to ``position()`` (m, asked anew each tick, as handles move) until within ``tolerance`` for ``dwell`` ticks."""

    position: Callable[[], Vector]
    yaw: float
    gripper: float
    tolerance: float = 0.012
    dwell: int = 1


@dataclass(frozen=True)
class ExpertNoise:
    """How experts vary: speed range as a fraction of the limit; way point error (m); noise of normalised actions."""

    slowest: float = 0.75
    waypoint_std: float = 0.003
    action_std: float = 0.12
    action_memory: float = 0.6  # correlation of successive action noise


class ScriptedExpert:
    """Acts one episode of a task. Deterministic for a given generator."""

    def __init__(
        self, task: Task, world: World, actions: ActionSpec, rng: np.random.Generator, noise: ExpertNoise | None = None
    ) -> None:
        self._world, self._actions, self._rng = world, actions, rng
        self._noise = noise or ExpertNoise()
        self._waypoints: Iterator[Waypoint] = iter(_PLANS[type(task)](task, world))
        self._speed = rng.uniform(self._noise.slowest, 1.0)
        self._drift = np.zeros(actions.size)
        self._advance()

    def act(self) -> FloatArray:
        """Normalised action [A] for the present state of the world."""
        arm, limits = self._world.arm, np.asarray(self._actions.limits)
        error = self._waypoint.position() + self._offset - arm.tip()[0]
        if np.linalg.norm(error) < self._waypoint.tolerance:
            self._reached += 1
            if self._reached >= self._waypoint.dwell and self._advance():
                error = self._waypoint.position() + self._offset - arm.tip()[0]
        wanted = {
            **dict(zip(("dx", "dy", "dz"), error, strict=True)),
            "drz": self._waypoint.yaw - arm.yaw,
            "gripper": self._waypoint.gripper,
        }
        action = np.array([wanted.get(name, 0.0) for name in self._actions.names]) / limits
        moving = [name != "gripper" for name in self._actions.names]
        # A straight line: scale the motion as a whole instead of clipping each axis.
        action[moving] *= min(1.0, self._speed / max(1e-9, float(np.abs(action[moving]).max())))
        n = self._noise
        self._drift = n.action_memory * self._drift + n.action_std * np.sqrt(1 - n.action_memory**2) * (
            self._rng.standard_normal(len(action))
        )
        action[moving] += self._drift[moving]
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _advance(self) -> bool:
        waypoint = next(self._waypoints, None)
        if waypoint is None:
            return False
        self._waypoint, self._reached = waypoint, 0
        self._offset = self._rng.normal(0.0, self._noise.waypoint_std, 3)
        return True


def _fixed(xy: Vector, z: float) -> Callable[[], Vector]:
    point = np.array([xy[0], xy[1], z])
    return lambda: point


def _press(task: Press, world: World) -> list[Waypoint]:
    xy = np.array(task.target.xy)
    return [Waypoint(_fixed(xy, 0.075), 0.0, CLOSED, 0.015), Waypoint(_fixed(xy, 0.012), 0.0, CLOSED, 0.0)]


def _grasp(task: Pick | Put, world: World) -> list[Waypoint]:
    item = task.target
    position, z = world.position(item.body), max(0.016, item.half_height - 0.006)
    turn = world.yaw(item.body)
    if item.shape == "block":
        yaw = turn  # fingers across its short side
    elif item.shape == "cube":
        yaw = (turn + np.pi / 4) % (np.pi / 2) - np.pi / 4
    else:
        yaw = 0.0
    return [
        Waypoint(_fixed(position, 0.09), yaw, OPEN),
        Waypoint(_fixed(position, z), yaw, OPEN, 0.009),
        Waypoint(_fixed(position, z), yaw, CLOSED, 0.02, dwell=2),
    ]


def _pick(task: Pick, world: World) -> list[Waypoint]:
    xy = world.position(task.target.body)
    grasp = _grasp(task, world)
    return [*grasp, Waypoint(_fixed(xy, 0.16), grasp[-1].yaw, CLOSED, 0.0)]


def _push(task: Push, world: World) -> list[Waypoint]:
    along, start = DIRECTIONS[task.spec.direction], task.start
    reach = 0.062 if task.target.shape == "block" else 0.052
    behind, end = start - reach * along, start + 0.16 * along
    return [
        Waypoint(_fixed(behind, 0.09), 0.0, CLOSED, 0.015),
        Waypoint(_fixed(behind, 0.022), 0.0, CLOSED, 0.012),
        Waypoint(_fixed(end, 0.022), 0.0, CLOSED, 0.0),
    ]


def _open(task: Open, world: World) -> list[Waypoint]:
    fixture = task.target
    up = np.array([0.0, 0.0, 1.0])

    def at_handle(height: float) -> Callable[[], Vector]:
        return lambda: fixture.handle(world) * (1 - up) + height * up

    def beyond() -> Vector:
        return at_handle(height)() + 0.06 * fixture.pull(world)

    height = float(fixture.handle(world)[2]) - 0.008
    return [
        Waypoint(at_handle(0.11), 0.0, CLOSED),
        Waypoint(at_handle(height), 0.0, CLOSED, 0.010),
        Waypoint(beyond, 0.0, CLOSED, 0.0),
    ]


def _put(task: Put, world: World) -> list[Waypoint]:
    grasp = _grasp(task, world)
    lift = world.position(task.target.body)
    goal = world.position(task.containers[0].body)
    return [
        *grasp,
        Waypoint(_fixed(lift, TRAVEL_HEIGHT), grasp[-1].yaw, CLOSED, 0.03),
        Waypoint(_fixed(goal, TRAVEL_HEIGHT), 0.0, CLOSED, 0.015),
        Waypoint(_fixed(goal, 0.055), 0.0, CLOSED, 0.015),
        Waypoint(_fixed(goal, 0.055), 0.0, OPEN, 0.03, dwell=2),
        Waypoint(_fixed(goal, 0.14), 0.0, OPEN, 0.0),
    ]


_PLANS: dict[type[Task], Callable[..., list[Waypoint]]] = {
    Press: _press,
    Pick: _pick,
    Push: _push,
    Open: _open,
    Put: _put,
}
