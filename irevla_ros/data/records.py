"""What the reader hands out besides episodes: records, which are episodes without their columns, and windows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irevla_ros.core.types import Episode, EpisodeMeta, Mode, Outcome


@dataclass(frozen=True)
class EpisodeRecord:
    """One sealed episode, without its columns.

    meta: as sealed, except that ``outcome`` is the effective one, by the last label; sealed_outcome: as recorded;
    steps: those that count, of ``sealed_steps``, from ``first_step`` on (a label can trim the ends); cameras: names;
    sha256: content hash; label_revision: 0 without labels; torn_label_bytes: what a crash left of an unfinished label,
    ignored.
    """

    path: Path
    meta: EpisodeMeta
    sealed_outcome: Outcome
    steps: int
    cameras: tuple[str, ...]
    sha256: str
    size_bytes: int
    label_revision: int
    discarded: bool
    torn_label_bytes: int
    first_step: int
    sealed_steps: int

    @property
    def episode_id(self) -> str:
        return self.meta.episode_id

    def matches(
        self, *, task: str | None, mode: Mode | None, outcome: Outcome | None, run: str | None, discarded: bool
    ) -> bool:
        """Whether it fits every filter given (None fits all) and is not discarded, unless those are wanted too."""
        return (
            task in (None, self.meta.task)
            and mode in (None, self.meta.mode)
            and outcome in (None, self.meta.outcome)
            and run in (None, self.meta.run_id)
            and (discarded or not self.discarded)
        )


@dataclass(frozen=True)
class Window:
    """Steps [start, start + length) of an episode, as an ``Episode`` of its own with length + 1 observations."""

    start: int
    episode: Episode
