"""One arm's cameras, pose and gripper as observations: the same ones for policy, reward and recorder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from irevla_ros.core.alignment import Aligner, StreamSpec
from irevla_ros.core.durations import LONGEST
from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.rotation import Pose
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import ByteArray, FloatArray, Observation
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.streams import StreamsConfig
from irevla_ros.ros.messages import CompressedImage, Image, JointState, PoseStamped

PENDING = 16


class ObservationStreams:
    """Calls ``observed(stamp_ns, observation)`` once for each observation that is complete, in order of stamps.

    The instruction of an observation is ``instruction`` as it stands then. ``forget`` starts anew (a new episode).
    ``repeated(stamp_ns)`` is called when the newest observation is sent again: in lock step the simulator asks so for an
    answer that was lost.
    """

    def __init__(self, node: GraphNode, config: StreamsConfig, observed: Callable[[int, Observation], object],
                 arm: str = "", spec: ProprioSpec = ProprioSpec(),
                 repeated: Callable[[int], object] | None = None) -> None:  # fmt: skip
        self.instruction = ""
        self._repeated = repeated
        self._node, self._config, self._observed, self._arm, self._spec = node, config, observed, arm, spec
        self._lock_step = node.lock_step
        self._aligner = self._new_aligner()
        self._ticks: deque[int] = deque(maxlen=PENDING)
        self._emitted_ns = -1
        self.meter = node.health.watch(self._name("observations"), stale_ns=config.silence_ns,
                                       expected=lambda: node.expects_observations(arm))  # fmt: skip
        kind = CompressedImage if config.compressed else Image
        qos = topics.observation_qos(node.lock_step)
        for camera in config.cameras:
            topic = topics.image(camera)
            topic = topic.replace("image_raw", "image_raw/compressed") if config.compressed else topic
            node.create_subscription(kind, topics.of(arm, topic), self._on_image(camera), qos)
        node.create_subscription(PoseStamped, topics.of(arm, topics.POSE), self._on_pose, qos)
        node.create_subscription(JointState, topics.of(arm, topics.GRIPPER), self._on_gripper, qos)

    def forget(self) -> None:
        """Drop what has not been completed; later observations may have any stamp."""
        self._aligner = self._new_aligner()
        self._ticks.clear()
        self._emitted_ns = -1

    def _new_aligner(self) -> Aligner:
        config, exact = self._config, 0 if self._lock_step else None
        wall = None if self._lock_step else config.silence_ns
        first, *others = config.cameras
        specs = [StreamSpec(first, nearest_ns=0, wall_ns=wall, capacity=PENDING)]
        specs += [StreamSpec(name, max_age_ns=config.camera_skew_ns, wall_ns=wall, capacity=PENDING,
                             nearest_ns=0 if self._lock_step else config.camera_skew_ns) for name in others]  # fmt: skip
        specs += [StreamSpec(name, max_age_ns=config.max_age_ns, nearest_ns=exact, wall_ns=wall, capacity=256)
                  for name in (topics.POSE, topics.GRIPPER)]  # fmt: skip
        return Aligner(tuple(specs), **({"jump_ns": LONGEST} if self._lock_step else {}))

    # ---- what arrives --------------------------------------------------------------------------------------------

    def _on_image(self, camera: str) -> Callable[[Image | CompressedImage], None]:
        first, size = camera == self._config.cameras[0], self._config.image_size

        def received(message: Image | CompressedImage) -> None:
            stamp_ns = convert.stamp_of(message.header)
            try:
                pixels = convert.image_pixels(message)
            except MessageError as error:
                self._node.refuse(self._name(f"camera {camera}"), error)
                return
            self._push(camera, stamp_ns, convert.fit(pixels, size, size) if size else pixels)
            if first and stamp_ns > max(self._emitted_ns, *self._ticks, -1):
                if len(self._ticks) == self._ticks.maxlen:
                    self._lost(self._ticks[0])
                self._ticks.append(stamp_ns)
            if first and stamp_ns == self._emitted_ns and self._repeated is not None:
                self._repeated(stamp_ns)
            self._emit()

        return received

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            pose = convert.pose_of(message)
        except MessageError as error:
            self._node.refuse(self._name("pose"), error)
            return
        self._push(topics.POSE, convert.stamp_of(message.header), pose)
        self._emit()

    def _on_gripper(self, message: JointState) -> None:
        try:
            width = convert.width_of(message)
        except MessageError as error:
            self._node.refuse(self._name("gripper"), error)
            return
        self._push(topics.GRIPPER, convert.stamp_of(message.header), width)
        self._emit()

    def _push(self, stream: str, stamp_ns: int, value: ByteArray | Pose | float) -> None:
        self._node.seen(stamp_ns)
        self._aligner.push(stream, stamp_ns, value, self._node.wall_ns())

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _emit(self) -> None:
        while self._ticks:
            found = self._aligner.at(self._ticks[0], self._node.wall_ns())
            if not found.complete:
                # What is missing may still come, but not once there is a newer one: also in lock step, where a late image
                # of the last episode, whose pose was forgotten with it, would else stand before all of this one's.
                if len(self._ticks) == 1:
                    return
                self._lost(self._ticks.popleft(), "; ".join(map(str, found.problems)))
                continue
            stamp_ns = self._emitted_ns = self._ticks.popleft()
            samples = {name: sample.value for name, sample in found.samples.items()}
            self.meter.arrived(self._node.wall_ns())
            self._node.health.check(self._name("alignment"), Level.OK)
            self._observed(stamp_ns, self._observation(samples))

    def _observation(self, samples: Mapping[str, ByteArray | Pose | float]) -> Observation:
        pose, width = samples[topics.POSE], samples[topics.GRIPPER]
        assert isinstance(pose, Pose) and isinstance(width, float)
        values: FloatArray = convert.proprio(pose, width, self._spec)
        return Observation({name: samples[name] for name in self._config.cameras}, values, self.instruction)  # type: ignore[misc]

    def _lost(self, stamp_ns: int, why: str = "nothing completed it") -> None:
        self._node.health.counts[self._name("observations.lost")] += 1
        self._node.health.check(self._name("alignment"), Level.WARN, f"observation of stamp {stamp_ns} lost: {why}")

    def _name(self, what: str) -> str:
        return f"{self._arm}.{what}" if self._arm else what
