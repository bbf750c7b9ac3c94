"""rosbag2 in MCAP: a bag for each episode, standard types only, so that ``ros2 bag`` and Foxglove read it.

Every message has the stamp of the observation that it belongs to, or that its step starts from, in its header (where the
type has one) and as its time in the bag. Frames are the sealed PNG or JPEG bytes. docs/data.md lists the topics.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from irevla_ros.core.durations import SECOND
from irevla_ros.core.errors import DataError
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.data.container import AnyArray, Bytes, Container
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.data.schema import image_tensors, meta_from_json
from irevla_ros.exchange.folder import new_folder
from irevla_ros.exchange.sealed import Parcel, labels_of, latents_beside

META, LABELS, LATENTS = "/episode/meta", "/episode/labels", "/latents"
VECTORS = {"proprio": "/proprio", "proposed": "/action/proposed", "executed": "/action/executed",
           "commanded": "/action/commanded"}  # fmt: skip
SCALARS = {"source": ("/step/source", "UInt8"), "log_prob": ("/step/log_prob", "Float32"),
           "head_version": ("/step/head_version", "Int64"), "reward": ("/step/reward", "Float32"),
           "terminated": ("/step/terminated", "Bool"), "truncated": ("/step/truncated", "Bool")}  # fmt: skip
DTYPES = {"proprio": "f4", "proposed": "f4", "executed": "f4", "commanded": "f4", "source": "u1", "log_prob": "f4",
          "head_version": "i8", "reward": "f4", "terminated": "?", "truncated": "?"}  # fmt: skip
STORE = get_typestore(Stores.ROS2_JAZZY)


def export_bags(reader: SpoolReader, records: Iterable[EpisodeRecord], out: Path) -> Iterator[str]:
    """Write ``out``, a folder with one bag an episode, named by its id; yields each id when its bag is written.

    A bag holds all that the spool has of the episode: also the steps that a label trims, and the labels.

    Raises:
        DataError: an episode is damaged, a stamp is negative, ``out`` exists, or the disk refuses.
    """
    with new_folder(out) as folder:
        for record in records:
            _write_bag(reader, record, folder / record.episode_id)
            yield record.episode_id


def read_bag(path: Path) -> Parcel:
    """The episode in a bag that ``export_bags`` wrote. ``DataError`` when it is not one, or not whole."""
    try:
        return _parcel(path)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{path}: {error!r}", "a bag of an exported episode has all of its topics, whole",
                        "export it again") from None  # fmt: skip


def bag_topics(path: Path) -> set[str]:
    """The topics of any bag. ``DataError`` when it cannot be read."""
    with open_bag(path) as bag:
        return set(bag.topics)


def open_bag(path: Path) -> Reader:
    """The bag, to be entered as a context. ``DataError`` when it cannot be read."""
    try:
        return Reader(path)
    except (ReaderError, OSError) as error:
        raise DataError(f"{path}: {error}", "a bag is a folder with metadata.yaml and .mcap or .db3 files",
                        "give the folder that `ros2 bag record` made (`ros2 bag reindex` mends one)") from None  # fmt: skip


# ---- writing -----------------------------------------------------------------------------------------------------


class _Channels:
    """Topics of a bag under way, made as they are needed."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self._connections = writer, dict[str, Any]()

    def write(self, topic: str, kind: str, stamp_ns: int, **fields: Any) -> None:
        """kind: such as ``std_msgs/msg/String``; a header is made from the stamp where the type has one."""
        message: Any = STORE.types[kind]
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=STORE)
        if "header" in message.__dataclass_fields__:
            fields["header"] = _header(stamp_ns)
        self._writer.write(self._connections[topic], stamp_ns, STORE.serialize_cdr(message(**fields), kind))


def _write_bag(reader: SpoolReader, record: EpisodeRecord, path: Path) -> None:
    beside = latents_beside(reader, record.episode_id)
    mcap = Writer(path, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP)
    with Container(record.path) as sealed, mcap as writer:
        reader.check_content(sealed)
        bag, stamps = _Channels(writer), [int(stamp) for stamp in sealed.rows("stamps_ns")]
        if stamps[0] < 0:
            raise DataError(f"episode {record.episode_id!r} begins at {stamps[0]} ns", "a bag has no time before 0",
                            "leave it out (--task, --run)")  # fmt: skip
        about = {"metadata": sealed.metadata, "sha256": sealed.digest, "latents": list(beside)}
        _text(bag, META, stamps[0], json.dumps(about))
        for line in labels_of(reader.root, record.episode_id).splitlines():
            _text(bag, LABELS, stamps[-1], line.decode())
        cameras = json.loads(sealed.metadata["cameras"])
        for camera, described in cameras.items():
            offsets = sealed.rows(f"images.{camera}.offsets")
            for stamp, start, stop in zip(stamps, offsets[:-1], offsets[1:], strict=True):
                bag.write(_image_topic(camera), "sensor_msgs/msg/CompressedImage", stamp, format=described["format"],
                          data=sealed.rows(f"images.{camera}.data", int(start), int(stop)))  # fmt: skip
        for column, topic in VECTORS.items():
            names = list(ProprioSpec().names if column == "proprio" else record.meta.action_names)
            for stamp, row in zip(stamps, sealed.rows(column).astype(np.float64), strict=False):
                bag.write(topic, "sensor_msgs/msg/JointState", stamp, position=row, velocity=row[:0], effort=row[:0],
                          name=names if len(names) == len(row) else [f"{column}_{k}" for k in range(len(row))])  # fmt: skip
        for column, (topic, kind) in SCALARS.items():
            for stamp, value in zip(stamps, sealed.rows(column).tolist(), strict=False):
                bag.write(topic, f"std_msgs/msg/{kind}", stamp, data=value)
        if "latents" in sealed.table:
            _write_latents(bag, LATENTS, stamps, sealed.rows("latents"))
        for number, latents in enumerate(beside.values()):
            _write_latents(bag, f"{LATENTS}/beside_{number}", stamps, latents)


def _text(bag: _Channels, topic: str, stamp_ns: int, text: str) -> None:
    bag.write(topic, "std_msgs/msg/String", stamp_ns, data=text)


def _write_latents(bag: _Channels, topic: str, stamps: list[int], latents: AnyArray) -> None:
    layout, dimension = STORE.types["std_msgs/msg/MultiArrayLayout"], STORE.types["std_msgs/msg/MultiArrayDimension"]
    _, rows, columns = latents.shape
    shape = layout(dim=[dimension(label="m", size=rows, stride=rows * columns),
                        dimension(label="d", size=columns, stride=columns)], data_offset=0)  # fmt: skip
    for stamp, latent in zip(stamps, latents, strict=True):
        bag.write(topic, "std_msgs/msg/Float32MultiArray", stamp, layout=shape, data=latent.astype(np.float32).ravel())


def _header(stamp_ns: int) -> Any:
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="")


def _image_topic(camera: str) -> str:
    return f"/camera/{camera.replace('-', '__')}/image_raw/compressed"  # ROS names have no hyphen


# ---- reading -----------------------------------------------------------------------------------------------------


def _parcel(path: Path) -> Parcel:
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    with open_bag(path) as bag:
        for connection, stamp_ns, data in bag.messages():
            found[connection.topic].append((stamp_ns, STORE.deserialize_cdr(data, connection.msgtype)))
    about = json.loads(found[META][0][1].data)
    metadata: dict[str, str] = about["metadata"]
    meta_from_json(metadata["meta"], str(path))
    steps = int(metadata["steps"])
    rows = {column: np.stack([message.position for _, message in found[topic]]) for column, topic in VECTORS.items()}
    rows |= {column: np.array([message.data for _, message in found[topic]]) for column, (topic, _) in SCALARS.items()}
    tensors: dict[str, AnyArray | Bytes] = {name: values.astype(DTYPES[name]) for name, values in rows.items()}
    tensors["stamps_ns"] = np.array([stamp for stamp, _ in found[VECTORS["proprio"]]], np.int64)
    for camera in json.loads(metadata["cameras"]):
        frames = [message.data.tobytes() for _, message in found[_image_topic(camera)]]
        tensors.update(image_tensors(camera, frames))
    if LATENTS in found:
        tensors["latents"] = _latents(found[LATENTS])
    beside = {fingerprint: _latents(found[f"{LATENTS}/beside_{number}"]) for number, fingerprint in enumerate(about["latents"])}
    labels = sorted((message.data for _, message in found[LABELS]), key=lambda line: json.loads(line)["revision"])
    parcel = Parcel(tensors, metadata, about["sha256"], "".join(f"{line}\n" for line in labels).encode(), beside)
    if len(rows["executed"]) != steps or parcel.sha256() != parcel.source_sha256:
        raise ValueError("it does not make the episode that was exported")
    return parcel


def _latents(messages: list[tuple[int, Any]]) -> AnyArray:
    return np.stack([message.data.reshape([one.size for one in message.layout.dim]) for _, message in messages]).astype("<f2")
