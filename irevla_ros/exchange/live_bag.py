"""Episodes from a bag of the live graph (``ros2 bag record``): joined by the parts that the recorder joins them with.

What is not on topics is not in a bag: latents, and of the policy's steps the log-probability and the head's version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from irevla_ros import __version__
from irevla_ros.core.arbiter_step import ArbiterStep
from irevla_ros.core.assembly import AssemblyConfig
from irevla_ros.core.durations import LONGEST, SECOND
from irevla_ros.core.episode_join import EpisodeJoin
from irevla_ros.core.episode_state import EpisodeState, Judge, Phase, Verdict
from irevla_ros.core.errors import DataError
from irevla_ros.core.graph_messages import RewardValue
from irevla_ros.core.late import LateLabel, Told
from irevla_ros.core.messages import MessageError
from irevla_ros.core.observation_join import JoinLimits, ObservationJoin
from irevla_ros.core.rows import Append, Assembled, episode_of
from irevla_ros.core.spec import ActionSpec
from irevla_ros.core.types import Observation, Outcome
from irevla_ros.data.codecs import ImageCodec
from irevla_ros.data.labels import Label, dump_labels
from irevla_ros.data.schema import encode_episode
from irevla_ros.exchange.bag import STORE, bag_topics, open_bag
from irevla_ros.exchange.sealed import Parcel
from irevla_ros.nodes import convert, topics

REAL_TIME_NS = 86_400 * SECOND  # stamps further than a day from the time of recording are a simulation's, in lock step


@dataclass(frozen=True)
class LiveSettings:
    """As the recorder's parameters: cameras, the first of which gives the stamps (none: the only one in the bag);
    image_size in pixels, square, 0 for as they come; rate_hz of control."""

    cameras: tuple[str, ...] = ()
    image_size: int = 64
    rate_hz: float = 10.0


def read_live_bag(path: Path, settings: LiveSettings, refused: Callable[[str], object]) -> Iterator[Parcel]:
    """The episodes of every arm in the bag, each as it ends. ``refused`` is told of what could not be taken, and why.

    Raises:
        DataError: the bag cannot be read, holds no episode states, or several cameras and none is named.
    """
    names = bag_topics(path)
    arms = sorted(name.removesuffix(f"/{topics.STATE}") for name in names if name.endswith(f"/{topics.STATE}"))
    if not arms:
        raise DataError(f"{path}", f"a bag of the graph has {topics.STATE}, which tells where episodes begin",
                        "record all topics that docs/data.md names")  # fmt: skip
    simulated = _simulated(path, names)
    made = [_Arm(arm, names, settings, simulated, refused) for arm in arms]
    listeners = {topic: (one, hear) for one in made for topic, hear in one.topics().items()}
    wall_ns = 0
    with open_bag(path) as bag:
        for connection, wall_ns, data in bag.messages([c for c in bag.connections if c.topic in listeners]):
            arm, hear = listeners[connection.topic]
            try:
                hear(STORE.deserialize_cdr(data, connection.msgtype), wall_ns)
            except MessageError as error:
                refused(f"{connection.topic}: {error}")
            yield from arm.advance(wall_ns)
    for one in made:
        yield from one.finish(wall_ns)


def _simulated(path: Path, names: set[str]) -> bool:
    """Whether the poses' stamps are a simulation's rather than near the time of recording."""
    poses = {name for name in names if name.endswith(f"/{topics.POSE}")}
    with open_bag(path) as bag:
        for connection, wall_ns, data in bag.messages([c for c in bag.connections if c.topic in poses]):
            message: Any = STORE.deserialize_cdr(data, connection.msgtype)
            return abs(convert.stamp_of(message.header) - wall_ns) > REAL_TIME_NS
    raise DataError(f"{path}", f"a bag of the graph has {topics.POSE}", "record all topics that docs/data.md names")


@dataclass
class _Ended:
    """An episode that has ended, and what became known of it since."""

    told: Told
    parcel: Parcel | None
    late: list[LateLabel] = field(default_factory=list)

    def hear(self, revised: tuple[Told, LateLabel | None]) -> None:
        self.told = revised[0]
        self.late += [revised[1]] if revised[1] is not None else []

    def labelled(self) -> Iterator[Parcel]:
        if self.parcel is not None:
            labels = [Label(k, late.outcome, late.who, late.discard) for k, late in enumerate(self.late, start=1)]
            yield replace(self.parcel, labels=dump_labels(labels))


class _Arm:
    """What the recorder of one arm would have made of the bag."""

    def __init__(self, name: str, names: set[str], settings: LiveSettings, lock_step: bool,
                 refused: Callable[[str], object]) -> None:  # fmt: skip
        self._name, self._names, self._settings, self._refused = name, names, settings, refused
        self._cameras = settings.cameras or self._only_camera()
        self._streams = ObservationJoin(self._cameras, JoinLimits(lock_step=lock_step), self._observed, self._lost)
        self._newest: EpisodeState | None = None
        self._newest_ns = 0
        self._join: EpisodeJoin | None = None
        self._appends: list[Append] = []
        self._ended: list[_Ended] = []  # the last two: a verdict on them may follow

    def topics(self) -> dict[str, Callable[[Any, int], None]]:
        """Topic -> what takes its messages, with the time of recording."""
        found: dict[str, Callable[[Any, int], None]] = {
            topics.POSE: lambda message, wall: self._streams.pose(self._stamp(message), convert.pose_of(message), wall),
            topics.GRIPPER: lambda message, wall: self._streams.width(self._stamp(message), convert.width_of(message), wall),
            topics.STATE: lambda message, wall: self._on_state(EpisodeState.from_json(message.data), wall),
            topics.STEP: lambda message, wall: self._on_step(ArbiterStep.from_json(message.data), wall),
            topics.REWARD: lambda message, _: self._on_reward(RewardValue.from_json(message.data)),
            topics.VERDICT: lambda message, _: self._on_verdict(Verdict.from_json(message.data)),
        }
        for camera in self._cameras:
            raw = f"{self._name}/{topics.image(camera)}" in self._names
            found[topics.image(camera) if raw else topics.compressed_image(camera)] = partial(self._on_image, camera)
        return {f"{self._name}/{topic}": hear for topic, hear in found.items()}

    def advance(self, wall_ns: int) -> Iterator[Parcel]:
        """Join what is ready; the episodes on which nothing more can follow."""
        join = self._join
        if join is not None:
            self._appends += join.poll(wall_ns)
            if join.result is not None and join.state.phase is Phase.END:
                self._ended.append(_Ended(Told.of(join.state, join.result), self._parcel(join, join.result)))
                self._join = None
        while len(self._ended) > 2:
            yield from self._ended.pop(0).labelled()

    def finish(self, wall_ns: int) -> Iterator[Parcel]:
        """The bag has ended."""
        self._leave(wall_ns)
        for ended in self._ended:
            yield from ended.labelled()

    # ---- what the bag says -------------------------------------------------------------------------------------------

    def _on_state(self, state: EpisodeState, wall_ns: int) -> None:
        if not state.supersedes(self._newest):
            return
        self._newest = state
        if state.phase in (Phase.RESET, Phase.IDLE) or self._join is None or state.episode_id != self._join.state.episode_id:
            self._leave(wall_ns)
        ended = next((one for one in self._ended if one.told.episode_id == state.episode_id), None)
        if state.phase is Phase.RESET:
            self._streams.forget()
            self._streams.instruction = state.instruction
            self._join, self._appends = EpisodeJoin(state, AssemblyConfig(latents=False)), []
        elif self._join is not None:
            self._join.follow(state, wall_ns)
        elif ended is not None:
            ended.hear(ended.told.revised(state))
        elif state.phase is Phase.RUN:
            self._refused(f"{state.episode_id}: its beginning is not in the bag")

    def _leave(self, wall_ns: int) -> None:
        """Close what is under way: the episode node has gone on, or the bag has ended."""
        if self._join is not None:
            self._join.leave(self._newest_ns, wall_ns)
            for _ in self.advance(wall_ns + LONGEST):
                raise AssertionError("at most two episodes have ended here")

    def _on_image(self, camera: str, message: Any, wall_ns: int) -> None:
        pixels, size = convert.image_pixels(message), self._settings.image_size
        self._streams.image(camera, self._stamp(message), convert.fit(pixels, size, size) if size else pixels, wall_ns)

    def _on_step(self, record: ArbiterStep, wall_ns: int) -> None:
        if self._join is not None and record.episode_id:
            self._join.step(record, wall_ns)

    def _on_reward(self, reward: RewardValue) -> None:
        if self._join is not None:
            self._join.reward(reward.stamp_ns, reward.value)

    def _on_verdict(self, verdict: Verdict) -> None:
        outcome = Outcome.SUCCESS if verdict.success else Outcome.FAILURE
        for one in self._ended:
            if verdict.judge is Judge.OPERATOR and one.told.episode_id == verdict.episode_id:
                one.hear(one.told.judged(outcome, verdict.judge.value))

    def _observed(self, stamp_ns: int, observation: Observation) -> None:
        if self._join is not None:
            self._join.observation(stamp_ns, observation)

    def _lost(self, stamp_ns: int, why: str) -> None:
        if self._join is not None:
            self._refused(f"{self._join.state.episode_id}: observation of stamp {stamp_ns} lost: {why}")

    def _stamp(self, message: Any) -> int:
        stamp_ns = convert.stamp_of(message.header)
        self._newest_ns = max(self._newest_ns, stamp_ns)
        return stamp_ns

    def _only_camera(self) -> tuple[str, ...]:
        found = sorted({name.removeprefix(f"{self._name}/camera/").split("/")[0]
                        for name in self._names if name.startswith(f"{self._name}/camera/")})  # fmt: skip
        if len(found) != 1:
            raise DataError(f"{self._name}: cameras {', '.join(found) or 'none'}", "the stamps of one are the observations'",
                            "name them as the recorder's parameter `cameras` does: --cameras FIRST,SECOND")  # fmt: skip
        return tuple(found)

    # ---- what it comes to --------------------------------------------------------------------------------------------

    def _parcel(self, join: EpisodeJoin, result: Assembled) -> Parcel | None:
        name = join.state.episode_id
        if result.refusal:
            self._refused(f"{name}: {result.refusal}; {result.steps} steps before that are sound")
        if result.discarded:
            self._refused(f"{name}: discarded")
        if result.discarded or not result.steps:
            return None
        meta = join.state.meta(ActionSpec(), self._settings.rate_hz, {"irevla_ros": __version__})
        tensors, metadata = encode_episode(episode_of(meta, self._appends, result), ImageCodec())
        return Parcel(tensors, metadata, "")
