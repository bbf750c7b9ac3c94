"""What a message field may hold: the checks that rclpy's generated classes make, and the form in which it is stored.

Stored forms are what rosbags serialises: int, float, bool, str, message, list, and a one-dimensional numpy array for
numbers in the plural. As in rclpy a float field refuses an int and an int field refuses a numpy integer; beyond rclpy,
numbers in the plural may be given as a numpy array, ``uint8`` ones also as bytes.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from irevla_ros.core.errors import IrevlaError
from irevla_ros.ros.embedded.types.definitions import Field

Check = Callable[[Any], Any]

_INTEGERS = {f"{kind}{bits}": (0 if kind == "uint" else -(1 << bits - 1), (1 << bits - (kind == "int")) - 1)
             for kind in ("int", "uint") for bits in (8, 16, 32, 64)}  # fmt: skip
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class MessageError(IrevlaError, AssertionError):
    """A message field does not exist or does not hold what it is given; rclpy raises AssertionError there too."""


def dtype_of(base: str) -> np.dtype[Any]:
    return np.dtype({"byte": "uint8"}.get(base, base))


def scalar_check(base: str, string_bound: int, where: str) -> Check:
    """A function from what the user gives to what is stored; it raises MessageError."""
    if base == "string":
        return lambda value: _string(value, string_bound, where)
    if base == "bool":
        return lambda value: value if isinstance(value, bool) else _refuse(value, where, "a bool")
    if base == "byte":
        return lambda value: value[0] if isinstance(value, bytes) and len(value) == 1 else _refuse(value, where, "one byte")
    if base in _INTEGERS:
        low, high = _INTEGERS[base]
        rule = f"an int from {low} to {high}"
        return lambda value: value if isinstance(value, int) and low <= value <= high else _refuse(value, where, rule)
    if base == "float64":
        return lambda value: value if isinstance(value, float) else _refuse(value, where, "a float")
    return lambda value: _float32(value, where)


def message_check(cls: type, where: str) -> Check:
    return lambda value: value if isinstance(value, cls) else _refuse(value, where, f"a {cls.__name__}")


def plural_check(field: Field, one: Check, where: str) -> Check:
    """The check of an array or a sequence whose elements satisfy ``one``."""
    if field.nested or field.base == "string":
        return lambda value: _length(_listed(value, one, where), field, where)
    if field.base == "byte":
        return lambda value: _length(_bytes(value, one, where), field, where)
    dtype = dtype_of(field.base)
    return lambda value: _length(_numbers(value, dtype, one, where), field, where)


def _refuse(value: object, where: str, rule: str) -> Any:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    raise MessageError(f"{where} = {shown}", f"must be {rule}", "convert it before setting the field")


def _string(value: Any, bound: int, where: str) -> str:
    if not isinstance(value, str) or (bound and len(value) > bound):
        _refuse(value, where, f"a str of at most {bound} characters" if bound else "a str")
    return str(value)


def _float32(value: Any, where: str) -> float:
    if not isinstance(value, float) or (abs(value) > _FLOAT32_MAX and abs(value) != float("inf")):
        _refuse(value, where, "a float that float32 can hold")
    return float(value)


def _listed(value: Any, one: Check, where: str) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        _refuse(value, where, "a list")
    return [one(item) for item in value]


def _bytes(value: Any, one: Check, where: str) -> np.ndarray[Any, Any]:
    if isinstance(value, (bytes, bytearray)):
        return np.frombuffer(bytes(value), np.uint8)
    return np.array(_listed(value, one, where), np.uint8)


def _numbers(value: Any, dtype: np.dtype[Any], one: Check, where: str) -> np.ndarray[Any, Any]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        if dtype != np.uint8:
            _refuse(value, where, f"a sequence of {dtype} (bytes are for uint8)")
        return np.frombuffer(value, np.uint8)
    if isinstance(value, array.array):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        casting = "same_kind" if dtype.kind == "f" else "safe"
        if value.ndim != 1 or not np.can_cast(value.dtype, dtype, casting):  # type: ignore[arg-type]
            _refuse(f"array of {value.dtype}, shape {value.shape}", where, f"one-dimensional and fit {dtype}")
        return np.ascontiguousarray(value, dtype)
    if isinstance(value, str) or not isinstance(value, Sequence):
        _refuse(value, where, f"a sequence of {dtype}")
    return np.array([one(item) for item in value], dtype)


def _length(value: Any, field: Field, where: str) -> Any:
    if field.array is not None and len(value) != field.array:
        _refuse(f"{len(value)} elements", where, f"exactly {field.array} elements")
    if field.bound and len(value) > field.bound:
        _refuse(f"{len(value)} elements", where, f"at most {field.bound} elements")
    return value
