"""Episodes back from a LeRobotDataset v3 that ``lerobot`` wrote, with the files beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import ByteArray, Episode
from irevla_ros.data.codecs import ImageCodec, decode_frame
from irevla_ros.data.container import AnyArray, Container
from irevla_ros.data.files import check_id
from irevla_ros.data.labels import dump_labels, parse_labels
from irevla_ros.data.schema import PER_OBSERVATION, PER_STEP, check_format, encode_episode, meta_from_json
from irevla_ros.exchange import lerobot_layout as layout
from irevla_ros.exchange.lerobot import SIDE_FORMAT
from irevla_ros.exchange.sealed import Parcel
from irevla_ros.exchange.video import VideoReader


def read_lerobot(root: Path) -> Iterator[Parcel]:
    """The dataset's episodes in their order. Where pixels were kept exactly, frames become PNG files, else as recorded.

    Raises:
        DataError: it is of another version, was not exported by irevla (nobody could say what its numbers mean to this
            robot), or something is missing or damaged.
    """
    try:
        yield from _read(root)
    except (KeyError, ValueError, IndexError, OSError, pa.ArrowException) as error:
        raise DataError(f"{root}: {error!r}", "a dataset has every file and column that its meta/ names",
                        "copy or export it again") from None  # fmt: skip


def _read(root: Path) -> Iterator[Parcel]:
    info = json.loads((root / layout.INFO).read_text())
    if info["codebase_version"] != layout.VERSION:
        raise DataError(f"{root}: LeRobotDataset {info['codebase_version']}", f"{layout.VERSION} is read",
                        "convert it with lerobot's own script")  # fmt: skip
    if not (root / layout.SIDE).is_dir():
        raise DataError(f"{root}: no folder {layout.SIDE}/", "only what irevla exported is imported: what another robot's "
                        "numbers mean here is for a person to say", "record on this robot, or write a converter "
                        "to Spool.write_episode")  # fmt: skip
    files = _Files(root, info)
    try:
        for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
            names = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
            for row in pq.read_table(path, columns=names).to_pylist():
                yield files.parcel(row)
    finally:
        files.close()


class _Files:
    """The files of the dataset that are open: episodes come in order, so one of each kind is."""

    def __init__(self, root: Path, info: dict[str, Any]) -> None:
        self._root, self._info = root, info
        self._table: tuple[Path, pa.Table] | None = None
        self._videos: dict[str, tuple[Path, VideoReader]] = {}
        videos = {name: feature for name, feature in info["features"].items() if feature["dtype"] == "video"}
        self._cameras = [name.removeprefix(layout.IMAGE) for name in videos]
        self._codec = ImageCodec("png") if any(f["info"]["video.pix_fmt"] == "rgb24" for f in videos.values()) else ImageCodec()

    def parcel(self, row: dict[str, Any]) -> Parcel:
        frames = self._rows(row)
        columns: dict[str, AnyArray] = {}
        for ours, (theirs, _) in layout.COLUMNS.items():
            dtype, dimensions = {**PER_STEP, **PER_OBSERVATION}[ours]
            column = frames[theirs].combine_chunks()
            values = column.flatten() if dimensions == 2 else column
            columns[ours] = np.asarray(values.to_numpy(zero_copy_only=False)).astype(dtype)
            if dimensions == 2:
                columns[ours] = columns[ours].reshape(len(column), -1)
        path = self._root / layout.SIDE / f"{check_id(row['irevla/episode_id'])}.safetensors"
        with Container(path) as side:
            side.verify()
            check_format(side, SIDE_FORMAT)
            for name in PER_OBSERVATION:
                columns[name] = np.concatenate([columns[name], side.rows(name)])
            images = {camera: self._images(row, camera, side) for camera in self._cameras}
            sealed, beside = json.loads(side.metadata["sealed"]), json.loads(side.metadata["latents"])
            latents = side.rows("latents") if "latents" in side.table else None
            episode = Episode(meta_from_json(sealed["meta"], str(path)), images, latents=latents, **columns)
            tensors, metadata = encode_episode(episode, self._codec)
            labels = parse_labels(side.metadata["labels"].encode(), str(path)).labels
            # What a label had trimmed off is not in the dataset.
            kept = dump_labels(replace(label, keep=None) for label in labels)
            return Parcel(tensors, metadata, side.metadata["episode_sha256"], kept,
                          {name: side.rows(f"latents.{number}") for number, name in enumerate(beside)})  # fmt: skip

    def _rows(self, row: dict[str, Any]) -> pa.Table:
        place = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        path = self._root / self._info["data_path"].format(**place)
        if self._table is None or self._table[0] != path:
            self._table = path, pq.read_table(path)
        table = self._table[1]
        first = row["dataset_from_index"] - table["index"][0].as_py()
        return table.slice(first, row["length"])

    def _images(self, row: dict[str, Any], camera: str, side: Container) -> ByteArray:
        key = layout.IMAGE + camera
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        path = self._root / self._info["video_path"].format(video_key=key, **place)
        if camera not in self._videos or self._videos[camera][0] != path:
            if camera in self._videos:
                self._videos[camera][1].close()
            self._videos[camera] = path, VideoReader(path)
        first = round(row[f"videos/{key}/from_timestamp"] * self._info["fps"])
        frames = self._videos[camera][1].take(first, row["length"])
        last = decode_frame(side.rows(f"images.{camera}"), f"{side.path} camera {camera!r}")
        return np.concatenate([frames, last[None]])

    def close(self) -> None:
        for _, video in self._videos.values():
            video.close()
