"""The physics world: table, arm, the bodies of one episode, and the cameras."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irevla_ros.core.errors import SimulationError
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import ByteArray, FloatArray
from irevla_ros.sim.panda import BASE_LINKS, TIP, Panda, Vector

PHYSICS_HZ = 240
CONTROL_HZ = 10
SUBSTEPS = PHYSICS_HZ // CONTROL_HZ
WORKSPACE_LOW = np.array([0.28, -0.32, 0.012])  # metres, base frame; the table top is z = 0
WORKSPACE_HIGH = np.array([0.70, 0.32, 0.35])
YAW_LIMIT = 1.7  # rad
TABLE_COLOUR = (0.56, 0.53, 0.50, 1.0)
NOTHING_DRAWN = 0.9999  # depth beyond which a pixel shows nothing: everything is nearer than 2.9 of the 3 m drawn


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: at ``eye`` looking at ``target`` (metres, base frame), or on the wrist where both are None."""

    name: str
    eye: tuple[float, float, float] | None
    target: tuple[float, float, float] | None
    fov_deg: float

    def project(self, points: Vector) -> Vector:
        """Points [..., 3] (m, base frame) -> image coordinates [..., 2], (0, 0) top left to (1, 1) bottom right.

        Only for a camera that stands still; ``SimulationError`` otherwise.
        """
        if self.eye is None or self.target is None:
            raise SimulationError(f"camera {self.name!r}", "only a fixed camera projects", "use the front camera")
        forward = np.subtract(self.target, self.eye) / np.linalg.norm(np.subtract(self.target, self.eye))
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        offset = points - np.array(self.eye)
        seen = np.stack([offset @ right, -(offset @ np.cross(right, forward))], axis=-1)
        return 0.5 + 0.5 * seen / (offset @ forward)[..., None] / np.tan(np.radians(self.fov_deg) / 2)


FRONT = Camera("front", (1.02, 0.0, 0.82), (0.465, 0.0, 0.03), 28.0)
WRIST = Camera("wrist", None, None, 75.0)
CAMERAS = {camera.name: camera for camera in (FRONT, WRIST)}


@dataclass(frozen=True)
class Box:
    """A box of a compound body: half extents [3] and centre [3] in the frame of its link."""

    half: tuple[float, float, float]
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)


def _connect() -> Any:
    """A physics client without a window. PyBullet's greetings, from C, are kept off the user's terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            try:
                import pybullet
                from pybullet_utils.bullet_client import BulletClient
            except ImportError:
                raise SimulationError("pybullet is not installed", "the simulator needs it",
                                      "pip install 'irevla_ros[sim]'") from None  # fmt: skip
            client = BulletClient(pybullet.DIRECT)
            # It wraps a function anew at every access, and to look at "disconnect" is to disconnect.
            names = [name for name in dir(pybullet) if not name.startswith("_") and name != "disconnect"]
            vars(client).update({name: getattr(client, name) for name in names})
            return client
        finally:
            for number, stream in enumerate(kept, start=1):
                os.dup2(stream, number)
                os.close(stream)


class World:
    """One PyBullet client. ``clear`` starts an episode, ``add_*`` fill it, ``step`` runs one control period."""

    RENEW_AFTER = 500  # episodes; a new client costs 0.2 s

    def __init__(self, image_size: int, actions: ActionSpec) -> None:
        self._image_size, self._actions = image_size, actions
        self._projections: dict[str, Sequence[float]] = {}
        self.gripper = 1.0
        self._open()

    def _open(self) -> None:
        self.p = _connect()
        # The default broadphase keeps a tree whose upkeep is spread over steps: contacts would depend on earlier episodes.
        self.p.resetSimulation(self.p.RESET_USE_SIMPLE_BROADPHASE)
        self.p.setTimeStep(1.0 / PHYSICS_HZ)
        self.p.setGravity(0.0, 0.0, -9.81)
        # Without ordered pairs the contact solver depends on what earlier episodes left behind. Stopping it at this
        # residual (squared impulse) moves trajectories less than doubling its iterations, at half the cost of contacts.
        self.p.setPhysicsEngineParameter(
            deterministicOverlappingPairs=1, numSolverIterations=30, solverResidualThreshold=1e-4
        )
        self._grain = self.p.createCollisionShape(self.p.GEOM_SPHERE, radius=0.001)
        self.arm = Panda(self.p)
        self._table = self._add_table()
        self._bodies: list[int] = []
        self._cleared = 0
        self._table_seen = self._draw(FRONT, 8)[0][-1, -1]  # flat and without shadows: one colour everywhere
        self._scenery_drawn = True

    def close(self) -> None:
        if self.p is not None:
            self.p.disconnect()
            self.p = None

    def clear(self) -> None:
        """Remove the bodies of the last episode, so that the next one starts as if it were the first.

        The order in which contacts are solved depends on the slots that bodies take in the broadphase. Slots are handed
        out again last in, first out, so what was added last goes first. But a jointed body gives its slots back in the
        order in which it took them: grains of the same structure take them once more and put them right.

        PyBullet keeps the shapes of bodies that are gone (about 15 KB an episode), so now and then the client itself goes.
        """
        self._cleared += 1
        if self._cleared > self.RENEW_AFTER:
            self.close()
            self._open()
            return
        joints = [self.p.getNumJoints(body) for body in self._bodies]
        self._remove_all()
        if any(joints):
            for count in joints:
                self._add_grain(count)
            self._remove_all()

    def _remove_all(self) -> None:
        for body in reversed(self._bodies):
            self.p.removeBody(body)
        self._bodies = []

    def _add_grain(self, joints: int) -> None:
        """A body of nearly nothing, far away, with so many joints."""
        grain, zero, straight = self._grain, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)
        self.register(
            self.p.createMultiBody(
                baseMass=0,
                baseCollisionShapeIndex=grain,
                basePosition=(0.0, 5.0 + len(self._bodies), 5.0),
                linkMasses=[0.1] * joints,
                linkCollisionShapeIndices=[grain] * joints,
                linkVisualShapeIndices=[-1] * joints,
                linkPositions=[(0.0, 0.0, 0.1)] * joints,
                linkOrientations=[straight] * joints,
                linkInertialFramePositions=[zero] * joints,
                linkInertialFrameOrientations=[straight] * joints,
                linkParentIndices=list(range(joints)),
                linkJointTypes=[self.p.JOINT_PRISMATIC] * joints,
                linkJointAxis=[(0.0, 0.0, 1.0)] * joints,
            )
        )

    def place_arm(self, position: Vector, yaw: float, gripper: float) -> None:
        """Teleport the arm: tip [3] m, yaw rad, gripper -1 closed to +1 open."""
        self.gripper = gripper
        self.arm.reset(position, yaw, gripper)

    def add_body(
        self, boxes: Sequence[Box], colour: Sequence[float], position: Sequence[float], yaw: float, mass: float
    ) -> int:
        """A rigid body made of boxes, its frame at ``position`` (m); mass 0 is fixed to the world."""
        collision, visual = self.box_shapes(boxes, colour)
        return self.register(
            self.p.createMultiBody(mass, collision, visual, position, self.p.getQuaternionFromEuler([0, 0, yaw]))
        )

    def box_shapes(self, boxes: Sequence[Box], colour: Sequence[float]) -> tuple[int, int]:
        """Collision and visual shape of a compound of boxes."""
        arguments = {
            "shapeTypes": [self.p.GEOM_BOX] * len(boxes),
            "halfExtents": [box.half for box in boxes],
        }
        centres = [box.centre for box in boxes]
        collision = self.p.createCollisionShapeArray(collisionFramePositions=centres, **arguments)
        visual = self.p.createVisualShapeArray(
            visualFramePositions=centres, rgbaColors=[tuple(colour)] * len(boxes), **arguments
        )
        return collision, visual

    def register(self, body: int) -> int:
        """Note a body of this episode, so that ``clear`` removes it."""
        if body < 0:
            raise SimulationError("PyBullet refused a body", "every shape must be valid", "report this with the seed")
        self._bodies.append(body)
        return body

    def position(self, body: int) -> Vector:
        """Position [3] of a body, m."""
        return np.array(self.p.getBasePositionAndOrientation(body)[0])

    def yaw(self, body: int) -> float:
        """Turn of a body about the vertical, rad."""
        rotation = self.p.getMatrixFromQuaternion(self.p.getBasePositionAndOrientation(body)[1])
        return float(np.arctan2(rotation[3], rotation[0]))

    def joint(self, body: int, joint: int) -> float:
        """Position of an articulated fixture's joint, m or rad."""
        return float(self.p.getJointState(body, joint)[0])

    def step(self, action: FloatArray) -> None:
        """One control period. ``action`` [A] is normalised; NaN or a wrong shape is refused."""
        if action.shape != (self._actions.size,) or not np.isfinite(action).all():
            raise SimulationError(f"action {action.tolist()}", f"{self._actions.size} finite numbers are required",
                                  "check the policy's output")  # fmt: skip
        physical = dict(zip(self._actions.names, self._actions.to_physical(action), strict=True))
        delta = np.array([physical.get(name, 0.0) for name in ("dx", "dy", "dz")])
        self.move_to(self.arm.tip()[0] + delta, self.arm.yaw + physical.get("drz", 0.0), physical.get("gripper", self.gripper))

    def move_to(self, position: Vector, yaw: float, gripper: float) -> None:
        """One control period towards a pose: tip [3] m, yaw rad, gripper open when positive; within the workspace."""
        self.gripper = float(gripper)
        self.arm.move(np.clip(position, WORKSPACE_LOW, WORKSPACE_HIGH), float(np.clip(yaw, -YAW_LIMIT, YAW_LIMIT)),
                      1.0 if self.gripper > 0 else -1.0)  # fmt: skip
        self.settle(SUBSTEPS)

    def settle(self, substeps: int) -> None:
        """Run the physics without a new command."""
        for _ in range(substeps):
            self.p.stepSimulation()

    def shove(self, rng: np.random.Generator) -> None:
        """Put one body of the episode 3 to 6 cm beside where it is; it comes to rest where physics lets it."""
        body = self._bodies[rng.integers(len(self._bodies))]
        position, turn = self.p.getBasePositionAndOrientation(body)
        angle, way = rng.uniform(-np.pi, np.pi), rng.uniform(0.03, 0.06)
        moved = np.add(position, [way * np.cos(angle), way * np.sin(angle), 0.0])
        moved[:2] = np.clip(moved[:2], WORKSPACE_LOW[:2] + 0.05, WORKSPACE_HIGH[:2] - 0.05)
        self.p.resetBasePositionAndOrientation(body, moved, turn)

    def render(self, camera: Camera, size: int | None = None) -> ByteArray:
        """RGB image uint8 [size, size, 3] by the CPU renderer, without shadows (they double its cost).

        A fixed camera sees the table alone in the background, and the arm's base not at all. Both are left out of its
        drawing and the table is filled in afterwards: the same image in half the time.
        """
        self._draw_scenery(camera.eye is None)
        image, depth = self._draw(camera, size or self._image_size)
        if not self._scenery_drawn:
            image[depth > NOTHING_DRAWN] = self._table_seen
        return image

    def _draw_scenery(self, drawn: bool) -> None:
        if drawn == self._scenery_drawn:
            return
        self._scenery_drawn = drawn
        for link in BASE_LINKS:
            self.p.changeVisualShape(self.arm.id, link, rgbaColor=(1.0, 1.0, 1.0, float(drawn)))
        self.p.changeVisualShape(self._table, -1, rgbaColor=(*TABLE_COLOUR[:3], float(drawn)))

    def _draw(self, camera: Camera, size: int) -> tuple[ByteArray, FloatArray]:
        """RGB image uint8 [size, size, 3] and depth [size, size], 0 near to 1 far, of what is visible now."""
        if camera.name not in self._projections:
            self._projections[camera.name] = self.p.computeProjectionMatrixFOV(camera.fov_deg, 1.0, 0.02, 3.0)
        _, _, pixels, depth, _ = self.p.getCameraImage(
            size,
            size,
            self._view(camera),
            self._projections[camera.name],
            lightDirection=[0.6, 0.4, 1.5],
            shadow=0,
            flags=self.p.ER_NO_SEGMENTATION_MASK,
            renderer=self.p.ER_TINY_RENDERER,
        )
        image = np.asarray(pixels, np.uint8).reshape(size, size, 4)[..., :3]
        return np.ascontiguousarray(image), np.asarray(depth, np.float32).reshape(size, size)

    def _view(self, camera: Camera) -> Sequence[float]:
        if camera.eye is not None and camera.target is not None:
            return self.p.computeViewMatrix(camera.eye, camera.target, [0.0, 0.0, 1.0])
        state = self.p.getLinkState(self.arm.id, TIP, computeForwardKinematics=True)
        rotation = np.array(self.p.getMatrixFromQuaternion(state[5])).reshape(3, 3)
        # Mounted 7 cm in front of the hand and 10 cm above the tip, looking at the tip.
        eye = np.array(state[4]) + rotation @ np.array([0.07, 0.0, -0.10])
        return self.p.computeViewMatrix(eye, np.array(state[4]) + rotation @ np.array([0.01, 0.0, 0.0]),
                                        rotation @ np.array([1.0, 0.0, 0.0]))  # fmt: skip

    def _add_table(self) -> int:
        collision, visual = self.box_shapes([Box((0.45, 0.60, 0.05))], TABLE_COLOUR)
        body: int = self.p.createMultiBody(0, collision, visual, [0.45, 0.0, -0.05])
        return body
