"""What was said after sealing: an append-only file beside the episode, one JSON line per revision."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Outcome
from irevla_ros.data.files import disk_errors
from irevla_ros.disk.files import sync_folder, write_all

UNDO, TAKEN_BACK = "undo", "taken back"  # notes of labels that undo; see ``LabelHistory.undo``


@dataclass(frozen=True)
class Label:
    """One revision (1, 2, ...). outcome: the verdict, or None to keep the previous one; discard: a tombstone.

    keep: the sealed steps [start, stop) that count from now on, or None to keep those of before.
    """

    revision: int
    outcome: Outcome | None
    who: str
    discard: bool = False
    note: str = ""
    keep: tuple[int, int] | None = None


@dataclass(frozen=True)
class LabelHistory:
    """All whole revisions in order; ``torn_bytes`` counts what a crash left of an unfinished last line (ignored)."""

    labels: tuple[Label, ...] = ()
    torn_bytes: int = 0

    @property
    def revision(self) -> int:
        """Of the last label; 0 when there is none."""
        return self.labels[-1].revision if self.labels else 0

    @property
    def discarded(self) -> bool:
        """The last revision decides, so a discard can be taken back."""
        return bool(self.labels) and self.labels[-1].discard

    def outcome(self, sealed: Outcome) -> Outcome:
        """The last verdict, or the sealed one when nobody has given any."""
        verdicts = [label.outcome for label in self.labels if label.outcome is not None]
        return verdicts[-1] if verdicts else sealed

    def kept(self, sealed_steps: int) -> tuple[int, int]:
        """The steps [start, stop) that count: those of the last revision that trimmed, or all."""
        ranges = [label.keep for label in self.labels if label.keep is not None]
        return ranges[-1] if ranges else (0, sealed_steps)

    def undo(self, sealed: Outcome) -> tuple[Outcome, bool, str]:
        """What to label in order to take back the last act that changed verdict or discard: (outcome, discard, note).

        Where none is left, the episode itself is taken back, by a tombstone, and the next undo takes back that.
        """
        acts = [(sealed, False)]
        for label in self.labels:
            after = label.outcome or acts[-1][0], label.discard
            if label.note == UNDO and after in acts[-2:-1]:
                acts.pop()
            elif after != acts[-1]:
                acts.append(after)
        return (*acts[-2], UNDO) if len(acts) > 1 else (sealed, True, TAKEN_BACK)


def read_labels(path: Path) -> LabelHistory:
    """The history in a label file; empty when there is no file.

    Raises:
        DataError: a whole line fails its checksum, or the revisions are not 1, 2, 3, ...
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return LabelHistory()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}", "the label file must be readable", "check the disk") from error
    return parse_labels(content, str(path))


def parse_labels(content: bytes, what: str) -> LabelHistory:
    """The history in the bytes of a label file; ``what`` names it in errors (``DataError``, as ``read_labels``)."""
    *lines, torn = content.split(b"\n")
    labels = tuple(_parse(f"{what} line {number}", number, line) for number, line in enumerate(lines, start=1))
    if _more_than_a_line(torn):  # a crash cuts a line off: only a flipped byte leaves something else in place of its end
        raise _damage(f"{what} line {len(lines) + 1}", "its end is not a line's")
    return LabelHistory(labels, len(torn))


def dump_labels(labels: Iterable[Label]) -> bytes:
    """The bytes of a label file that holds these revisions."""
    return b"".join(map(_line, labels))


def append_label(path: Path, outcome: Outcome | None, who: str, *, discard: bool = False, note: str = "",
                 keep: tuple[int, int] | None = None) -> Label:  # fmt: skip
    """Appends the next revision and syncs it; processes exclude each other. A torn last line is cut off first.

    Raises:
        DataError: the existing file is damaged, or the disk refuses (the file is then as before).
    """
    with disk_errors(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            history = read_labels(path)
            label = Label(history.revision + 1, outcome, who, discard, note, keep)
            end = os.fstat(fd).st_size - history.torn_bytes
            os.ftruncate(fd, end)
            try:
                os.lseek(fd, end, os.SEEK_SET)
                write_all(fd, _line(label))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, end)
                raise
            if label.revision == 1:
                sync_folder(path.parent)
        finally:
            os.close(fd)
    return label


def _checksum(values: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def _line(label: Label) -> bytes:
    values = asdict(label)
    return json.dumps({**values, "crc32": _checksum(values)}).encode() + b"\n"


def _parse(what: str, number: int, line: bytes) -> Label:
    try:
        values: dict[str, Any] = json.loads(line)
        if values.pop("crc32") != _checksum(values) or values["revision"] != number:
            raise ValueError("its checksum or revision differs")
        verdict, keep = values.pop("outcome"), values.pop("keep")
        label = Label(outcome=None if verdict is None else Outcome(verdict), keep=keep and (keep[0], keep[1]), **values)
        if _line(label) != line + b"\n":  # also a byte between the values, which JSON would forgive
            raise ValueError("it is not as it was written")
        return label
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _damage(what, str(error)) from None


def _more_than_a_line(torn: bytes) -> bool:
    try:
        text = torn.decode("ascii", "replace")
        return json.JSONDecoder().raw_decode(text)[1] < len(text)
    except ValueError:
        return False


def _damage(what: str, why: str) -> DataError:
    return DataError(f"{what}: {why}", "label lines are never edited and number 1, 2, 3, ...",
                     "restore the file from a copy, or delete it to fall back to the sealed outcome")  # fmt: skip
