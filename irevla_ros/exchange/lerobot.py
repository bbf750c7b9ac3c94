"""A spool as a LeRobotDataset v3: parquet and video, with what the format cannot hold in files beside them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Episode
from irevla_ros.data.container import Container, container_chunks
from irevla_ros.data.files import disk_errors
from irevla_ros.data.paths import sealed_path
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.disk.files import write_whole
from irevla_ros.exchange import lerobot_layout as layout
from irevla_ros.exchange.folder import new_folder
from irevla_ros.exchange.sealed import labels_of, latents_beside
from irevla_ros.exchange.video import VideoWriter, pixel_format

SIDE_FORMAT, SIDE_VERSION = "irevla-lerobot-side", "1"


def export_lerobot(reader: SpoolReader, records: Iterable[EpisodeRecord], out: Path, lossless: bool = False) -> Iterator[str]:
    """Write ``out``; yields each episode's id when it is written. lossless: frames as they are, in larger videos.

    Raises:
        DataError: an episode is damaged or of another robot, cameras or rate than the first, ``out`` exists, there is no
            episode, or the disk refuses.
    """
    with new_folder(out) as folder:
        dataset: _Dataset | None = None
        for record in records:
            episode = reader.read(record.episode_id)
            if dataset is None:
                dataset = _Dataset(folder, layout.Shape.of(episode), lossless)
            dataset.add(episode)
            _write_side(reader, record, episode, folder / layout.SIDE / f"{record.episode_id}.safetensors")
            yield record.episode_id
        if dataset is None:
            raise DataError(f"{out}", "a dataset has at least one episode", "see irevla episodes list, with the same filters")
        dataset.finish()


@dataclass
class _Place:
    """Where the next episode goes: files of one kind, numbered in chunks, begun anew when one is full."""

    chunk_index: int = 0
    file_index: int = 0

    def following(self) -> _Place:
        file = self.file_index + 1
        return _Place(self.chunk_index, file) if file < layout.FILES_PER_CHUNK else _Place(self.chunk_index + 1)


@dataclass
class _Dataset:
    """A dataset under way."""

    root: Path
    shape: layout.Shape
    lossless: bool
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _stats: list[layout.Stats] = field(default_factory=list)
    _tasks: dict[str, int] = field(default_factory=dict)
    _frames: int = 0
    _data_place: _Place = field(default_factory=_Place)
    _data: pq.ParquetWriter | None = None
    _video_places: dict[str, _Place] = field(default_factory=dict)
    _videos: dict[str, VideoWriter] = field(default_factory=dict)

    def add(self, episode: Episode) -> None:
        meta, number = episode.meta, len(self._rows)
        found = layout.Shape.of(episode)
        if found != self.shape:
            raise DataError(f"episode {meta.episode_id!r} has {found}", f"a dataset has one shape, here {self.shape}",
                            "export them apart (--task, --run, --mode), or as mcap")  # fmt: skip
        task = self._tasks.setdefault(meta.instruction, len(self._tasks))
        columns = layout.frame_columns(episode, number, self._frames, task, self.shape.fps)
        stats = layout.episode_stats(columns, {name: frames[:-1] for name, frames in episode.images.items()})
        row: dict[str, Any] = {
            "episode_index": number, "tasks": [meta.instruction], "length": len(episode),
            "dataset_from_index": self._frames, "dataset_to_index": self._frames + len(episode),
            "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
            "irevla/episode_id": meta.episode_id, "irevla/task": meta.task, "irevla/mode": meta.mode.value,
            "irevla/outcome": meta.outcome.value, "irevla/termination_reason": meta.termination_reason.value,
            "irevla/run_id": meta.run_id, "irevla/seed": meta.seed, "irevla/operator": meta.operator,
        }  # fmt: skip
        row |= {f"data/{key}": value for key, value in vars(self._add_data(layout.frame_table(columns))).items()}
        for camera, frames in episode.images.items():
            row |= self._add_video(camera, frames[:-1])
        row |= {f"stats/{name}/{key}": value for name, one in layout.plain(stats).items() for key, value in one.items()}
        self._rows.append(row)
        self._stats.append(stats)
        self._frames += len(episode)

    def _add_data(self, table: pa.Table) -> _Place:
        path = self._data_path()
        if self._data is not None and path.stat().st_size / 1e6 >= layout.DATA_MB:
            self._data.close()
            self._data, self._data_place = None, self._data_place.following()
            path = self._data_path()
        if self._data is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pq.ParquetWriter(path, table.schema)
        self._data.write_table(table)
        return self._data_place

    def _data_path(self) -> Path:
        return self.root / layout.DATA.format(**vars(self._data_place))

    def _add_video(self, camera: str, frames: Any) -> dict[str, Any]:
        key, fps = layout.IMAGE + camera, self.shape.fps
        place = self._video_places.setdefault(camera, _Place())
        if camera in self._videos and self._videos[camera].megabytes >= layout.VIDEO_MB:
            self._videos.pop(camera).close()
            place = self._video_places[camera] = place.following()
        if camera not in self._videos:
            path = self.root / layout.VIDEO.format(video_key=key, **vars(place))
            self._videos[camera] = VideoWriter(path, frames.shape[1], frames.shape[2], fps, self.lossless)
        video = self._videos[camera]
        first = video.frames
        video.append(frames)
        times = {"from_timestamp": first / fps, "to_timestamp": video.frames / fps}
        return {f"videos/{key}/{name}": value for name, value in {**vars(place), **times}.items()}

    def finish(self) -> None:
        """What is known only at the end: videos closed, meta/ written."""
        for video in self._videos.values():
            video.close()
        if self._data is not None:
            self._data.close()
        sizes = dict(self.shape.cameras)
        about = {"video.codec": "h264"}
        if sizes:
            about["video.pix_fmt"] = pixel_format(*next(iter(sizes.values())), self.lossless)
        episodes = self.root / layout.EPISODES.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._rows), episodes)
        pq.write_table(layout.tasks_table(list(self._tasks)), self.root / layout.TASKS)
        info = layout.info(self.shape, len(self._rows), self._frames, len(self._tasks), about)
        for name, content in ((layout.INFO, info), (layout.STATS, layout.plain(layout.join_stats(self._stats)))):
            (self.root / name).write_text(json.dumps(content, indent=4, allow_nan=False) + "\n")


def _write_side(reader: SpoolReader, record: EpisodeRecord, episode: Episode, path: Path) -> None:
    """What a frame cannot hold: the last observation, latents, the words said of the episode, its labels and its hash."""
    path.parent.mkdir(exist_ok=True)
    last = record.first_step + record.steps
    with Container(sealed_path(reader.root, record.episode_id)) as sealed:
        tensors: dict[str, Any] = {"proprio": episode.proprio[-1:], "stamps_ns": episode.stamps_ns[-1:]}
        for camera in record.cameras:
            start, stop = (int(offset) for offset in sealed.rows(f"images.{camera}.offsets", last, last + 2))
            tensors[f"images.{camera}"] = sealed.rows(f"images.{camera}.data", start, stop)
        if episode.latents is not None:
            tensors["latents"] = episode.latents
        beside = latents_beside(reader, record.episode_id)
        for number, latents in enumerate(beside.values()):
            tensors[f"latents.{number}"] = latents[record.first_step : last + 1]
        metadata = {"format": SIDE_FORMAT, "version": SIDE_VERSION, "sealed": json.dumps(sealed.metadata),
                    "episode_sha256": sealed.digest, "labels": labels_of(reader.root, record.episode_id).decode(),
                    "latents": json.dumps(list(beside)), "kept": json.dumps([record.first_step, last])}  # fmt: skip
    with disk_errors(path):
        write_whole(path, b"".join(container_chunks(tensors, metadata)))


def not_in_frames(records: Iterable[EpisodeRecord], lossless: bool) -> list[str]:
    """What LeRobot's format cannot hold of these episodes, in words, and where it is instead."""
    records = list(records)
    counted = Counter(
        trimmed=sum(record.steps < record.sealed_steps for record in records),
        labelled=sum(record.label_revision > 0 for record in records),
    )
    said = [f"in {layout.SIDE}/: the last observation of each episode, latents, control rate, software, backbone, labels "
            f"({counted['labelled']} episodes have some)"]  # fmt: skip
    if not lossless and any(record.cameras for record in records):
        said.append("nowhere: exact pixels, as the video loses some (--lossless keeps them, in larger files that browsers do "
                    "not play)")  # fmt: skip
    if counted["trimmed"]:
        said.append(f"nowhere: the steps that labels trim off {counted['trimmed']} episodes")
    return said


