"""One arm's cameras, pose and gripper, listened to: ``core.observation_join`` makes observations of them."""

from __future__ import annotations

from collections.abc import Callable

from irevla_ros.core.health import Level
from irevla_ros.core.messages import MessageError
from irevla_ros.core.observation_join import JoinLimits, ObservationJoin
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import Observation
from irevla_ros.nodes import convert, topics
from irevla_ros.nodes.node import GraphNode
from irevla_ros.nodes.parameters.streams import StreamsConfig
from irevla_ros.ros import QoSProfile
from irevla_ros.ros.messages import CompressedImage, Image, JointState, PoseStamped
from irevla_ros.ros.qos import SENSOR


class ObservationStreams:
    """Calls ``observed(stamp_ns, observation)`` once for each observation that is complete, in order of stamps.

    The instruction of an observation is ``instruction`` as it stands then. ``forget`` starts anew (a new episode).
    ``repeated(stamp_ns)`` is called when the newest observation is sent again: in lock step the simulator asks so for an
    answer that was lost. ``real_time``: the quality of service outside of lock step.
    """

    def __init__(self, node: GraphNode, config: StreamsConfig, observed: Callable[[int, Observation], object],
                 arm: str = "", spec: ProprioSpec = ProprioSpec(),
                 repeated: Callable[[int], object] | None = None, real_time: QoSProfile = SENSOR) -> None:  # fmt: skip
        self._repeated = repeated
        self._node, self._config, self._told, self._arm = node, config, observed, arm
        limits = JoinLimits(config.max_age_ns, config.camera_skew_ns, config.silence_ns, node.lock_step)
        self._join = ObservationJoin(config.cameras, limits, self._observed, self._lost, spec)
        self.meter = node.health.watch(self._name("observations"), stale_ns=config.silence_ns,
                                       expected=lambda: node.expects_observations(arm))  # fmt: skip
        kind = CompressedImage if config.compressed else Image
        qos = topics.LOCK_STEP if node.lock_step else real_time
        for camera in config.cameras:
            topic = topics.compressed_image(camera) if config.compressed else topics.image(camera)
            node.create_subscription(kind, topics.of(arm, topic), self._on_image(camera), qos)
        node.create_subscription(PoseStamped, topics.of(arm, topics.POSE), self._on_pose, qos)
        node.create_subscription(JointState, topics.of(arm, topics.GRIPPER), self._on_gripper, qos)

    @property
    def instruction(self) -> str:
        return self._join.instruction

    @instruction.setter
    def instruction(self, words: str) -> None:
        self._join.instruction = words

    def forget(self) -> None:
        """Drop what has not been completed; later observations may have any stamp."""
        self._join.forget()

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
            self._node.seen(stamp_ns)
            if first and stamp_ns == self._join.emitted_ns and self._repeated is not None:
                self._repeated(stamp_ns)
            self._join.image(camera, stamp_ns, convert.fit(pixels, size, size) if size else pixels, self._node.wall_ns())

        return received

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            pose = convert.pose_of(message)
        except MessageError as error:
            self._node.refuse(self._name("pose"), error)
            return
        stamp_ns = convert.stamp_of(message.header)
        self._node.seen(stamp_ns)
        self._join.pose(stamp_ns, pose, self._node.wall_ns())

    def _on_gripper(self, message: JointState) -> None:
        try:
            width = convert.width_of(message)
        except MessageError as error:
            self._node.refuse(self._name("gripper"), error)
            return
        stamp_ns = convert.stamp_of(message.header)
        self._node.seen(stamp_ns)
        self._join.width(stamp_ns, width, self._node.wall_ns())

    # ---- what goes out -------------------------------------------------------------------------------------------

    def _observed(self, stamp_ns: int, observation: Observation) -> None:
        self.meter.arrived(self._node.wall_ns())
        self._node.health.check(self._name("alignment"), Level.OK)
        self._told(stamp_ns, observation)

    def _lost(self, stamp_ns: int, why: str) -> None:
        self._node.health.counts[self._name("observations.lost")] += 1
        self._node.health.check(self._name("alignment"), Level.WARN, f"observation of stamp {stamp_ns} lost: {why}")

    def _name(self, what: str) -> str:
        return f"{self._arm}.{what}" if self._arm else what
