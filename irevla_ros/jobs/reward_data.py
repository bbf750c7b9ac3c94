"""From labelled episodes to labelled observations: what a success classifier learns from and is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import BoolArray, FloatArray, HalfArray, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.jobs.practice import encode
from irevla_ros.policy.vla import VLA

Labels = npt.NDArray[np.int8]
UNSURE = -1


@dataclass(frozen=True)
class LabelledEpisode:
    """latents float16 [T + 1, m, d], proprio float32 [T + 1, P]; ``success``: the last verdict."""

    episode_id: str
    task: str
    success: bool
    latents: HalfArray
    proprio: FloatArray


@dataclass(frozen=True)
class FrameLabels:
    """Which observations of an episode show success (1), which do not (0), and which are left out (-1).

    Whoever judges a success needs a moment for it, and the arm goes on meanwhile: the button springs back, the cube leaves
    the picture. So the last ``reaction`` observations of a success are left out; the ``shown`` before them are positive. Just
    when success began nobody has written down, so the ``unsure`` before those are left out; all earlier ones are negative,
    and so are all of a failure. They are the hard ones: the same scene, a moment too early.
    """

    reaction: int = 4
    shown: int = 3
    unsure: int = 2

    def __post_init__(self) -> None:
        if self.shown < 1 or min(self.reaction, self.unsure) < 0:
            raise ConfigError(f"reaction = {self.reaction}, shown = {self.shown}, unsure = {self.unsure}",
                              "at least 0, 1 and 0 observations", "give 4, 3 and 2")  # fmt: skip

    def of(self, observations: int, success: bool) -> Labels:
        labels = np.zeros(observations, np.int8)
        if success:
            stop = max(0, observations - self.reaction)
            first = max(0, stop - self.shown)
            labels[max(0, first - self.unsure) :] = UNSURE
            labels[first:stop] = 1
        return labels

    def early(self, observations: int, success: bool) -> BoolArray:
        """The observations in which it is wrong to see success."""
        return self.of(observations, success) == 0


def read_labelled(spools: Sequence[Path], vla: VLA, tasks: Sequence[str] = (), modes: Sequence[Mode] = tuple(Mode),
                  limit: int = 0) -> Iterator[LabelledEpisode]:  # fmt: skip
    """All judged episodes, with latents of ``vla``'s backbone (encoded here where the spool has others).

    limit: at most so many successes and so many failures of each task, in the order of their names; 0: all.
    Raises ``DataError`` where the spools have none.
    """
    fingerprint, counts = vla.backbone.fingerprint(), dict[tuple[str, Outcome], int]()
    for spool in spools:
        reader = SpoolReader(spool)
        for record in reader.episodes():
            meta = record.meta
            wanted = meta.outcome is not Outcome.UNKNOWN and record.steps > 0 and meta.mode in modes
            if not wanted or (tasks and meta.task not in tasks):
                continue
            counts[meta.task, meta.outcome] = number = counts.get((meta.task, meta.outcome), 0) + 1
            if limit and number > limit:
                continue
            if reader.missing_latents(fingerprint, [record]):
                episode = reader.read(meta.episode_id, cameras=vla.cameras, latents=False)
                latents = encode(vla, episode)
            else:
                episode = reader.read(meta.episode_id, cameras=(), fingerprint=fingerprint)
                assert episode.latents is not None
                latents = episode.latents
            yield LabelledEpisode(meta.episode_id, meta.task, episode.success, latents, episode.proprio)
    if not counts:
        raise DataError(f"{', '.join(map(str, spools))}: no judged episode" + (f" of {', '.join(tasks)}" if tasks else ""),
                        "a classifier is trained and measured on successes and failures",
                        "record some and judge them (docs/reward.md)")  # fmt: skip
