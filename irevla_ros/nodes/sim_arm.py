"""The simulated arm as a robot's drivers would show it: resets and motion in, stamped messages out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from irevla_ros.core.chunks import ActionChunk
from irevla_ros.core.durations import period_ns
from irevla_ros.core.episode_state import EpisodeState
from irevla_ros.core.errors import ConfigError, IrevlaError
from irevla_ros.core.graph_messages import SimState
from irevla_ros.core.rotation import Pose
from irevla_ros.core.rotation import yaw as yaw_of
from irevla_ros.core.types import ByteArray, Mode
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.parameters.sim import SimConfig
from irevla_ros.ros import Node
from irevla_ros.ros.messages import CameraInfo, Image, JointState, JointTrajectory, PoseStamped, String, numbers
from irevla_ros.ros.qos import COMMAND, EVENT
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.experts import ScriptedExpert
from irevla_ros.sim.world import CAMERAS, SUBSTEPS

JOINTS = [*(f"panda_joint{number}" for number in range(1, 8)), "panda_finger_joint1", "panda_finger_joint2"]
PARKED = np.array([0.43, 0.0, 0.17])  # m: the tip before the first reset


class SimulatedArm:
    """One ``PandaEnv`` and the publishers of its observations. ``step`` moves it on by one control period, ``observe``
    publishes what there is to see now, ``repeat`` publishes the last observation again."""

    def __init__(self, node: Node, config: SimConfig) -> None:
        self._config, self._period_ns = config, period_ns(config.rate_hz)
        self._env = PandaEnv(config.suite, cameras=config.cameras, image_size=config.image_size)
        self._env.world.place_arm(PARKED, 0.0, 1.0)
        self._expert: ScriptedExpert | None = None
        self._seen: dict[str, ByteArray] | None = None  # images of the present moment, where they are drawn already
        self._info: dict[str, Any] = {}
        self._sent: list[tuple[Any, Any]] = []

        qos = topics.observation_qos(config.lock_step)
        self._pose = node.create_publisher(PoseStamped, topics.POSE, qos)
        self._gripper = node.create_publisher(JointState, topics.GRIPPER, qos)
        self._images = {name: node.create_publisher(Image, topics.image(name), qos) for name in config.cameras}
        self._state = node.create_publisher(String, topics.SIM_STATE, EVENT)
        self._script = node.create_publisher(JointTrajectory, topics.SCRIPT, COMMAND) if config.script else None
        if not config.lock_step:
            self._joints = node.create_publisher(JointState, topics.JOINTS, qos)
            self._camera_infos = {name: node.create_publisher(CameraInfo, topics.camera_info(name), qos)
                                  for name in config.cameras}  # fmt: skip

    def reset(self, state: EpisodeState) -> str:
        """Set up the scene of the state's task and seed; says why it could not, "" when it has."""
        try:
            if state.seed < 0:
                raise ConfigError(f"seed {state.seed}", "the simulator's seeds are not negative", "give another")
            observed, self._info = self._env.reset(seed=state.seed, options={"task": state.task})
        except IrevlaError as error:
            return str(error)
        self._seen = observed
        wanted = self._script is not None and state.mode is Mode.DEMO
        self._expert = self._env.expert() if wanted else None
        return ""

    def step(self, target: Pose | None, opening: float, judged: bool) -> None:
        """One control period towards ``target``, gripper open when ``opening`` is positive; None keeps the joints where
        they were told to be. ``judged``: success counts now, a run is on."""
        env, yaw = self._env, 0.0 if target is None else yaw_of(target.q)
        if judged:
            observed, _, _, _, self._info = env.hold() if target is None else env.step_to(target.p, yaw, opening)
            self._seen = observed
        else:
            if target is None:
                env.world.settle(SUBSTEPS)
            else:
                env.world.move_to(target.p, yaw, opening)
            self._seen = None

    def disturb(self) -> None:
        """Move something of the scene, as a person would who wants to make it harder."""
        self._env.disturb()

    def observe(self, stamp_ns: int, judged: bool) -> None:
        """Pose, gripper and the rest first, images last: who has the image of a stamp has, or is about to have, all."""
        arm, frame = self._env.world.arm, self._config.frame
        self._sent = [(self._pose, convert.pose_message(Pose.of(*arm.tip()), stamp_ns, frame)),
                      (self._gripper, convert.width_message(arm.gripper_width(), stamp_ns))]  # fmt: skip
        if not self._config.lock_step:
            joints = JointState(header=convert.header(stamp_ns), name=JOINTS, position=numbers("d", arm.joints()))
            self._sent.append((self._joints, joints))
        if judged:
            info = self._info
            known = SimState(stamp_ns, info["task"], info["success"], info["failure"])
            self._sent.append((self._state, String(data=known.to_json())))
        images = self._seen or {name: self._env.world.render(CAMERAS[name]) for name in self._config.cameras}
        for name, publisher in self._images.items():
            self._sent.append((publisher, convert.image_message(images[name], stamp_ns, name)))
            if not self._config.lock_step:
                self._sent.append((self._camera_infos[name], _camera_info(name, self._config.image_size, stamp_ns)))
        if judged and self._expert is not None:
            chunk = ActionChunk(stamp_ns, self._env.actions.names, self._expert.act()[None], self._period_ns)
            self._sent.append((self._script, convert.chunk_message(chunk)))
        self.repeat()

    def repeat(self) -> None:
        for publisher, message in self._sent:
            publisher.publish(message)

    def close(self) -> None:
        self._env.close()


def _camera_info(name: str, size: int, stamp_ns: int) -> CameraInfo:
    """Of a square pinhole image whose optical axis is its centre."""
    focal, centre = size / 2 / math.tan(math.radians(CAMERAS[name].fov_deg) / 2), size / 2
    info = CameraInfo(header=convert.header(stamp_ns, name), height=size, width=size, distortion_model="plumb_bob")
    info.d = numbers("d", np.zeros(5))
    info.k = np.array([focal, 0, centre, 0, focal, centre, 0, 0, 1], np.float64)
    info.r = np.eye(3).ravel()
    info.p = np.array([focal, 0, centre, 0, 0, focal, centre, 0, 0, 0, 1, 0], np.float64)
    return info
