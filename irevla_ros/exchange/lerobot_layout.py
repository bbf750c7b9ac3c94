"""LeRobotDataset v3.0: where its files lie, what its columns are, and how its statistics are made.

Source of the rules: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and the package lerobot 0.4.4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from irevla_ros.core.errors import DataError
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import ByteArray, Episode
from irevla_ros.data.container import AnyArray

VERSION = "v3.0"
FILES_PER_CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
SIDE = "irevla"  # the folder of what the format cannot hold
IMAGE = "observation.images."

# Our column -> (theirs, type). Steps are frames: frame t has the observation before the step.
COLUMNS = {
    "proprio": ("observation.state", "float32"), "executed": ("action", "float32"),
    "proposed": ("action.proposed", "float32"), "commanded": ("action.commanded", "float32"),
    "source": ("source", "int64"), "log_prob": ("log_prob", "float32"), "head_version": ("head_version", "int64"),
    "reward": ("next.reward", "float32"), "terminated": ("next.terminated", "bool"),
    "truncated": ("next.truncated", "bool"), "stamps_ns": ("stamp_ns", "int64"),
}  # fmt: skip
DERIVED = {"next.done": "bool", "next.success": "bool", "timestamp": "float32", "frame_index": "int64",
           "episode_index": "int64", "index": "int64", "task_index": "int64"}  # fmt: skip
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
SAMPLED = 100  # frames of an episode that statistics of images are made from

Stats = dict[str, dict[str, Any]]  # feature -> statistic -> array


@dataclass(frozen=True)
class Shape:
    """What all episodes of one dataset share. cameras: name -> (height, width)."""

    proprio: int
    actions: tuple[str, ...]
    cameras: tuple[tuple[str, tuple[int, int]], ...]
    fps: int

    @classmethod
    def of(cls, episode: Episode) -> Shape:
        """DataError where the control rate is not a whole number, as the format wants."""
        rate = episode.meta.control_rate_hz
        if rate != round(rate) or rate < 1:
            raise DataError(f"episode {episode.meta.episode_id!r} at {rate:g} Hz", "LeRobot's fps is a whole number",
                            "export it as mcap")  # fmt: skip
        cameras = tuple((name, (frames.shape[1], frames.shape[2])) for name, frames in episode.images.items())
        names = episode.meta.action_names or tuple(f"action_{k}" for k in range(episode.executed.shape[1]))
        return cls(episode.proprio.shape[1], names, cameras, round(rate))

    def features(self, video: Mapping[str, Any]) -> dict[str, Any]:
        """The ``features`` of info.json; ``video`` says how frames are encoded."""
        names = list(ProprioSpec().names)
        vectors = {"proprio": names if len(names) == self.proprio else [f"state_{k}" for k in range(self.proprio)]}
        vectors |= {column: list(self.actions) for column in ("executed", "proposed", "commanded")}
        found: dict[str, Any] = {}
        for column, (name, dtype) in COLUMNS.items():
            axes = vectors.get(column)
            found[name] = {"dtype": dtype, "shape": [len(axes) if axes else 1], "names": axes}
        for camera, (height, width) in self.cameras:
            about = {"video.height": height, "video.width": width, "video.channels": 3, "video.fps": self.fps,
                     "video.is_depth_map": False, "has_audio": False, **video}  # fmt: skip
            found[IMAGE + camera] = {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"],
                                     "info": about}  # fmt: skip
        return found | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in DERIVED.items()}


def info(shape: Shape, episodes: int, frames: int, tasks: int, video: Mapping[str, Any]) -> dict[str, Any]:
    """The content of meta/info.json."""
    return {
        "codebase_version": VERSION, "robot_type": "franka", "total_episodes": episodes, "total_frames": frames,
        "total_tasks": tasks, "chunks_size": FILES_PER_CHUNK, "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB, "fps": shape.fps, "splits": {"train": f"0:{episodes}"}, "data_path": DATA,
        "video_path": VIDEO if shape.cameras else None, "features": shape.features(video),
    }  # fmt: skip


def frame_columns(episode: Episode, number: int, first: int, task: int, fps: int) -> dict[str, AnyArray]:
    """The columns of an episode's frames [T, ...]; number: of the episode; first: index of its first frame."""
    steps = len(episode)
    columns = {theirs: getattr(episode, ours)[:steps].astype(dtype) for ours, (theirs, dtype) in COLUMNS.items()}
    done = episode.terminated | episode.truncated
    columns |= {"next.done": done, "next.success": done & episode.success}
    frame = np.arange(steps, dtype=np.int64)
    columns |= {"timestamp": (frame / fps).astype(np.float32), "frame_index": frame, "index": first + frame}
    return columns | {"episode_index": np.full(steps, number), "task_index": np.full(steps, task)}


def frame_table(columns: Mapping[str, AnyArray]) -> pa.Table:
    """Columns [T] and [T, n] as a table; the latter as lists of fixed length."""
    arrays = {}
    for name, values in columns.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        arrays[name] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(arrays)


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """Instructions by index, with the note that makes pandas take them for the table's index."""
    types = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [{"name": name, "field_name": name, "pandas_type": kind, "numpy_type": dtype, "metadata": None}
               for name, (kind, dtype) in types.items()]  # fmt: skip
    note = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(list(tasks), pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(note)})


# ---- statistics --------------------------------------------------------------------------------------------------


def episode_stats(columns: Mapping[str, AnyArray], images: Mapping[str, ByteArray]) -> Stats:
    """Of every feature of one episode; of images by channel, [3, 1, 1], in 0 to 1. NaN is left out."""
    found = {}
    for name, values in columns.items():
        rows = values.reshape(len(values), -1).astype(np.float64)
        found[name] = _statistics(rows) | {"count": np.array([len(values)])}
    for camera, frames in images.items():
        chosen = frames[np.unique(np.linspace(0, len(frames) - 1, SAMPLED).round().astype(int))]
        by_channel = _statistics(chosen.reshape(-1, 3) / 255.0)
        found[IMAGE + camera] = {name: value.reshape(3, 1, 1) for name, value in by_channel.items()}
        found[IMAGE + camera]["count"] = np.array([len(chosen)])
    return found


def _statistics(rows: AnyArray) -> dict[str, AnyArray]:
    """Of each column of float64 [n, k]; 0 where a column has no number at all."""
    rows = np.where(np.isfinite(rows).any(0), rows, 0.0)
    found = {"min": np.nanmin(rows, 0), "max": np.nanmax(rows, 0), "mean": np.nanmean(rows, 0), "std": np.nanstd(rows, 0)}
    return found | {name: np.nanquantile(rows, share, 0) for name, share in QUANTILES.items()}


def join_stats(all_stats: Sequence[Stats]) -> Stats:
    """Of all episodes together: exact but for quantiles, and for columns with NaN, where means of the episodes' are weighted
    by their frames."""
    found: Stats = {}
    for name in all_stats[0]:
        parts = [stats[name] for stats in all_stats]
        counts = np.array([part["count"][0] for part in parts], np.float64)
        weights = (counts / counts.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
        stacked = {key: np.stack([part[key] for part in parts]) for key in parts[0] if key != "count"}
        joined = {key: (weights * values).sum(0) for key, values in stacked.items() if key in ("mean", *QUANTILES)}
        spread = (weights * (stacked["std"] ** 2 + (stacked["mean"] - joined["mean"]) ** 2)).sum(0)
        found[name] = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "std": np.sqrt(spread), **joined,
                       "count": np.array([int(counts.sum())])}  # fmt: skip
    return found


def plain(stats: Stats) -> dict[str, dict[str, Any]]:
    """For JSON and parquet."""
    return {name: {key: value.tolist() for key, value in one.items()} for name, one in stats.items()}
