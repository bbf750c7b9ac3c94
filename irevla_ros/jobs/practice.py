"""The practice spool as the learner of the graph sees it: which episodes answer an order, and reading them for learning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import ControlSource, Episode, HalfArray, Mode, Outcome
from irevla_ros.data.paths import sealed_path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.orders import ABSENT, ACCEPTED, Wanted
from irevla_ros.policy.vla import VLA

ENCODED_AT_ONCE = 64  # observations


@dataclass(frozen=True)
class _Acted:
    """Steps of the policy and of a human in an episode, and the versions of the policy."""

    policy: int
    human: int
    versions: frozenset[int]


class Practice:
    """Reads what recorders wrote of the run ``run_id``: others count versions of the policy for themselves.

    Not for several threads: each has one of its own.
    """

    def __init__(self, spool: Spool, run_id: str) -> None:
        self._spool, self._reader, self._run_id = spool, SpoolReader(spool.root), run_id
        self._acted: dict[str, _Acted] = {}
        self.successes: dict[str, bool] = {}  # of the episodes that were accepted

    def record(self, episode_id: str) -> EpisodeRecord:
        return self._reader.record(episode_id)

    def frames(self, episode_id: str, camera: str) -> Episode:
        """The episode with the pictures of one camera, without latents."""
        return self._reader.read(episode_id, cameras=(camera,), latents=False)

    def examine(self, episode_id: str, wanted: Wanted) -> str:
        """ACCEPTED, ABSENT, or why the episode does not answer the order."""
        if not sealed_path(self._spool.root, episode_id).is_file():
            return ABSENT
        try:
            record = self._reader.record(episode_id)
            if record.meta.run_id != self._run_id:
                return f"it is of run {record.meta.run_id!r}, this is {self._run_id!r}"
            objection = _objection(record, wanted) or self._other_policy(record, wanted)
        except DataError as error:
            return str(error)
        if not objection:
            self.successes[episode_id] = record.meta.outcome is Outcome.SUCCESS
        return objection

    def find(self, wanted: Sequence[Wanted]) -> dict[int, str]:
        """Index -> id of an episode in the spool that answers it already."""
        open_ = {(one.task, one.seed, one.mode): index for index, one in enumerate(wanted)}
        found: dict[int, str] = {}
        for record in self._readable() if wanted else ():
            meta = record.meta
            index = open_.get((meta.task, meta.seed, meta.mode))
            if index is not None and index not in found and self.examine(record.episode_id, wanted[index]) == ACCEPTED:
                found[index] = record.episode_id
        return found

    def demonstrations(self, task: str) -> list[str]:
        """Ids of the successes that a person has shown of ``task``, whichever run they were recorded for."""
        return [record.episode_id for record in self._readable()
                if record.matches(task=task, mode=Mode.DEMO, outcome=Outcome.SUCCESS, run=None, discarded=False)
                and self._who_acted(record.episode_id).human]  # fmt: skip

    def revision(self, episode_id: str) -> int:
        """Of its labels: the number changes with every verdict, discard or note that somebody gives later."""
        return self._reader.record(episode_id).label_revision

    def usable(self, ids: Iterable[str]) -> list[str]:
        """Those that nobody has discarded, or left without outcome, since they were collected."""
        return [name for name in ids if _fault(self._reader.record(name)) == ""]

    def read(self, ids: Iterable[str], vla: VLA, fingerprint: str, mode: Mode, version: int) -> list[Episode]:
        """Episodes to learn from: with latents of ``vla``'s backbone, encoded and kept beside them where they lack them.

        mode: what they were collected as; version: the learner's number of the head that acted in them.
        """
        episodes = []
        for name in ids:
            record = self._reader.record(name)
            if self._reader.missing_latents(fingerprint, [record]):
                images = self._reader.read(name, cameras=vla.cameras, latents=False, trimmed=False)
                self._spool.write_latents(name, fingerprint, encode(vla, images), durable=False)
                self._spool.commit()
            episode = self._reader.read(name, cameras=(), fingerprint=fingerprint)
            policy = episode.source == ControlSource.POLICY
            episodes.append(replace(
                as_labelled(episode, record.sealed_outcome), meta=replace(episode.meta, mode=mode),
                head_version=np.where(policy, version, -1).astype(np.int64),
            ))  # fmt: skip
        return episodes

    def _readable(self) -> Iterator[EpisodeRecord]:
        """All but the damaged: `irevla episodes verify` tells of those; here they only mean one episode less."""
        for name in self._reader.ids():
            with contextlib.suppress(DataError):
                yield self._reader.record(name)

    def _other_policy(self, record: EpisodeRecord, wanted: Wanted) -> str:
        """Why the steps are not those that were wanted: another policy's, or a person's where only the policy's count."""
        if wanted.versions is None:
            return ACCEPTED
        acted = self._who_acted(record.episode_id)
        others = record.steps - acted.policy
        if not acted.policy or (wanted.mode is Mode.EVAL and others):
            return f"{others} of {record.steps} steps are not the policy's"
        if strange := acted.versions - wanted.versions:
            return f"version {min(strange)} of the policy acted, {max(wanted.versions)} was announced"
        return ACCEPTED

    def _who_acted(self, episode_id: str) -> _Acted:
        """What is sealed never changes."""
        if episode_id not in self._acted:
            episode = self._reader.read(episode_id, cameras=(), latents=False)
            policy = episode.source == ControlSource.POLICY
            human = episode.source == ControlSource.HUMAN
            self._acted[episode_id] = _Acted(int(policy.sum()), int(human.sum()),
                                             frozenset(map(int, episode.head_version[policy])))  # fmt: skip
        return self._acted[episode_id]


def encode(vla: VLA, episode: Episode) -> HalfArray:
    """Latents float16 [T + 1, m, d] of every observation."""
    frames = np.stack([episode.images[camera] for camera in vla.cameras], axis=1)
    tokens = vla.backbone.tokenize([episode.meta.instruction]).expand(ENCODED_AT_ONCE, -1)
    with torch.inference_mode():
        parts = [vla.latents(part, tokens[: len(part)]).half() for part in torch.from_numpy(frames).split(ENCODED_AT_ONCE)]
    return np.asarray(torch.cat(parts).numpy(), np.float16)


def as_labelled(episode: Episode, sealed: Outcome) -> Episode:
    """The episode as its verdict has it, whenever that came: success ends it for good, also one that time or a stop had ended;
    a verdict other than the ``sealed`` one replaces the reward of the end."""
    late = episode.meta.outcome is not sealed
    if not len(episode) or not (late or (episode.success and not episode.terminated[-1])):
        return episode
    last = np.arange(len(episode)) == len(episode) - 1
    terminated = episode.terminated | (last & episode.success)
    reward = np.where(last & late, np.float32(episode.success), episode.reward).astype(np.float32)
    return replace(episode, reward=reward, terminated=terminated, truncated=last & ~terminated)


def _fault(record: EpisodeRecord) -> str:
    if record.discarded:
        return "it was discarded"
    if record.meta.outcome is Outcome.UNKNOWN or record.steps == 0:
        return f"it has no outcome ({record.meta.termination_reason.value})"
    return ""


def _objection(record: EpisodeRecord, wanted: Wanted) -> str:
    meta = record.meta
    if (meta.task, meta.seed, meta.mode) != (wanted.task, wanted.seed, wanted.mode):
        return f"it is of task {meta.task}, seed {meta.seed}, mode {meta.mode.value}"
    return _fault(record)
