"""What recorder, episode node and operator tell each other while episodes are collected, and whose turn is next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from irevla_ros.core.messages import Message
from irevla_ros.core.types import Outcome


@dataclass(frozen=True)
class TaskTally:
    """Episodes of a task in the spool, by effective outcome; the discarded count as nothing else. steps: of those kept."""

    task: str
    success: int = 0
    failure: int = 0
    unknown: int = 0
    discarded: int = 0
    steps: int = 0

    @property
    def kept(self) -> int:
        return self.success + self.failure + self.unknown


@dataclass(frozen=True)
class Entry:
    """One episode as it stands now, labels included."""

    episode_id: str
    task: str
    steps: int
    outcome: Outcome
    discarded: bool
    perturbed: bool
    defects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tally(Message):
    """``recorder/tally``: what the spool holds, counted from its files; latched. last: of this arm, None before the first;
    defective: episodes kept although something is wrong with them; damaged: files that cannot be read; said: what was done at
    the operator's wish last, "" for nothing."""

    KIND: ClassVar[str] = "recorder/tally"

    tasks: tuple[TaskTally, ...]
    last: Entry | None
    free_bytes: int
    defective: int = 0
    damaged: int = 0
    said: str = ""


@dataclass(frozen=True)
class Note(Message):
    """``episode/note``: the operator's words on an episode; ``episode_id`` "" is the running one, or else the last."""

    KIND: ClassVar[str] = "episode/note"

    text: str
    episode_id: str = ""


@dataclass(frozen=True)
class Choice(Message):
    """``episode/choice``: the operator wants this task next, until told otherwise; "" leaves it to the order of the list.
    ``instruction``: in the operator's own words, "" for those of the list."""

    KIND: ClassVar[str] = "episode/choice"

    task: str = ""
    instruction: str = ""


@dataclass(frozen=True)
class Job:
    """A task and how it is said."""

    task: str
    instruction: str


@dataclass(frozen=True)
class Agenda(Message):
    """``episode/agenda``: the list of tasks, and what the next start begins; latched. chosen: by the operator."""

    KIND: ClassVar[str] = "episode/agenda"

    jobs: tuple[Job, ...]
    next: Job | None
    chosen: bool = False


def least_done(tasks: Sequence[str], tally: Sequence[TaskTally]) -> int:
    """The index of the task with the fewest successes; of equals that with the fewest episodes, then the first."""
    known = {one.task: (one.success, one.kept) for one in tally}
    return min(range(len(tasks)), key=lambda index: (*known.get(tasks[index], (0, 0)), index))


def task_name(instruction: str) -> str:
    """A task's name made of an instruction: ``Press the red button!`` is ``press-the-red-button``; "" where nothing is left."""
    kept = "".join(char if char.isascii() and char.isalnum() else " " for char in instruction.lower())
    return "-".join(kept.split())[:60].strip("-")
