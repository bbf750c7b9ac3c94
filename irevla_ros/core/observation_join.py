"""One arm's cameras, pose and gripper as observations: the same ones for policy, reward, recorder and the bag importer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from irevla_ros.core.alignment import Aligner, StreamSpec
from irevla_ros.core.durations import LONGEST, MILLISECOND
from irevla_ros.core.rotation import Pose, raw_proprio
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import ByteArray, Observation

PENDING = 16
POSE, GRIPPER = "current_pose", "gripper/joint_states"  # the names of these streams in what is said of them


@dataclass(frozen=True)
class JoinLimits:
    """max_age_ns of pose and gripper at an observation; camera_skew_ns between cameras; silence_ns of wall time. In lock
    step all stamps of an observation are equal, and nothing is stale."""

    max_age_ns: int = 100 * MILLISECOND
    camera_skew_ns: int = 50 * MILLISECOND
    silence_ns: int = 1000 * MILLISECOND
    lock_step: bool = False


class ObservationJoin:
    """Calls ``observed(stamp_ns, observation)`` once for each observation that is complete, in order of stamps.

    The first of ``cameras`` gives the stamps. The instruction of an observation is ``instruction`` as it stands then.
    ``lost(stamp_ns, why)`` is called for one that nothing completed. Times of arrival, ``wall_ns``, are monotonic.
    """

    def __init__(self, cameras: tuple[str, ...], limits: JoinLimits, observed: Callable[[int, Observation], object],
                 lost: Callable[[int, str], object], spec: ProprioSpec = ProprioSpec()) -> None:  # fmt: skip
        self.instruction = ""
        self.emitted_ns = -1
        self._cameras, self._limits, self._observed, self._lost, self._spec = cameras, limits, observed, lost, spec
        self._aligner = self._new_aligner()
        self._ticks: deque[int] = deque(maxlen=PENDING)

    def forget(self) -> None:
        """Drop what has not been completed; later observations may have any stamp."""
        self._aligner = self._new_aligner()
        self._ticks.clear()
        self.emitted_ns = -1

    def image(self, camera: str, stamp_ns: int, pixels: ByteArray, wall_ns: int) -> None:
        """pixels: uint8 RGB [H, W, 3]."""
        self._aligner.push(camera, stamp_ns, pixels, wall_ns)
        if camera == self._cameras[0] and stamp_ns > max(self.emitted_ns, *self._ticks, -1):
            if len(self._ticks) == self._ticks.maxlen:
                self._lost(self._ticks[0], "nothing completed it")
            self._ticks.append(stamp_ns)
        self._emit(wall_ns)

    def pose(self, stamp_ns: int, pose: Pose, wall_ns: int) -> None:
        self._aligner.push(POSE, stamp_ns, pose, wall_ns)
        self._emit(wall_ns)

    def width(self, stamp_ns: int, width_m: float, wall_ns: int) -> None:
        """The gripper's opening."""
        self._aligner.push(GRIPPER, stamp_ns, width_m, wall_ns)
        self._emit(wall_ns)

    def _new_aligner(self) -> Aligner:
        limits, exact = self._limits, 0 if self._limits.lock_step else None
        wall = None if limits.lock_step else limits.silence_ns
        first, *others = self._cameras
        specs = [StreamSpec(first, nearest_ns=0, wall_ns=wall, capacity=PENDING)]
        specs += [StreamSpec(name, max_age_ns=limits.camera_skew_ns, wall_ns=wall, capacity=PENDING,
                             nearest_ns=0 if limits.lock_step else limits.camera_skew_ns) for name in others]  # fmt: skip
        specs += [StreamSpec(name, max_age_ns=limits.max_age_ns, nearest_ns=exact, wall_ns=wall, capacity=256)
                  for name in (POSE, GRIPPER)]  # fmt: skip
        return Aligner(tuple(specs), **({"jump_ns": LONGEST} if limits.lock_step else {}))

    def _emit(self, wall_ns: int) -> None:
        while self._ticks:
            found = self._aligner.at(self._ticks[0], wall_ns)
            if not found.complete:
                # What is missing may still come, but not once there is a newer one: also in lock step, where a late image
                # of the last episode, whose pose was forgotten with it, would else stand before all of this one's.
                if len(self._ticks) == 1:
                    return
                self._lost(self._ticks.popleft(), "; ".join(map(str, found.problems)))
                continue
            stamp_ns = self.emitted_ns = self._ticks.popleft()
            self._observed(stamp_ns, self._observation({name: sample.value for name, sample in found.samples.items()}))

    def _observation(self, samples: Mapping[str, ByteArray | Pose | float]) -> Observation:
        pose, width = samples[POSE], samples[GRIPPER]
        assert isinstance(pose, Pose) and isinstance(width, float)
        values = self._spec.to_normalised(raw_proprio(pose, width))
        return Observation({name: samples[name] for name in self._cameras}, values, self.instruction)  # type: ignore[misc]
