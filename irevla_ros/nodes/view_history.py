"""What the spool tells the page: the episodes of before a graph was gone on with, and what an arm saw last while it waits."""

from __future__ import annotations

import os
from pathlib import Path

from irevla_ros.core.errors import IrevlaError
from irevla_ros.core.types import ByteArray
from irevla_ros.data.paths import SEALED
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord


class ViewHistory:
    """The episodes of the run ``run_id`` in the folder ``run``; nothing where there is no such folder on this host."""

    def __init__(self, run: str, run_id: str) -> None:
        folder = Path(run) / "practice"
        self._run_id = run_id
        self._reader = SpoolReader(folder) if run and folder.is_dir() else None

    def newest(self, count: int) -> list[EpisodeRecord]:
        """The ``count`` episodes that were sealed last, in that order; those that cannot be read are left out."""
        if self._reader is None:
            return []
        sealed = sorted((entry.stat().st_mtime_ns, entry.name) for entry in os.scandir(self._reader.root)
                        if entry.name.endswith(SEALED))  # fmt: skip
        found = []
        for _, name in sealed[-count:]:
            try:
                found.append(self._reader.record(name[: -len(SEALED)]))
            except IrevlaError:
                continue  # `irevla episodes verify` tells
        return [one for one in found if one.meta.run_id == self._run_id]

    def last_picture(self, episode_id: str, camera: str) -> ByteArray | None:
        """The last image of an episode, uint8 RGB [H, W, 3]; None where there is none."""
        try:
            episode = self._reader.read(episode_id, cameras=(camera,), latents=False) if self._reader is not None else None
        except IrevlaError:
            return None
        return episode.images[camera][-1] if episode is not None else None
