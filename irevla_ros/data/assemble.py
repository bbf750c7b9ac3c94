"""From the records of an open episode's log to the tensors of its sealed file."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import EpisodeMeta, Outcome, TerminationReason
from irevla_ros.data.container import AnyArray, Bytes
from irevla_ros.data.log import Record, records
from irevla_ros.data.schema import PER_OBSERVATION, PER_STEP, episode_metadata, image_tensors, meta_from_json

TERMINAL = (TerminationReason.SUCCESS, TerminationReason.FAILURE)


@dataclass(frozen=True)
class LoggedEpisode:
    """The whole steps of a log: T steps and T + 1 observations. ``unread_bytes`` follow the last whole step."""

    meta: EpisodeMeta
    steps: tuple[Record, ...]
    observations: tuple[Record, ...]
    unread_bytes: int

    def sealed(self, outcome: Outcome, reason: TerminationReason, fingerprint: str = "", perturbed: bool = False,
               defects: tuple[str, ...] = ()) -> tuple[dict[str, AnyArray | Bytes], dict[str, str]]:  # fmt: skip
        """Tensors and metadata of the sealed file.

        The reason sets the last row: success and failure terminate, everything else truncates. ``fingerprint``: of the
        backbone, where the metadata have none yet. ``perturbed`` and ``defects``: what became known while it was recorded.
        """
        count = len(self.steps)
        last = np.arange(count) == count - 1
        nobody = np.zeros(count, np.bool_)
        tensors: dict[str, AnyArray | Bytes] = {
            "terminated": last if reason in TERMINAL else nobody,
            "truncated": nobody if reason in TERMINAL else last,
        }
        tensors.update({name: _stack(self.steps, name) for name in PER_STEP if name not in tensors})
        tensors.update({name: _stack(self.observations, name) for name in PER_OBSERVATION})
        if "latents" in self.observations[0].tensors:
            tensors["latents"] = _stack(self.observations, "latents")
        described: Mapping[str, Any] = json.loads(self.observations[0].metadata["cameras"])
        for camera in described:
            frames = [record.tensors[f"images.{camera}"].data for record in self.observations]
            tensors.update(image_tensors(camera, frames))
        cameras = {name: (entry[0], tuple(entry[1])) for name, entry in described.items()}
        meta = replace(self.meta, outcome=outcome, termination_reason=reason, defects=defects,
                       perturbed=perturbed or self.meta.perturbed,
                       backbone_fingerprint=fingerprint or self.meta.backbone_fingerprint)  # fmt: skip
        return tensors, episode_metadata(meta, cameras, count)


def read_log(fd: int) -> LoggedEpisode | None:
    """The whole steps of an open log; a step counts when the observation after it is there.

    The records are views of the mapped file, which lives as long as they do. None when the first record is unreadable.
    """
    log = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
    found = records(log)
    first = next(found, None)
    if first is None or first.kind != "episode":
        return None
    steps: list[Record] = []
    observations: list[Record] = []
    for record in found:
        (observations if record.kind == "observation" else steps).append(record)
    whole = max(0, len(observations) - 1)
    end = observations[-1].end if observations else first.end
    try:
        meta = meta_from_json(first.metadata["meta"], "the log's first record")
    except DataError:
        return None
    return LoggedEpisode(meta, tuple(steps[:whole]), tuple(observations), len(log) - end)


def _stack(rows: tuple[Record, ...], name: str) -> AnyArray:
    return np.stack([row.tensors[name] for row in rows])
