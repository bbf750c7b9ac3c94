"""The Gymnasium environment: one Panda, one task at a time, images plus proprioception plus an instruction."""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from irevla_ros.core.errors import ConfigError, unknown_name
from irevla_ros.core.spec import ActionSpec, ProprioSpec
from irevla_ros.core.types import ByteArray, FloatArray, Observation
from irevla_ros.sim.experts import ExpertNoise, ScriptedExpert
from irevla_ros.sim.panda import Vector
from irevla_ros.sim.suite import Suite, load_suite
from irevla_ros.sim.tasks import Task, TaskSpec
from irevla_ros.sim.world import CAMERAS, CONTROL_HZ, SUBSTEPS, World

Stepped = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]

START_LOW = np.array([0.39, -0.06, 0.14])  # m: where the tip starts
START_HIGH = np.array([0.47, 0.06, 0.20])
INSTRUCTION_LENGTH = 80


def instruction_space() -> spaces.Text:
    return spaces.Text(INSTRUCTION_LENGTH, charset=string.ascii_lowercase + " ")


class PandaEnv(gymnasium.Env[dict[str, Any], FloatArray]):
    """One episode = one task of a suite.

    Observation: each camera's uint8 image [size, size, 3], ``proprio`` float32 [6] (``ProprioSpec``), ``instruction``.
    Action: float32 [5] in [-1, 1] (``ActionSpec``). Reward 1 on success, else 0. Success and failure terminate; the
    family's time limit truncates. ``reset(seed=..., options={"task": name})`` picks the task; without the option the
    task given at construction or, without one, a random one of the suite. ``info`` has ``task``, ``success`` and
    ``failure``. The same seed and task give bit-equal episodes for equal actions.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}

    def __init__(
        self,
        suite: str | Suite = "demo",
        task: str | None = None,
        cameras: tuple[str, ...] = ("front",),
        image_size: int = 64,
        render_mode: str | None = None,
    ) -> None:
        for camera in cameras:
            if camera not in CAMERAS:
                raise unknown_name("camera", camera, CAMERAS)
        if image_size < 8 or not cameras:
            raise ConfigError(f"image_size {image_size}, cameras {cameras}", "at least 8 pixels and one camera",
                              "raise image_size or name a camera")  # fmt: skip
        self.suite = load_suite(suite) if isinstance(suite, str) else suite
        self.actions, self.proprio = ActionSpec(), ProprioSpec()
        self.cameras = tuple(CAMERAS[name] for name in cameras)
        self.render_mode = render_mode
        self._fixed_task = self.suite.task(task) if task is not None else None
        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                **{camera.name: image for camera in self.cameras},
                "proprio": spaces.Box(-10.0, 10.0, (self.proprio.size,), np.float32),
                "instruction": instruction_space(),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (self.actions.size,), np.float32)
        self.world = World(image_size, self.actions)
        self.task: Task | None = None
        self._steps = self._held = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.task = self._choose(options or {}).build()
        self._steps = self._held = 0
        self.world.clear()
        position = self.np_random.uniform(START_LOW, START_HIGH)
        self.world.place_arm(position, self.np_random.uniform(-0.2, 0.2), 1.0)
        self.task.place(self.world, self.np_random)
        self.world.settle(12)
        return self._observe(), self._info(success=False, failure=False)

    def step(self, action: FloatArray) -> Stepped:
        self._running_task()
        self.world.step(np.asarray(action, np.float32))
        return self._stepped()

    def step_to(self, position: Vector, yaw: float, gripper: float) -> Stepped:
        """As ``step``, towards an absolute pose as a robot is given it: tip [3] m, yaw rad, gripper open when positive."""
        self._running_task()
        self.world.move_to(position, yaw, gripper)
        return self._stepped()

    def hold(self) -> Stepped:
        """As ``step``, without a new command: the joints keep the targets that they have."""
        self._running_task()
        self.world.settle(SUBSTEPS)
        return self._stepped()

    def disturb(self) -> None:
        """Somebody moves an object of the scene a little; which and where to is drawn from the episode's generator."""
        self._running_task()
        self.world.shove(self.np_random)

    def _stepped(self) -> Stepped:
        task = self._running_task()
        self._steps += 1
        self._held = self._held + 1 if task.succeeded(self.world) else 0
        success = self._held >= task.hold
        failure = not success and task.failed(self.world)
        truncated = not (success or failure) and self._steps >= task.time_limit
        return self._observe(), float(success), success or failure, truncated, self._info(success, failure)

    def render(self) -> ByteArray:
        """A larger view of the front camera, uint8 [256, 256, 3], for videos and people."""
        return self.world.render(self.cameras[0], 256)

    def close(self) -> None:
        self.world.close()

    @property
    def time_limit(self) -> int:
        """Control steps of the episode just reset."""
        return self._running_task().time_limit

    def expert(self, noise: ExpertNoise | None = None) -> ScriptedExpert:
        """A scripted expert for the episode just reset; draws its noise from the episode's generator."""
        return ScriptedExpert(self._running_task(), self.world, self.actions, self.np_random, noise)

    def observation(self, observed: dict[str, Any]) -> Observation:
        """The core's type for what ``reset`` and ``step`` return."""
        images = {camera.name: observed[camera.name] for camera in self.cameras}
        return Observation(images, observed["proprio"], observed["instruction"])

    def _choose(self, options: dict[str, Any]) -> TaskSpec:
        if "task" in options:
            return self.suite.task(options["task"])
        if self._fixed_task is not None:
            return self._fixed_task
        return self.suite.tasks[int(self.np_random.integers(len(self.suite.tasks)))]

    def _running_task(self) -> Task:
        if self.task is None:
            raise ConfigError("step before reset", "an episode starts with reset", "call reset first")
        return self.task

    def _observe(self) -> dict[str, Any]:
        images = {camera.name: self.world.render(camera) for camera in self.cameras}
        proprio = self.proprio.to_normalised(self.world.arm.proprio())
        return {**images, "proprio": proprio, "instruction": self._running_task().spec.instruction}

    def _info(self, success: bool, failure: bool) -> dict[str, Any]:
        return {"task": self._running_task().spec.name, "success": success, "failure": failure}
