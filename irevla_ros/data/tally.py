"""Counting what a spool holds, from its files: right after any crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from irevla_ros.core.collection import Entry, TaskTally
from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord


@dataclass(frozen=True)
class Counted:
    """tasks by name; last: the newest episode that is ``own``; defective: kept, but with defects; damaged: unreadable."""

    tasks: tuple[TaskTally, ...]
    last: Entry | None
    defective: int
    damaged: int


def count(reader: SpoolReader, own: Callable[[str], bool]) -> Counted:
    """Of all episodes but evaluations. ``own``: whether an episode id is of the arm whose last one is wanted."""
    records, damaged = [], 0
    for episode_id in reader.ids():
        try:
            record = reader.record(episode_id)
        except DataError:
            damaged += 1
            continue
        if record.meta.mode is not Mode.EVAL:
            records.append(record)
    names = sorted({record.meta.task for record in records})
    last = max((record for record in records if own(record.episode_id)), key=_number, default=None)
    defective = sum(bool(record.meta.defects) and not record.discarded for record in records)
    return Counted(tuple(_tally(name, [r for r in records if r.meta.task == name]) for name in names),
                   None if last is None else entry(last), defective, damaged)  # fmt: skip


def entry(record: EpisodeRecord) -> Entry:
    meta = record.meta
    return Entry(meta.episode_id, meta.task, record.steps, meta.outcome, record.discarded, meta.perturbed, meta.defects)


def _number(record: EpisodeRecord) -> int:
    """Ids end with it; beyond 999 999 they do not sort as text."""
    return int(record.episode_id.rpartition("-")[2])


def _tally(task: str, records: list[EpisodeRecord]) -> TaskTally:
    kept = [record for record in records if not record.discarded]
    by = {outcome: sum(record.meta.outcome is outcome for record in kept) for outcome in Outcome}
    return TaskTally(task, by[Outcome.SUCCESS], by[Outcome.FAILURE], by[Outcome.UNKNOWN], len(records) - len(kept),
                     sum(record.steps for record in kept))  # fmt: skip
