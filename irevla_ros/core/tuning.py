"""Which way a setting may be changed while somebody moves the arm: the safer one, field by field of a frozen dataclass."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

import numpy as np


class Safer(str, Enum):
    LOWER = "lower"
    HIGHER = "higher"
    PLANES = "with more planes, or nearer ones"  # nx ny nz d in a row


def limit(default: Any, safer: Safer) -> Any:
    """A field of a dataclass that may be changed towards ``safer`` at any time."""
    return dataclasses.field(default=default, metadata={"safer": safer})


def riskier(old: Any, new: Any) -> str:
    """What of ``new`` is not as safe as ``old``, both instances of one dataclass: its name and what is allowed; "" if
    nothing. Fields that are no ``limit`` must be equal."""
    for field in dataclasses.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        if dataclasses.is_dataclass(before):
            within = riskier(before, after)
            if within:
                return f"{field.name}.{within}"
            continue
        safer = field.metadata.get("safer")
        if safer is None:
            return f"{field.name} stays {before}"
        if not _is_safer(safer, before, after):
            return f"{field.name} may only become {safer.value}, from {before}"
    return ""


def _is_safer(safer: Safer, before: Any, after: Any) -> bool:
    if safer is Safer.PLANES:
        return _cut_more(np.reshape(before, (-1, 4)), np.reshape(after, (-1, 4)))
    signs = 1 if safer is Safer.HIGHER else -1
    return bool((signs * (np.asarray(after, np.float64) - np.asarray(before, np.float64)) >= 0).all())


def _cut_more(before: Any, after: Any) -> bool:
    return all(any(np.allclose(plane[:3], kept[:3]) and kept[3] <= plane[3] for kept in after) for plane in before)
