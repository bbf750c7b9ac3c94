"""What several verbs of ``irevla episodes`` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from irevla_ros.core.errors import unknown_name
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.paths import spool_of
from irevla_ros.data.records import EpisodeRecord


def add_spool(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spool", type=_spool, help="folder of the episodes; of a run's folder it is that of the practice")


def _spool(word: str) -> Path:
    """The folder itself, or, of a run's folder, its practice; standard error says so."""
    folder = Path(word)
    spool = spool_of(folder)
    if spool != folder:
        others = " (its demonstrations are in expert/)" if (folder / "expert").is_dir() else ""
        print(f"{folder} is a run: its episodes of practice{others}", file=sys.stderr)
    return spool


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Arguments that ``select`` reads."""
    parser.add_argument("--task", help="only episodes of this task")
    parser.add_argument("--run", dest="run_id", metavar="RUN", help="only episodes of this run")
    parser.add_argument("--mode", choices=[mode.value for mode in Mode], help="only episodes run for this purpose")
    parser.add_argument("--outcome", choices=[o.value for o in Outcome], help="only episodes that ended so")
    parser.add_argument("--discarded", action="store_true", help="also those that were discarded by a label")


def select(records: Sequence[EpisodeRecord], args: argparse.Namespace) -> list[EpisodeRecord]:
    """Those of a spool's ``records`` that fit the filters. Raises ConfigError for a task or a run that none of them has."""
    for what, name, known in (("task", args.task, {record.meta.task for record in records}),
                              ("run", args.run_id, {record.meta.run_id for record in records})):  # fmt: skip
        if name is not None and known and name not in known:
            raise unknown_name(what, name, known, "of these episodes")
    mode, outcome = args.mode and Mode(args.mode), args.outcome and Outcome(args.outcome)
    return [record for record in records if record.matches(task=args.task, mode=mode, outcome=outcome, run=args.run_id,
                                                           discarded=args.discarded)]  # fmt: skip


def tell_torn(records: Iterable[EpisodeRecord]) -> None:
    for record in records:
        if record.torn_label_bytes:
            print(f"{record.episode_id}: an unfinished last label of {record.torn_label_bytes} bytes is ignored",
                  file=sys.stderr)  # fmt: skip
