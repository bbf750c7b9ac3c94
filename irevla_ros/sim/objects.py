"""Colours, shapes, containers and articulated fixtures that a task can place on the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irevla_ros.sim.panda import Vector
from irevla_ros.sim.world import Box, World

COLOURS: dict[str, tuple[float, float, float, float]] = {
    "red": (0.85, 0.10, 0.10, 1.0),
    "green": (0.10, 0.65, 0.15, 1.0),
    "blue": (0.10, 0.20, 0.85, 1.0),
    "yellow": (0.95, 0.85, 0.10, 1.0),
    "purple": (0.55, 0.10, 0.65, 1.0),
    "orange": (0.98, 0.50, 0.05, 1.0),
    "cyan": (0.10, 0.80, 0.85, 1.0),
    "black": (0.08, 0.08, 0.08, 1.0),
}
SHAPES = ("cube", "cylinder", "ball", "block")
CONTAINERS = ("tray", "bin")
FIXTURE_COLOUR = (0.80, 0.80, 0.82, 1.0)
BUTTON_TRAVEL = 0.014  # m
BUTTON_HEIGHT = 0.034  # m, top of a cap that nobody presses
DRAWER_TRAVEL = 0.16  # m
DOOR_TRAVEL = 1.4  # rad
HANDLE_GAP = 0.03  # m, centre of a handle's loop before the front that it is fixed to


@dataclass(frozen=True)
class Item:
    """A movable object: what it is called, its PyBullet body, and half its height (m)."""

    colour: str
    shape: str
    body: int
    half_height: float


def add_item(world: World, colour: str, shape: str, size: float, xy: Vector, yaw: float) -> Item:
    """A cube, cylinder, ball or block (longer than the gripper opens) of half width ``size`` (m) on the table."""
    p, rgba = world.p, COLOURS[colour]
    if shape in ("cube", "block"):
        half = (size, size, size) if shape == "cube" else (0.048, size * 0.85, size)
        body = world.add_body([Box(half)], rgba, (xy[0], xy[1], size), yaw, mass=0.08)
        half_height = size
    elif shape == "cylinder":
        half_height = size * 1.25
        collision = p.createCollisionShape(p.GEOM_CYLINDER, radius=size, height=2 * half_height)
        visual = p.createVisualShape(p.GEOM_CYLINDER, radius=size, length=2 * half_height, rgbaColor=rgba)
        body = world.register(p.createMultiBody(0.08, collision, visual, (xy[0], xy[1], half_height)))
    else:
        half_height = size
        collision = p.createCollisionShape(p.GEOM_SPHERE, radius=size)
        visual = p.createVisualShape(p.GEOM_SPHERE, radius=size, rgbaColor=rgba)
        body = world.register(p.createMultiBody(0.08, collision, visual, (xy[0], xy[1], half_height)))
    # Rolling friction stops balls; damping stops everything else from sliding for ever.
    p.changeDynamics(body, -1, lateralFriction=0.8, spinningFriction=0.005, rollingFriction=0.002,
                     linearDamping=0.3, angularDamping=0.3)  # fmt: skip
    return Item(colour, shape, body, half_height)


@dataclass(frozen=True)
class Button:
    """A push button; joint 0 of ``body`` is the cap's travel, 0 m released and negative when pressed."""

    colour: str
    body: int
    xy: tuple[float, float]

    def pressed(self, world: World) -> bool:
        return world.joint(self.body, 0) < -0.6 * BUTTON_TRAVEL


def add_button(world: World, colour: str, xy: Vector) -> Button:
    """A grey base with a coloured cap on a spring."""
    p = world.p
    base_collision, base_visual = world.box_shapes([Box((0.030, 0.030, 0.009))], FIXTURE_COLOUR)
    cap_collision = p.createCollisionShape(p.GEOM_CYLINDER, radius=0.023, height=0.02)
    cap_visual = p.createVisualShape(p.GEOM_CYLINDER, radius=0.023, length=0.02, rgbaColor=COLOURS[colour])
    body = world.register(
        p.createMultiBody(
            baseMass=0,
            baseCollisionShapeIndex=base_collision,
            baseVisualShapeIndex=base_visual,
            basePosition=(xy[0], xy[1], 0.009),
            linkMasses=[0.05],
            linkCollisionShapeIndices=[cap_collision],
            linkVisualShapeIndices=[cap_visual],
            linkPositions=[(0, 0, BUTTON_HEIGHT - 0.009 - 0.01)],
            linkOrientations=[(0, 0, 0, 1)],
            linkInertialFramePositions=[(0, 0, 0)],
            linkInertialFrameOrientations=[(0, 0, 0, 1)],
            linkParentIndices=[0],
            linkJointTypes=[p.JOINT_PRISMATIC],
            linkJointAxis=[(0, 0, 1)],
        )
    )
    p.setCollisionFilterPair(body, body, -1, 0, 0)
    p.changeDynamics(body, 0, jointLowerLimit=-BUTTON_TRAVEL, jointUpperLimit=0.0)
    p.setJointMotorControl2(body, 0, p.POSITION_CONTROL, targetPosition=0.0, force=4.0)
    return Button(colour, body, (float(xy[0]), float(xy[1])))


@dataclass(frozen=True)
class Fixture:
    """A cabinet with one drawer or door: joint 0 of ``body`` opens it, 0 closed; ``travel`` is fully open."""

    kind: str
    body: int
    travel: float
    handle_offset: tuple[float, float, float]  # from the moving link's frame to the middle of the handle's loop, m

    def opening(self, world: World) -> float:
        """Fraction of the travel, 0 closed to 1 open."""
        return abs(world.joint(self.body, 0)) / self.travel

    def handle(self, world: World) -> Vector:
        """Middle of the handle's loop [3], m, base frame: where a finger goes in."""
        state = world.p.getLinkState(self.body, 0, computeForwardKinematics=True)
        rotation = np.array(world.p.getMatrixFromQuaternion(state[5])).reshape(3, 3)
        return np.array(state[4]) + rotation @ np.array(self.handle_offset)

    def pull(self, world: World) -> Vector:
        """Unit vector [3] of the handle's motion when it opens now."""
        state = world.p.getLinkState(self.body, 0, computeForwardKinematics=True)
        rotation = np.array(world.p.getMatrixFromQuaternion(state[5])).reshape(3, 3)
        return rotation @ np.array([1.0, 0.0, 0.0])


def _loop(front: float, y: float, z: float) -> list[Box]:
    """A handle: a bar across and two arms, with a gap for one closed gripper, in front of a face at x = ``front``."""
    depth = 2 * HANDLE_GAP
    return [
        Box((0.005, 0.034, 0.010), (front + depth, y, z)),
        Box((depth / 2, 0.005, 0.010), (front + depth / 2, y - 0.034, z)),
        Box((depth / 2, 0.005, 0.010), (front + depth / 2, y + 0.034, z)),
    ]


def add_fixture(world: World, kind: str, colour: str, position: Vector, yaw: float) -> Fixture:
    """A cabinet whose ``kind`` ("drawer" or "door") opens along its local +x; ``position`` [2] m, ``yaw`` rad."""
    p = world.p
    if kind == "drawer":
        body_boxes = [Box((0.05, 0.055, 0.004), (0, 0, 0.004)), Box((0.05, 0.004, 0.03), (0, 0.058, 0.03)),
                      Box((0.05, 0.004, 0.03), (0, -0.058, 0.03)), Box((0.05, 0.062, 0.004), (0, 0, 0.064))]  # fmt: skip
        moving_boxes = [Box((0.048, 0.050, 0.020), (-0.002, 0, 0)), Box((0.004, 0.056, 0.026), (0.052, 0, 0))]
        moving_boxes += _loop(0.056, 0.0, 0.010)
        origin, handle, axis = (0.0, 0.0, 0.035), (0.056 + HANDLE_GAP, 0.0, 0.010), (1, 0, 0)
        joint, travel = p.JOINT_PRISMATIC, DRAWER_TRAVEL
    else:
        body_boxes = [Box((0.04, 0.062, 0.034), (0, 0, 0.034))]
        moving_boxes = [Box((0.005, 0.052, 0.030), (0.0, 0.054, 0.0)), *_loop(0.005, 0.072, 0.005)]
        origin, handle, axis = (0.048, -0.056, 0.036), (0.005 + HANDLE_GAP, 0.072, 0.005), (0, 0, -1)
        joint, travel = p.JOINT_REVOLUTE, DOOR_TRAVEL
    body_collision, body_visual = world.box_shapes(body_boxes, FIXTURE_COLOUR)
    link_collision, link_visual = world.box_shapes(moving_boxes, COLOURS[colour])
    body = world.register(
        p.createMultiBody(
            baseMass=0,
            baseCollisionShapeIndex=body_collision,
            baseVisualShapeIndex=body_visual,
            basePosition=(position[0], position[1], 0.0),
            baseOrientation=p.getQuaternionFromEuler([0, 0, yaw]),
            linkMasses=[0.15],
            linkCollisionShapeIndices=[link_collision],
            linkVisualShapeIndices=[link_visual],
            linkPositions=[origin],
            linkOrientations=[(0, 0, 0, 1)],
            linkInertialFramePositions=[(0, 0, 0)],
            linkInertialFrameOrientations=[(0, 0, 0, 1)],
            linkParentIndices=[0],
            linkJointTypes=[joint],
            linkJointAxis=[axis],
        )
    )
    p.setCollisionFilterPair(body, body, -1, 0, 0)
    p.changeDynamics(body, 0, jointLowerLimit=0.0, jointUpperLimit=travel, jointDamping=0.05)
    # Friction of the slide or hinge: it stays where it is left.
    p.setJointMotorControl2(body, 0, p.VELOCITY_CONTROL, targetVelocity=0.0, force=1.0 if kind == "drawer" else 0.05)
    return Fixture(kind, body, travel, handle)


@dataclass(frozen=True)
class Container:
    """An open box fixed to the table; an item whose centre is within ``half`` (m) of its middle is inside."""

    kind: str
    body: int
    half: float

    def holds(self, world: World, item: Item) -> bool:
        offset = world.position(item.body) - world.position(self.body)
        return bool((np.abs(offset[:2]) < self.half).all() and offset[2] < item.half_height + 0.02)


def add_container(world: World, kind: str, colour: str, xy: Vector) -> Container:
    """A wide flat "tray" or a narrow tall "bin"."""
    half, height = (0.065, 0.008) if kind == "tray" else (0.048, 0.020)
    wall = 0.004
    boxes = [
        Box((half, half, 0.002), (0, 0, 0.002)),
        Box((wall, half + wall, height), (half, 0, height)),
        Box((wall, half + wall, height), (-half, 0, height)),
        Box((half, wall, height), (0, half, height)),
        Box((half, wall, height), (0, -half, height)),
    ]
    body = world.add_body(boxes, COLOURS[colour], (xy[0], xy[1], 0.0), 0.0, mass=0.0)
    return Container(kind, body, half)
