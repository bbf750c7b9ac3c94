"""Recording one episode as it happens: append, sync, seal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import (
    ControlSource,
    EpisodeMeta,
    FloatArray,
    HalfArray,
    Observation,
    Outcome,
    TerminationReason,
)
from irevla_ros.data import log
from irevla_ros.data.assemble import read_log
from irevla_ros.data.codecs import ImageCodec
from irevla_ros.data.container import AnyArray, Bytes, container_chunks
from irevla_ros.data.files import create_locked, disk_errors, pending_of, write_pending
from irevla_ros.data.schema import check_camera, check_column, check_fingerprint, meta_to_json
from irevla_ros.disk.files import sync_folder

SYNC_INTERVAL_S = 0.5  # half of the promised second, so that appends at 2 Hz and above keep it


@dataclass(frozen=True)
class Step:
    """What happened between two observations; see ``Episode`` for the meaning and the units of each field."""

    proposed: FloatArray
    executed: FloatArray
    commanded: FloatArray
    source: ControlSource
    log_prob: float = float("nan")
    head_version: int = -1
    reward: float = 0.0


@dataclass(frozen=True)
class SealedEpisode:
    """A finished file. sha256: content hash, hexadecimal; path exists once the episode is durable (see ``Spool``)."""

    episode_id: str
    path: Path
    sha256: str
    steps: int
    size_bytes: int


def write_sealed(
    episode_id: str, path: Path, tensors: dict[str, AnyArray | Bytes], metadata: dict[str, str], *, durable: bool
) -> SealedEpisode:
    """Writes a sealed file whole or not at all; errors as ``write_pending``."""
    size, last = 0, b""

    def measured() -> Iterator[bytes | memoryview]:
        nonlocal size, last
        for chunk in container_chunks(tensors, metadata):
            size, last = size + len(chunk), bytes(chunk[-32:])
            yield chunk

    write_pending(path, measured(), replace=False, durable=durable)
    return SealedEpisode(episode_id, path, last.hex(), int(metadata["steps"]), size)


class EpisodeWriter:
    """Appends observation, step, observation, step, ..., observation; then ``seal``. Made by ``Spool.open_episode``.

    Every append reaches the kernel before it returns, so that kill -9 loses nothing that was appended; what a power cut
    may cost is bounded by ``sync``, which appends call when ``sync_interval_s`` has passed. A recorder whose stream can
    stall calls ``sync`` from a timer too.
    """

    def __init__(
        self,
        path: Path,
        sealed_path: Path,
        meta: EpisodeMeta,
        codec: ImageCodec,
        clock: Callable[[], float] = time.monotonic,
        sync_interval_s: float = SYNC_INTERVAL_S,
    ) -> None:
        self.meta = meta
        self._what = f"episode {meta.episode_id!r}"
        self._path, self._sealed_path = path, sealed_path
        self._codec, self._clock, self._sync_interval_s = codec, clock, sync_interval_s
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._stamp_ns = -(1 << 63)
        self._observations = self._steps = self._synced_steps = 0
        first = log.pack("episode", {}, {"meta": meta_to_json(meta)})
        with disk_errors(path):
            try:
                self._fd = create_locked(path)
            except FileExistsError:
                raise DataError(f"{path}", "one writer at a time records an episode",
                                "use another episode id") from None  # fmt: skip
            try:
                if sealed_path.exists() or pending_of(sealed_path).exists():
                    raise DataError(f"{sealed_path}", "a sealed episode never changes", "use another episode id")
                self._end = log.append(self._fd, 0, log.MAGIC + first)
                os.fsync(self._fd)
                sync_folder(path.parent)
            except BaseException:
                self._remove_log()
                raise
        self._synced_at = self._clock()

    @property
    def steps(self) -> int:
        """Whole steps so far: those whose next observation has been appended."""
        return max(0, self._observations - 1)

    @property
    def synced_steps(self) -> int:
        """Whole steps that survive a power cut."""
        return self._synced_steps

    def append_observation(self, stamp_ns: int, observation: Observation, latents: HalfArray | None = None) -> None:
        """Appends observation t at ``stamp_ns`` (later than the previous one); latents: float16 [m, d] or None.

        Raises:
            DataError: out of turn, another shape, camera or instruction than before, or the disk is full. The episode
                is then as it was before the call.
        """
        if self._observations != self._steps:
            raise self._misuse("two observations in a row", "append the step between them")
        if stamp_ns <= self._stamp_ns:
            raise self._misuse(f"stamp {stamp_ns} after {self._stamp_ns}", "drop the repeated or late observation")
        if observation.instruction != self.meta.instruction:
            raise self._misuse(f"instruction {observation.instruction!r} in an episode of {self.meta.instruction!r}",
                               "seal this episode and open another")  # fmt: skip
        tensors: dict[str, AnyArray] = {
            "proprio": check_column(self._what, "proprio", observation.proprio, "float32", 1),
            "stamps_ns": np.array(stamp_ns, np.int64),
        }
        shapes = {"proprio": observation.proprio.shape}
        for camera, frame in observation.images.items():
            check_camera(self._what, camera)
            shapes[f"images.{camera}"] = check_column(self._what, camera, frame, "uint8", 3).shape
        if latents is not None:
            tensors["latents"] = check_column(self._what, "latents", latents, "float16", 2)
            shapes["latents"] = latents.shape
        if self._shapes not in (None, shapes):
            raise self._misuse(f"observation {self._observations} has {shapes} after {self._shapes}",
                               "keep cameras and sizes as in the first observation")  # fmt: skip
        cameras = {}
        for camera, frame in observation.images.items():
            tensors[f"images.{camera}"] = np.frombuffer(self._codec.encode(frame), np.uint8)
            cameras[camera] = (self._codec.format_of(*frame.shape[:2]), frame.shape)
        synced = self._append("observation", tensors, {"cameras": json.dumps(cameras)})
        self._shapes, self._stamp_ns = shapes, stamp_ns
        self._observations += 1
        self._note_sync(synced)

    def append_step(self, step: Step) -> None:
        """Appends the step that follows the last observation; actions float32 [A]. Raises as ``append_observation``."""
        if self._observations != self._steps + 1:
            raise self._misuse("a step without an observation before it", "append the observation first")
        tensors: dict[str, AnyArray] = {
            name: check_column(self._what, name, getattr(step, name), "float32", 1)
            for name in ("proposed", "executed", "commanded")
        }
        if len({tensor.shape for tensor in tensors.values()} | {(len(self.meta.action_names),)}) != 1:
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            raise self._misuse(f"action sizes {shapes} for {len(self.meta.action_names)} action names",
                               "give all three actions in the dimensions of meta.action_names")  # fmt: skip
        tensors["source"] = np.array(step.source, np.uint8)
        tensors["log_prob"] = np.array(step.log_prob, np.float32)
        tensors["head_version"] = np.array(step.head_version, np.int64)
        tensors["reward"] = np.array(step.reward, np.float32)
        synced = self._append("step", tensors, {})
        self._steps += 1
        self._note_sync(synced)

    def sync(self) -> None:
        """Puts everything appended on the disk (fdatasync)."""
        with disk_errors(self._path):
            os.fdatasync(self._fd)
        self._note_sync(True)

    def seal(self, outcome: Outcome, reason: TerminationReason, latents: HalfArray | None = None,
             fingerprint: str = "", perturbed: bool = False, defects: tuple[str, ...] = ()) -> SealedEpisode:  # fmt: skip
        """Writes the sealed file, makes it durable, and only then removes the log.

        The reason marks the last step: success and failure as terminated, any other as truncated. latents: float16
        [T + 1, m, d] of the backbone with ``fingerprint``, where they were not appended with the observations. ``perturbed``
        and ``defects`` as in ``EpisodeMeta``.

        Raises:
            DataError: latents of other rows or type, no whole step, a step without its next observation, or a full disk.
                Nothing is half sealed, and the writer can go on: free space and seal again, ``leave`` or ``abort``. Sealing
                needs room for a second copy.
        """
        if self._steps == 0 or self._steps != self.steps:
            raise self._misuse(f"{self._observations} observations and {self._steps} steps cannot be sealed",
                               "append the observation after the last step, or abort")  # fmt: skip
        self.sync()
        logged = read_log(self._fd)
        if logged is None or len(logged.steps) != self._steps or logged.unread_bytes:
            raise DataError(f"{self._path}", "the log must hold every step appended",
                            "check the disk; recovery at the next start keeps what is whole")  # fmt: skip
        tensors, metadata = logged.sealed(outcome, reason, fingerprint, perturbed, defects)
        if latents is not None:
            check_column(self._what, "latents", latents, "float16", 3)
            check_fingerprint(fingerprint)
            if len(latents) != self._observations or "latents" in tensors:
                raise self._misuse(f"latents of {len(latents)} observations for {self._observations}",
                                   "give one row an observation, once")  # fmt: skip
            tensors["latents"] = latents
        sealed = write_sealed(self.meta.episode_id, self._sealed_path, tensors, metadata, durable=True)
        with disk_errors(self._path):
            self._remove_log()
        return sealed

    def leave(self) -> None:
        """Lets go of the log as it is: the spool's recovery seals it up to the last whole step, when there is room."""
        os.close(self._fd)

    def abort(self) -> None:
        """Forgets the episode: removes the log."""
        with disk_errors(self._path):
            self._remove_log()

    def _append(self, kind: str, tensors: dict[str, AnyArray], metadata: dict[str, str]) -> bool:
        """Appends a record, and syncs when that is due; True if so. A refused sync takes the record back."""
        due = self._clock() - self._synced_at >= self._sync_interval_s
        with disk_errors(self._path):
            end = log.append(self._fd, self._end, log.pack(kind, tensors, metadata))
            if due:
                try:
                    os.fdatasync(self._fd)
                except OSError:
                    os.ftruncate(self._fd, self._end)
                    raise
            self._end = end
        return due

    def _note_sync(self, synced: bool) -> None:
        if synced:
            self._synced_at, self._synced_steps = self._clock(), self.steps

    def _remove_log(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def _misuse(self, value: str, remedy: str) -> DataError:
        return DataError(f"{self._what}: {value}", "an episode is observation, step, observation, ..., observation, "
                         "all of one shape, stamps increasing", remedy)  # fmt: skip
