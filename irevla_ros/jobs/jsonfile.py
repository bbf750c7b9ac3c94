"""Files that are either old or new, never half written, and JSON whose errors name the file and the field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from irevla_ros.core.errors import DataError
from irevla_ros.disk.files import write_whole

_REQUIRED = object()


class Fields:
    """A JSON object that knows where it came from, so that a wrong field is named in the error."""

    def __init__(self, where: Path | str, value: Any, remedy: str) -> None:
        if not isinstance(value, dict):
            raise DataError(f"{where}", "a JSON object is required", remedy)
        self.where, self.value, self.remedy = where, value, remedy

    def take(self, name: str, kind: type, default: Any = _REQUIRED) -> Any:
        value = self.value.get(name, default)
        if value is _REQUIRED:
            raise DataError(f"{self.where} field {name!r}", "the field is missing", self.remedy)
        if name not in self.value or (value is None and default is None):
            return value
        accepted = (int, float) if kind is float else (kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise DataError(f"{self.where} field {name!r} is {value!r}", f"{kind.__name__} is required", self.remedy)
        return value

    def inner(self, name: str, optional: bool = False) -> Fields:
        value = self.take(name, dict, {} if optional else _REQUIRED)
        return Fields(f"{self.where} {name}", value, self.remedy)

    def items(self) -> list[tuple[str, Fields]]:
        return [(name, self.inner(name)) for name in self.value]

    def each(self, name: str, optional: bool = False) -> list[Fields]:
        values = self.take(name, list, [] if optional else _REQUIRED)
        return [Fields(f"{self.where} {name}[{i}]", value, self.remedy) for i, value in enumerate(values)]


def read_json(path: Path, remedy: str = "give the folder of a run, such as runs/demo") -> Any:
    """Raises DataError when the file is missing, with ``remedy``, or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(str(path), "the file does not exist", remedy) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(str(path), f"not valid JSON ({error})", "restore the file or run again") from None


def write_json(path: Path, content: Any) -> None:
    """Write atomically: a reader sees the old file or the new one, also after a power cut."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` atomically, and make the folder if it is absent.

    Raises DataError when the disk is full or the folder cannot be written; an earlier file is then still there.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns any ``OSError`` of the block into a ``DataError`` about ``path``."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}", "the folder must be writable",
                        "free space or mend its permissions, then repeat the command") from error  # fmt: skip
