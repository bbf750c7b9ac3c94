"""A sealed episode as it is exported, and its way into another spool: whole, once, with its id, labels and latents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import HalfArray
from irevla_ros.data.container import AnyArray, Bytes, Container, container_chunks
from irevla_ros.data.files import check_id, disk_errors
from irevla_ros.data.labels import dump_labels, parse_labels, read_labels
from irevla_ros.data.paths import label_path, latents_path, log_path, sealed_path, split_latents
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.schema import meta_from_json
from irevla_ros.data.spool import Spool
from irevla_ros.data.writer import write_sealed
from irevla_ros.disk.files import write_whole


class Taken(str, Enum):
    """What an import did."""

    NEW = "imported"
    LABELLED = "labels added"
    THERE = "there already"


@dataclass(frozen=True)
class Parcel:
    """All that a spool has of one episode.

    tensors and metadata: of the sealed file; labels: the bytes of its label file; latents: those beside it, by fingerprint;
    source_sha256: content hash of the file that it was made from.
    """

    tensors: Mapping[str, AnyArray | Bytes]
    metadata: Mapping[str, str]
    source_sha256: str
    labels: bytes = b""
    latents: Mapping[str, HalfArray] = field(default_factory=dict)

    @property
    def episode_id(self) -> str:
        return check_id(meta_from_json(self.metadata["meta"], "what is imported").episode_id)

    def sha256(self) -> str:
        """Content hash of the file that it makes in a spool."""
        last: bytes | memoryview = b""
        for chunk in container_chunks(self.tensors, self.metadata):
            last = chunk
        return bytes(last[-32:]).hex()


def labels_of(root: Path, episode_id: str) -> bytes:
    """The whole lines of the episode's label file, checked."""
    return dump_labels(read_labels(label_path(root, episode_id)).labels)


def latents_beside(reader: SpoolReader, episode_id: str) -> dict[str, HalfArray]:
    """The latents beside an episode, checked, by fingerprint."""
    found: dict[str, HalfArray] = {}
    for entry in sorted(os.scandir(reader.root), key=lambda entry: entry.name):
        parts = split_latents(entry.name)
        if parts and parts[0] == episode_id:
            with Container(Path(entry.path)) as container:
                reader.check_content(container)
                found[container.metadata["fingerprint"]] = container.rows("latents")
    return found


def take(spool: Spool, parcel: Parcel) -> Taken:
    """Put the episode into the spool; to do so again changes nothing. Durable on return.

    Labels come first and the sealed file last, so that after kill -9 the episode is there as a whole, with its verdicts, or
    not at all. Latents follow; they can be computed again.

    Raises:
        DataError: another recording has that id, its labels went another way, it is being recorded, or the disk refuses.
    """
    episode_id = parcel.episode_id
    path = sealed_path(spool.root, episode_id)
    if log_path(spool.root, episode_id).exists():
        raise DataError(f"episode {episode_id!r}", f"it is being recorded in {spool.root}", "import into another spool")
    there = path.exists()
    if there:
        with Container(path) as sealed:
            digest = sealed.digest
        if digest != parcel.sha256():
            if digest == parcel.source_sha256:
                return Taken.THERE  # the original, of which this is a copy with less in it
            raise DataError(f"episode {episode_id!r}", f"{spool.root} has another recording of that id",
                            "import into another spool")  # fmt: skip
    labelled = _take_labels(spool.root, episode_id, parcel)
    if not there:
        write_sealed(episode_id, path, dict(parcel.tensors), dict(parcel.metadata), durable=True)
    for fingerprint, latents in parcel.latents.items():
        if not latents_path(spool.root, episode_id, fingerprint).exists():
            spool.write_latents(episode_id, fingerprint, latents)
    return Taken.NEW if not there else Taken.LABELLED if labelled else Taken.THERE


def _take_labels(root: Path, episode_id: str, parcel: Parcel) -> bool:
    """Go on with the labels that are there; True when there was something to add."""
    path = label_path(root, episode_id)
    have = read_labels(path).labels
    given = parse_labels(parcel.labels, "what is imported").labels
    shared = min(len(have), len(given))
    if have[:shared] != given[:shared]:
        raise DataError(f"{path}: revision {_first_difference(have, given)}", "it differs from the one that is imported",
                        "import into another spool, or relabel there")  # fmt: skip
    if len(given) <= len(have):
        return False
    with disk_errors(path):
        write_whole(path, dump_labels(given))
    return True


def _first_difference(have: tuple[object, ...], given: tuple[object, ...]) -> int:
    return next(number for number, (a, b) in enumerate(zip(have, given, strict=False), start=1) if a != b)
