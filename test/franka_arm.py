"""The body of the fake Franka: the simulator's arm and table, always there, moved in real time by whoever has it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from irevla_ros.core.rotation import Pose, exp, multiply, yaw
from irevla_ros.core.types import ByteArray
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.panda import ARM, TIP
from irevla_ros.sim.world import CAMERAS, PHYSICS_HZ

HOME = (0.0, -0.2, 0.0, -2.35, 0.0, 2.15, 0.785)
CONTROL_STEPS = 24  # physics steps between two judgements of the task: a control period of the simulator
LEAD_S = 0.05  # how far ahead a twist puts the target
CATCH_UP = 24  # physics steps that are made up for after a delay


class FakeArm:
    """Thread-safe. The arm holds its joints unless ``follow`` or ``twist`` or ``joints_to`` moves it; ``step`` runs the physics
    up to a time. ``force`` [3] N is what the arm is pushed with."""

    def __init__(self, suite: str = "demo", image_size: int = 64) -> None:
        self.lock = threading.RLock()
        self._env = PandaEnv(suite, image_size=image_size)
        self._task = self._env.suite.expert[0].name
        self._env.reset(seed=0, options={"task": self._task})
        self._p, self._panda = self._env.world.p, self._env.world.arm
        self._target: Pose | None = None
        self._twist: tuple[Any, Any] | None = None
        self._goal = np.array(HOME)
        self._velocity = 0.0  # rad/s towards the goal
        self._wanted = np.array(HOME)
        self._width, self._grip_speed, self._grip_to = 0.08, 0.0, 0.08
        self._time_s: float | None = None
        self._steps = 0
        self.judged: dict[str, Any] = {"task": self._task, "success": False, "failure": False}
        self._place(np.array(HOME))

    def _place(self, q: Any) -> None:
        for joint, angle in zip(ARM, q, strict=True):
            self._p.resetJointState(self._panda.id, joint, angle, 0.0)
        self._goal = self._wanted = np.array(q)
        self._command()

    # ---- who moves it ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Brakes: the joints stay where they are."""
        with self.lock:
            self._target = self._twist = None
            self._goal = self._wanted = self.joints()
            self._velocity = 0.0

    def follow(self, target: Pose) -> None:
        with self.lock:
            self._target, self._twist = target, None

    def twist(self, linear: Any, angular: Any) -> None:
        with self.lock:
            self._target, self._twist = None, (np.asarray(linear), np.asarray(angular))

    def joints_to(self, q: Any, velocity: float) -> None:
        with self.lock:
            self._target = self._twist = None
            self._wanted, self._goal, self._velocity = self.joints(), np.asarray(q, np.float64), velocity

    def grip(self, width: float, speed: float) -> None:
        with self.lock:
            self._grip_to, self._grip_speed = width, speed

    # ---- what it is ------------------------------------------------------------------------------------------------

    def joints(self) -> Any:
        with self.lock:
            return np.array([state[0] for state in self._p.getJointStates(self._panda.id, ARM)])

    def velocities(self) -> Any:
        with self.lock:
            return np.array([state[1] for state in self._p.getJointStates(self._panda.id, ARM)])

    def tip(self) -> Pose:
        """Of fr3_hand_tcp: PyBullet's grasp target is 1.6 mm further out."""
        with self.lock:
            state = self._p.getLinkState(self._panda.id, TIP, computeForwardKinematics=True)
        axis = np.array(self._p.getMatrixFromQuaternion(state[5])).reshape(3, 3)[:, 2]
        return Pose.of(np.array(state[4]) - 0.0016 * axis, state[5])

    def width(self) -> float:
        with self.lock:
            return self._panda.gripper_width()

    def force(self) -> Any:
        with self.lock:
            contacts = self._p.getContactPoints(bodyA=self._panda.id)
        return sum((np.array(one[7]) * one[9] for one in contacts), np.zeros(3))

    def image(self) -> ByteArray:
        with self.lock:
            return self._env.world.render(CAMERAS["front"])

    # ---- the table -------------------------------------------------------------------------------------------------

    def set_scene(self, task: str, seed: int) -> None:
        """What an operator does between episodes: the things are put where the seed says, the arm stays where it is."""
        with self.lock:
            q, width = self.joints(), self._width
            self._env.reset(seed=seed, options={"task": task})
            self._place(q)
            self._width = self._grip_to = width
            self.judged = {"task": task, "success": False, "failure": False}

    def step(self, time_s: float) -> None:
        """Run the physics up to a time (s)."""
        with self.lock:
            if self._time_s is None:
                self._time_s = time_s
            steps = int((time_s - self._time_s) * PHYSICS_HZ)
            self._time_s += steps / PHYSICS_HZ
            for _ in range(min(steps, CATCH_UP) // 4 or (1 if steps else 0)):
                self._advance(4 / PHYSICS_HZ)
                self._env.world.settle(4)
                self._steps += 4
                if self._steps >= CONTROL_STEPS:
                    self._steps -= CONTROL_STEPS
                    self._judge()

    def _judge(self) -> None:
        *_, self.judged = self._env._stepped()  # success is the environment's to say, which else steps by itself

    def _advance(self, dt: float) -> None:
        way = self._grip_to - self._width
        self._width += float(np.clip(way, -self._grip_speed * dt, self._grip_speed * dt))
        if self._twist is not None:
            linear, angular = self._twist
            now = self.tip()
            self._target = Pose.of(now.p + linear * LEAD_S, multiply(exp(angular * LEAD_S), now.q))
            self._move(self._target)
            self._target = None
        elif self._target is not None:
            self._move(self._target)
        else:
            left = self._goal - self._wanted
            farthest, reach = float(np.abs(left).max()), self._velocity * dt
            self._wanted = self._goal if farthest <= reach else self._wanted + left * (reach / farthest)
            self._command()

    def _move(self, target: Pose) -> None:
        axis = np.array(self._p.getMatrixFromQuaternion(target.quaternion)).reshape(3, 3)[:, 2]
        self._panda.move(target.p + 0.0016 * axis, yaw(target.q), self._width / 0.04 - 1)

    def _command(self) -> None:
        self._panda._command(self._wanted, self._width / 0.04 - 1)

    def close(self) -> None:
        self._env.close()
