"""The spool: the one folder where episodes are recorded, sealed, labelled and given latents.

Flat folder, one file per episode and kind; ``<id>`` is ``EpisodeMeta.episode_id``:

- ``<id>.log`` an open episode, locked by its writer;
- ``<id>.episode.safetensors`` a sealed episode, which never changes;
- ``<id>.labels.jsonl`` verdicts given later;
- ``<id>.latents.<first 12 of the fingerprint>.safetensors`` latents computed later;
- ``*.pending`` a file being written, or written and waiting for ``commit``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Episode, EpisodeMeta, HalfArray, Outcome
from irevla_ros.data.codecs import ImageCodec
from irevla_ros.data.container import Container, container_chunks
from irevla_ros.data.files import check_id, disk_errors, pending_of, publish, write_pending
from irevla_ros.data.labels import Label, append_label
from irevla_ros.data.paths import label_path, latents_path, log_path, sealed_path
from irevla_ros.data.recovery import RecoveryEvent, recover
from irevla_ros.data.schema import FORMAT as EPISODE_FORMAT
from irevla_ros.data.schema import (
    LATENTS_FORMAT,
    VERSION,
    check_column,
    check_fingerprint,
    check_format,
    encode_episode,
)
from irevla_ros.data.writer import SYNC_INTERVAL_S, EpisodeWriter, SealedEpisode, write_sealed


class Spool:
    """Writes to the spool in ``root`` (made when absent) and recovers on construction what dead writers left.

    Several processes may use one spool at once. ``recovered`` tells what the recovery did. A lock belongs to the open
    file, and forked children share it: fork before opening an episode, not while one is open.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        codec: ImageCodec | None = None,
        clock: Callable[[], float] = time.monotonic,
        sync_interval_s: float = SYNC_INTERVAL_S,
    ) -> None:
        self.root = Path(root)
        self._codec = codec or ImageCodec()
        self._clock, self._sync_interval_s = clock, sync_interval_s
        self._uncommitted: list[Path] = []
        with disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        self.recovered = self.recover()

    def recover(self) -> tuple[RecoveryEvent, ...]:
        """Seals or clears what dead writers left; living ones are left alone. Safe to repeat and to kill."""
        return recover(self.root)

    def open_episode(self, meta: EpisodeMeta) -> EpisodeWriter:
        """Starts recording. ``DataError`` when the id is unfit or taken, or the disk refuses."""
        check_id(meta.episode_id)
        return EpisodeWriter(
            log_path(self.root, meta.episode_id),
            sealed_path(self.root, meta.episode_id),
            meta,
            self._codec,
            self._clock,
            self._sync_interval_s,
        )

    def write_episode(self, episode: Episode, *, durable: bool = True) -> SealedEpisode:
        """Seals a whole episode at once.

        durable: on the disk under its final name when this returns (one fsync of the file, one of the folder). Without
        it, group commit: the file stays pending, invisible to readers, until ``commit``; kill -9 loses nothing (the
        next ``Spool`` publishes it), a power cut may lose it whole. For simulation, where episodes are cheap.

        Raises:
            DataError: unfit or taken id, a column of another type than the format's, or a full disk.
        """
        episode_id = check_id(episode.meta.episode_id)
        tensors, metadata = encode_episode(episode, self._codec)
        path = sealed_path(self.root, episode_id)
        sealed = write_sealed(episode_id, path, tensors, metadata, durable=durable)
        if not durable:
            self._uncommitted.append(path)
        return sealed

    def commit(self) -> None:
        """Syncs and publishes everything written with ``durable=False``; after an error it can be repeated."""
        publish(self._uncommitted)
        self._uncommitted = []

    def write_latents(self, episode_id: str, fingerprint: str, latents: HalfArray, *, durable: bool = True) -> None:
        """Adds or replaces the latents of one backbone, float16 [T + 1, m, d], beside a sealed episode.

        Raises:
            DataError: no such episode, another number of rows, an unfit fingerprint, or a full disk.
        """
        check_fingerprint(fingerprint)
        what = f"latents of episode {episode_id!r}"
        with Container(sealed_path(self.root, check_id(episode_id))) as sealed:
            check_format(sealed, EPISODE_FORMAT)
            steps, digest = int(sealed.metadata["steps"]), sealed.digest
        check_column(what, "latents", latents, "float16", 3)
        if len(latents) != steps + 1:
            raise DataError(f"{what}: {len(latents)} rows", f"{steps + 1} observations need as many",
                            "encode every observation, the last included")  # fmt: skip
        metadata = {
            "format": LATENTS_FORMAT,
            "version": VERSION,
            "episode_id": episode_id,
            "episode_sha256": digest,
            "fingerprint": fingerprint,
        }
        path = latents_path(self.root, episode_id, fingerprint)
        write_pending(path, container_chunks({"latents": latents}, metadata), replace=True, durable=durable)
        if not durable:
            self._uncommitted.append(path)

    def label(
        self, episode_id: str, outcome: Outcome | None, who: str, *, discard: bool = False, note: str = "",
        keep: tuple[int, int] | None = None,
    ) -> Label:
        """Appends a verdict (None keeps the previous one), a tombstone or a trim (``Label.keep``); durable on return.

        Raises:
            DataError: no such sealed episode, a damaged label file, or a full disk; ``keep`` is no range of its steps.
        """
        sealed = sealed_path(self.root, check_id(episode_id))
        if not sealed.exists() and not pending_of(sealed).exists():
            raise DataError(f"episode {episode_id!r}", f"there is no sealed episode of that id in {self.root}",
                            "seal it first, or see irevla episodes list")  # fmt: skip
        if keep is not None:
            with Container(sealed) as container:
                steps = int(container.metadata["steps"])
            if not 0 <= keep[0] < keep[1] <= steps:
                raise DataError(f"episode {episode_id!r}: steps {keep[0]} to {keep[1]} are to stay",
                                f"it has {steps}, and at least one stays", "see irevla episodes show")  # fmt: skip
        return append_label(label_path(self.root, episode_id), outcome, who, discard=discard, note=note, keep=keep)
