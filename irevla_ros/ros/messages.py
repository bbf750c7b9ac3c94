"""Message and service types on both backends: ``from irevla_ros.ros.messages import Image, Trigger``.

The names are those of ``catalogue.py``; their fields are in messages.pyi. On the native backend numbers in the plural are
``array.array``, on the embedded one numpy arrays: ``numbers`` makes what both take fast, ``numpy.asarray`` reads both.
"""

from __future__ import annotations

import array
from typing import Any

import numpy as np

from irevla_ros.core.errors import unknown_name
from irevla_ros.ros.catalogue import CATALOGUE
from irevla_ros.ros.implementation import api

_DTYPES = {"B": np.uint8, "i": np.int32, "q": np.int64, "f": np.float32, "d": np.float64}


def numbers(typecode: str, values: Any) -> array.array[Any]:
    """Numbers for a field: typecode ``B`` uint8, ``i`` int32, ``q`` int64, ``f`` float32, ``d`` float64.

    ``values``: an array of any shape, bytes, or a sequence. rclpy checks every element of anything else in Python.
    """
    if typecode not in _DTYPES:
        raise unknown_name("typecode", typecode, _DTYPES)
    if isinstance(values, (bytes, bytearray, memoryview)):
        data = bytes(values)
    else:
        data = np.ascontiguousarray(values, _DTYPES[typecode]).tobytes()
    result = array.array(typecode)
    result.frombytes(data)
    return result


def __getattr__(name: str) -> type[Any]:
    if name.startswith("__"):
        raise AttributeError(name)
    if name not in CATALOGUE:
        raise ImportError(str(unknown_name("message type", name, CATALOGUE)), name=name)
    found = api.interface(CATALOGUE[name])
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*CATALOGUE, "numbers"])
