"""The recorder's hand in the spool: episodes opened, appended row by row, and closed in whichever way they came out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from irevla_ros.core.errors import DataError
from irevla_ros.core.rows import Append, Assembled
from irevla_ros.core.types import EpisodeMeta, Outcome, TerminationReason
from irevla_ros.data.container import Container
from irevla_ros.data.files import disk_errors
from irevla_ros.data.paths import log_path, sealed_path, side_path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.schema import meta_from_json
from irevla_ros.data.side import remove_leftovers
from irevla_ros.data.spool import Spool
from irevla_ros.data.writer import EpisodeWriter, Step


@dataclass(frozen=True)
class Closed:
    """What became of an episode: ``steps`` of it are sealed (0: nothing is), and why not as they should be."""

    episode_id: str
    steps: int
    outcome: Outcome = Outcome.UNKNOWN
    reason: TerminationReason = TerminationReason.STOPPED
    refusal: str = ""
    latents: bool = False


class Archive:
    """One arm's episodes in the spool ``root``, one at a time; recovers on construction what a dead recorder left.

    ``own``: whether an episode id is of this arm. min_free_bytes: below that no episode is opened. Sealed means on the disk,
    in lock step too: the file is synced under a pending name, renamed, and the folder synced before ``close`` returns.
    """

    def __init__(self, root: Path, own: Callable[[str], bool], min_free_bytes: int) -> None:
        self.root, self._min_free_bytes = root, min_free_bytes
        self.spool = Spool(root)
        self.leftovers = remove_leftovers(root, own)
        self._writer: EpisodeWriter | None = None
        self._left: list[str] = []  # episodes whose logs wait for room

    def free_bytes(self) -> int:
        with disk_errors(self.root):
            return shutil.disk_usage(self.root).free

    def open(self, meta: EpisodeMeta) -> None:
        """Starts the log. ``DataError``: too little room, a taken id, or the disk refuses."""
        free = self.free_bytes()
        if free < self._min_free_bytes:
            raise DataError(f"{self.root}: {free / 1e6:.0f} MB free", f"{self._min_free_bytes / 1e6:.0f} MB are kept free",
                            "free space, or lower min_free_bytes")  # fmt: skip
        if self._left:
            self.spool.recover()
            self._left = [left for left in self._left if log_path(self.root, left).exists()]
        self._writer = self.spool.open_episode(meta)

    def append(self, rows: Sequence[Append]) -> None:
        """Raises ``DataError`` when the disk refuses; the rows after the failure must not be appended any more."""
        writer = self._writer
        assert writer is not None
        for row in rows:
            if row.step is not None:
                writer.append_step(Step(**vars(row.step)))
            writer.append_observation(row.stamp_ns, row.observation)

    def sync(self) -> None:
        """What has been appended survives a power cut from here on."""
        if self._writer is not None:
            self._writer.sync()

    def close(self, episode_id: str, result: Assembled, broken: str = "", perturbed: bool = False,
              defects: tuple[str, ...] = ()) -> Closed:  # fmt: skip
        """Seals the episode, or removes it when nothing is to be kept. ``broken``: why appending failed, "" if it did not;
        ``perturbed`` and ``defects`` are kept with it.

        An episode that cannot be sealed now (a full disk) keeps its log: it is sealed up to its last whole step, as
        recovered, when the next one is opened.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return self._found(episode_id, broken)
        if result.discarded or not (result.steps if not broken else writer.steps):
            writer.abort()
            return Closed(episode_id, 0, refusal=broken or result.refusal)
        try:
            if broken:
                raise DataError(broken, "the log is sealed as far as it goes", "free space")
            sealed = writer.seal(result.outcome, result.reason, result.latents, result.fingerprint, perturbed, defects)
        except DataError as error:
            writer.leave()
            self._left.append(episode_id)
            return self._recovered(episode_id, broken or str(error))
        return Closed(episode_id, sealed.steps, result.outcome, result.reason, result.refusal, result.latents is not None)

    def disown(self, episode_id: str, why: str, discarded: str = "") -> Closed:
        """What there is of an episode that this process did not record; ``why`` it did not. Its side segment goes.

        discarded: by whom, where it is not to be learned from; "" otherwise."""
        with disk_errors(self.root):
            side_path(self.root, episode_id).unlink(missing_ok=True)
        found = self._found(episode_id, why)
        if discarded and found.steps:
            self.spool.label(episode_id, None, discarded, discard=True, note=why)
        return found

    def judge(self, episode_id: str, outcome: Outcome, who: str) -> None:
        """A verdict on an episode that an earlier process recorded. ``DataError`` where it may not be whole or is absent."""
        record = SpoolReader(self.root).record(episode_id)
        if record.meta.termination_reason in (TerminationReason.RECOVERED, TerminationReason.STOPPED):
            raise DataError(f"verdict on {episode_id}", f"it may not be whole ({record.meta.termination_reason.value})",
                            "look at it, and use irevla episodes relabel")  # fmt: skip
        if outcome is not record.meta.outcome:
            self.spool.label(episode_id, outcome, who, discard=record.discarded)

    def _recovered(self, episode_id: str, why: str) -> Closed:
        try:
            self.spool.recover()
        except DataError:
            return Closed(episode_id, 0, refusal=why)
        return self._found(episode_id, why)

    def _found(self, episode_id: str, why: str) -> Closed:
        path = sealed_path(self.root, episode_id)
        if not path.exists():
            return Closed(episode_id, 0, refusal=why)
        with Container(path) as sealed:
            meta = meta_from_json(sealed.metadata["meta"], str(path))
            refusal = why if meta.termination_reason is TerminationReason.RECOVERED else ""
            return Closed(episode_id, int(sealed.metadata["steps"]), meta.outcome, meta.termination_reason, refusal,
                          "latents" in sealed.table)  # fmt: skip
