"""Writes ``messages.pyi``, so that editors and mypy know the fields: ``python -m irevla_ros.ros.embedded.stubs``."""

from __future__ import annotations

from pathlib import Path

from irevla_ros.ros.catalogue import MESSAGES, SERVICES
from irevla_ros.ros.embedded.types.definitions import PLACEHOLDER, Field, definition

PATH = Path(__file__).resolve().parent.parent / "messages.pyi"
_HEAD = '''"""Written by irevla_ros.ros.embedded.stubs: the types of catalogue.py and their fields."""

import array
from typing import Any, ClassVar

# Numbers in the plural: a numpy array (embedded) or array.array (native); numpy.asarray reads both.
Numbers = Any

def numbers(typecode: str, values: Any) -> array.array[Any]: ...
'''


def stubs() -> str:
    """The text of the stub file."""
    names = {full: short for short, full in MESSAGES.items()}
    return _HEAD + "".join(
        [_message(short, full, names) for short, full in sorted(MESSAGES.items())]
        + [_service(short, full, names) for short, full in sorted(SERVICES.items())]
    )


def _message(short: str, full: str, names: dict[str, str], indent: str = "") -> str:
    one = definition(full)
    fields = [(field.name, _annotation(field, names)) for field in one.fields if field.name != PLACEHOLDER]
    lines = [f"\n{indent}class {short}:"]
    lines += [f"    {name}: ClassVar[{'bytes' if base == 'byte' else _scalar(base)}]" for name, base, _ in one.constants]
    lines += [f"    {name}: {annotation}" for name, annotation in fields]
    if fields:
        lines.append("    def __init__(")
        lines += ["        self,", "        *,"]
        lines += [f"        {name}: {annotation} = ...," for name, annotation in fields]
        lines.append("    ) -> None: ...")
    else:
        lines.append("    def __init__(self) -> None: ...")
    lines += ["    @classmethod", "    def get_fields_and_field_types(cls) -> dict[str, str]: ..."]
    return f"\n{indent}".join(lines) + "\n"


def _service(short: str, full: str, names: dict[str, str]) -> str:
    parts = "".join(_message(part, f"{full}_{part}", names, "    ") for part in ("Request", "Response"))
    return f"\nclass {short}:{parts}"


def _annotation(field: Field, names: dict[str, str]) -> str:
    base = names[field.base] if field.nested else _scalar(field.base)
    if not field.plural:
        return base
    return f"list[{base}]" if field.nested or base in ("str", "bytes") else "Numbers"


def _scalar(base: str) -> str:
    return {"bool": "bool", "string": "str", "byte": "bytes", "float32": "float", "float64": "float"}.get(base, "int")


if __name__ == "__main__":
    PATH.write_text(stubs(), encoding="utf-8")
