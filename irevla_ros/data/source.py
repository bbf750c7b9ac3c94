"""One sealed episode opened for reading, whole or in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from irevla_ros.core.errors import DataError, unknown_name
from irevla_ros.core.types import Episode
from irevla_ros.data.container import Container
from irevla_ros.data.frames import FrameStream
from irevla_ros.data.paths import latents_path
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.data.schema import LATENTS_FORMAT, PER_OBSERVATION, PER_STEP, check_format

ENDING = ("reward", "terminated", "truncated")  # of the last step: they move with the end of a trimmed episode


class EpisodeSource:
    """An episode's files, open, with the cameras and latents asked for.

    check_content: verifies a file's checksum before anything is taken from it. Arguments and errors otherwise as
    ``SpoolReader.read``.
    """

    def __init__(
        self,
        root: Path,
        check_content: Callable[[Container], None],
        record: EpisodeRecord,
        cameras: Sequence[str] | None,
        fingerprint: str | None,
        latents: bool,
    ) -> None:
        self._meta, self._record = record.meta, record
        self._latents: Container | None = None
        with ExitStack() as stack:
            self._sealed = stack.enter_context(Container(record.path))
            check_content(self._sealed)
            chosen = record.cameras if cameras is None else cameras
            for camera in chosen:
                if camera not in record.cameras:
                    raise unknown_name("camera", camera, record.cameras)
            self._frames = {camera: FrameStream(self._sealed, camera) for camera in chosen}
            inside = "latents" in self._sealed.table
            fits = inside and fingerprint in (None, self._meta.backbone_fingerprint)
            path = latents_path(root, record.episode_id, fingerprint or "")
            if latents and fingerprint is not None and path.exists():
                self._latents = stack.enter_context(Container(path))
                check_content(self._latents)
                check_latents(self._latents, record, fingerprint)
                self._meta = replace(record.meta, backbone_fingerprint=fingerprint)
            elif latents and fits:
                self._latents = self._sealed
            elif latents and fingerprint is not None:
                has = f"latents of {self._meta.backbone_fingerprint!r}" if inside else "no latents"
                raise DataError(f"episode {record.episode_id!r} has {has}", f"those of backbone {fingerprint!r} are "
                                "asked for", "encode it with that backbone (Spool.write_latents)")  # fmt: skip
            self._files = stack.pop_all()

    def slice(self, start: int, stop: int) -> Episode:
        """Steps [start, stop) of those that count, with the stop - start + 1 observations around them."""
        record = self._record
        start, stop = start + record.first_step, stop + record.first_step
        columns: dict[str, Any] = {name: self._sealed.rows(name, start, stop) for name in PER_STEP}
        if stop == record.first_step + record.steps < record.sealed_steps:
            for name in ENDING:
                columns[name][-1:] = self._sealed.rows(name, record.sealed_steps - 1)
        columns.update({name: self._sealed.rows(name, start, stop + 1) for name in PER_OBSERVATION})
        images = {camera: frames.rows(start, stop + 1) for camera, frames in self._frames.items()}
        latents = None if self._latents is None else self._latents.rows("latents", start, stop + 1)
        return Episode(meta=self._meta, images=images, latents=latents, **columns)

    def __enter__(self) -> EpisodeSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()


def check_latents(container: Container, record: EpisodeRecord, fingerprint: str | None) -> None:
    """``DataError`` unless the file holds latents of this very recording and of this backbone (None: of any)."""
    check_format(container, LATENTS_FORMAT)
    found = container.metadata.get("fingerprint")
    if fingerprint is not None and found != fingerprint:
        raise DataError(f"{container.path}: latents of backbone {found!r}", f"those of {fingerprint!r} are asked for",
                        "encode the episode with that backbone (Spool.write_latents)")  # fmt: skip
    if container.metadata.get("episode_sha256") != record.sha256:
        raise DataError(f"{container.path}: made from another recording", "latents belong to one sealed file",
                        "delete it and encode the episode again")  # fmt: skip
