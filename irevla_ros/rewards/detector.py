"""The contract of a reward detector, and debouncing around any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Observation


@dataclass(frozen=True)
class Detection:
    """What one observation shows. success: None when it cannot be told; failure: the task cannot succeed any more;
    progress: 0 to 1, or None. Success and failure together are a contradiction and count as neither (``sure``)."""

    success: bool | None = None
    failure: bool = False
    progress: float | None = None

    @property
    def sure(self) -> bool | None:
        """True: success; False: failure; None: neither, or both."""
        if bool(self.success) == self.failure:
            return None
        return bool(self.success)


class RewardDetector(Protocol):
    """Sees every observation of an episode in order and says what it shows."""

    def reset(self, task: str) -> None:
        """An episode of ``task`` begins; nothing seen before counts."""

    def observe(self, observation: Observation, info: Mapping[str, Any]) -> Detection:
        """``info``: what else is known, such as the simulator's published state; may be empty."""


class Debounce:
    """A detector whose findings must last: ``hold`` observations in a row to be believed, ``release`` in a row without them
    to be given up again. One that cannot be told breaks a row that is being counted, in either direction."""

    def __init__(self, inner: RewardDetector, hold: int = 3, release: int = 3) -> None:
        if hold < 1 or release < 1:
            raise ConfigError(f"debounce of {hold} and {release} observations", "both are at least 1", "give 3 and 3")
        self.inner = inner
        self._success, self._failure = _Latch(hold, release), _Latch(hold, release)

    def reset(self, task: str) -> None:
        self.inner.reset(task)
        self._success.reset()
        self._failure.reset()

    def observe(self, observation: Observation, info: Mapping[str, Any]) -> Detection:
        raw = self.inner.observe(observation, info)
        told = raw.success is not None or raw.failure
        believed = self._success.update(raw.sure is True if told else None)
        failed = self._failure.update(raw.sure is False if told else None)
        return Detection(believed if told or believed else None, failed, raw.progress)


class _Latch:
    def __init__(self, hold: int, release: int) -> None:
        self._hold, self._release = hold, release
        self.reset()

    def reset(self) -> None:
        self._on, self._row = False, 0

    def update(self, seen: bool | None) -> bool:
        self._row = self._row + 1 if seen is (not self._on) else 0
        if self._row >= (self._release if self._on else self._hold):
            self._on, self._row = not self._on, 0
        return self._on
