"""The module of the chosen backend, for the parts of this package that need more of it than nodes may see."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from irevla_ros.ros.backend import chosen

if TYPE_CHECKING:
    from irevla_ros.ros.embedded import api
else:
    api: Any = import_module(f"irevla_ros.ros.{chosen().backend.value}.api")

__all__ = ["api"]
