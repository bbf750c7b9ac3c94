"""Reading the spool: list, select, read whole episodes or stream windows. Never writes, never waits for a writer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Episode, Mode, Outcome
from irevla_ros.data.container import Container
from irevla_ros.data.files import check_id
from irevla_ros.data.labels import LabelHistory, read_labels
from irevla_ros.data.paths import SEALED, label_path, latents_path, sealed_path, split_latents
from irevla_ros.data.records import EpisodeRecord, Window
from irevla_ros.data.schema import FORMAT, check_format, meta_from_json
from irevla_ros.data.source import EpisodeSource, check_latents

_Signature = tuple[int, ...]


class SpoolReader:
    """Reads the sealed episodes of one spool folder.

    The folder is the truth: headers and labels are cached by file identity, size and times, so a later call sees what
    has been sealed or labelled since. Each file is checked against its sha256 when this reader first uses its content.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"spool {self.root}", "a spool is a folder", "check the path, or record episodes first")
        self._sealed: dict[str, tuple[_Signature, EpisodeRecord]] = {}
        self._labels: dict[str, tuple[_Signature, LabelHistory]] = {}
        self._verified: set[tuple[str, _Signature]] = set()

    def ids(self) -> list[str]:
        """Of all sealed episodes, sorted; the damaged and the discarded are among them."""
        return sorted(e.name[: -len(SEALED)] for e in os.scandir(self.root) if e.name.endswith(SEALED))

    def episodes(
        self,
        *,
        task: str | None = None,
        mode: Mode | None = None,
        outcome: Outcome | None = None,
        run: str | None = None,
        discarded: bool = False,
    ) -> list[EpisodeRecord]:
        """Records that match every filter given, sorted by id; discarded ones are left out unless asked for.

        Raises:
            DataError: a file is damaged (``record`` tells for each id).
        """
        found = map(self.record, self.ids())
        return [
            record
            for record in found
            if record.matches(task=task, mode=mode, outcome=outcome, run=run, discarded=discarded)
        ]

    def record(self, episode_id: str) -> EpisodeRecord:
        """Reads the header and the labels only. ``DataError`` when absent or damaged."""
        path = sealed_path(self.root, check_id(episode_id))
        signature = _signature(path)
        if signature is None:
            raise DataError(f"episode {episode_id!r}", f"there is no sealed episode of that id in {self.root}",
                            "see irevla episodes list")  # fmt: skip
        known = self._sealed.get(episode_id)
        if known is None or known[0] != signature:
            known = signature, self._read_header(path)
            self._sealed[episode_id] = known
        record, labels = known[1], self.labels(episode_id)
        first, stop = labels.kept(record.sealed_steps)
        if not 0 <= first < stop <= record.sealed_steps:
            raise DataError(f"{label_path(self.root, episode_id)}: steps {first} to {stop} are kept",
                            f"the episode has {record.sealed_steps}", "the label is another episode's: restore its own")
        return replace(
            record,
            steps=stop - first,
            first_step=first,
            meta=replace(record.meta, outcome=labels.outcome(record.sealed_outcome)),
            label_revision=labels.revision,
            discarded=labels.discarded,
            torn_label_bytes=labels.torn_bytes,
        )

    def labels(self, episode_id: str) -> LabelHistory:
        """All label revisions of an episode; ``DataError`` when the label file is damaged."""
        path = label_path(self.root, check_id(episode_id))
        signature = _signature(path)
        if signature is None:
            return LabelHistory()
        known = self._labels.get(episode_id)
        if known is None or known[0] != signature:
            known = signature, read_labels(path)
            self._labels[episode_id] = known
        return known[1]

    def read(
        self,
        episode_id: str,
        *,
        cameras: Sequence[str] | None = None,
        fingerprint: str | None = None,
        latents: bool = True,
        trimmed: bool = True,
    ) -> Episode:
        """One episode, its ``meta.outcome`` the effective one; rewards and the rest stay as recorded.

        Of a trimmed episode only the steps that count, unless ``trimmed`` is False; where its end was cut off, the last
        step that is left has the reward and the flags of the last sealed one: the episode is to have ended there.

        cameras: only these are read and decoded (None: all; empty: none). fingerprint: latents of this backbone, from
        beside the episode or within it; None: those sealed with the episode, if any. latents: False reads none.

        Raises:
            DataError: absent, damaged, or without latents of that backbone. ConfigError: no such camera.
        """
        record = self.record(episode_id)
        if not trimmed:
            record = replace(record, first_step=0, steps=record.sealed_steps)
        with EpisodeSource(self.root, self.check_content, record, cameras, fingerprint, latents) as source:
            return source.slice(0, record.steps)

    def iter_windows(
        self,
        length: int,
        stride: int,
        records: Sequence[EpisodeRecord] | None = None,
        *,
        cameras: Sequence[str] | None = None,
        fingerprint: str | None = None,
        latents: bool = True,
    ) -> Iterator[Window]:
        """Windows of ``length`` steps starting every ``stride`` steps, in the order of ``records`` (None: all).

        One file is open at a time and one window in memory; a frame is decoded once even where windows overlap. What
        is left at an episode's end, shorter than ``length``, is not yielded. Errors as ``read``.
        """
        if length < 1 or stride < 1:
            raise DataError(f"windows of length {length} and stride {stride}", "both are at least 1", "pass both >= 1")
        for record in self.episodes() if records is None else records:
            with EpisodeSource(self.root, self.check_content, record, cameras, fingerprint, latents) as source:
                for start in range(0, record.steps - length + 1, stride):
                    yield Window(start, source.slice(start, start + length))

    def missing_latents(self, fingerprint: str, records: Sequence[EpisodeRecord] | None = None) -> list[str]:
        """Ids of the episodes that have no latents of this backbone: what a re-encoding job has to do."""
        missing = []
        for record in self.episodes() if records is None else records:
            with Container(record.path) as sealed:
                inside = record.meta.backbone_fingerprint == fingerprint and "latents" in sealed.table
            if not inside and not self._has_latents(record, fingerprint):
                missing.append(record.episode_id)
        return missing

    def dataset_fingerprint(self, records: Sequence[EpisodeRecord] | None = None) -> str:
        """SHA-256 over the sorted lines ``id content-hash label-revision``; equal only for equal data and labels."""
        chosen = self.episodes() if records is None else records
        lines = sorted(f"{record.episode_id} {record.sha256} {record.label_revision}\n" for record in chosen)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def verify(self, episode_id: str) -> EpisodeRecord:
        """Checks every byte of the episode, its labels and its latents, and decodes every frame; the record if sound.

        Raises:
            DataError: the first damage found.
        """
        self._verified = {entry for entry in self._verified if not entry[0].startswith(f"{episode_id}.")}
        record = self.record(episode_id)
        self.read(episode_id, trimmed=False)
        for entry in sorted(os.scandir(self.root), key=lambda entry: entry.name):
            found = split_latents(entry.name)
            if found and found[0] == episode_id:
                with Container(Path(entry.path)) as container:
                    self.check_content(container)
                    check_latents(container, record, None)
        return record

    def check_content(self, container: Container) -> None:
        """Verifies a file once for as long as it stays the same file."""
        signature = _signature(container.path)
        entry = container.path.name, signature or ()
        if entry not in self._verified:
            container.verify()
            self._verified.add(entry)

    def _read_header(self, path: Path) -> EpisodeRecord:
        with Container(path) as container:
            check_format(container, FORMAT)
            try:
                steps, cameras = int(container.metadata["steps"]), tuple(json.loads(container.metadata["cameras"]))
                meta = meta_from_json(container.metadata["meta"], str(path))
            except (KeyError, ValueError) as error:
                raise container.damaged(f"metadata is not that of an episode ({error})") from None
            if f"{meta.episode_id}{SEALED}" != path.name:
                raise container.damaged(f"it holds episode {meta.episode_id!r}")
            return EpisodeRecord(
                path, meta, meta.outcome, steps, cameras, container.digest, container.size, 0, False, 0, 0, steps
            )

    def _has_latents(self, record: EpisodeRecord, fingerprint: str) -> bool:
        path = latents_path(self.root, record.episode_id, fingerprint)
        if not path.exists():
            return False
        with Container(path) as container:
            return container.metadata.get("fingerprint") == fingerprint


def _signature(path: Path) -> _Signature | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
