"""``irevla episodes``: list, show, check, relabel, trim, replay, export and import the recorded episodes of a spool."""

from __future__ import annotations

import argparse
import sys

from irevla_ros.cli import episodes_change, episodes_exchange, episodes_look, episodes_replay
from irevla_ros.cli.episodes_common import add_filters, add_spool, select, tell_torn
from irevla_ros.core.errors import DataError
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.jobs.progress import Progress

COLUMNS = ("episode", "mode", "steps", "outcome", "ended by", "task", "run", "instruction")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Look at recorded episodes, correct what is said of them, and take them elsewhere. A spool is a folder with one file "
        "an episode; nothing here changes such a file (docs/data.md)."
    )
    parser.epilog = (
        "examples:\n"
        "  irevla episodes list runs/demo/practice --outcome success\n"
        "  irevla episodes show runs/demo/expert EPISODE --out film.webp\n"
        "  irevla episodes relabel runs/demo/practice EPISODE --outcome failure --note 'fell off'\n"
        "  irevla episodes export runs/demo/expert pushing --format lerobot"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    listing = verbs.add_parser(
        "list",
        help="a table of the episodes, one a line",
        description="One line an episode: id, mode, steps, outcome (the last verdict; * marks one given after the "
        "recording), why it ended, task, run, instruction. Exit code 1 when a file is damaged.",
    )
    add_spool(listing)
    add_filters(listing)
    listing.set_defaults(do=_list)

    verifying = verbs.add_parser(
        "verify",
        help="check every byte of every episode",
        description="Compare every file with its checksums and decode every frame. One line for each damaged episode; "
        "exit code 1 when there is one, 0 otherwise.",
    )
    add_spool(verifying)
    verifying.set_defaults(do=_verify)
    for part in (episodes_look, episodes_change, episodes_replay, episodes_exchange):
        part.add_verbs(verbs)


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 when an episode is damaged; raises DataError when what was asked for is absent or damaged."""
    code: int = args.do(args)
    return code


def _list(args: argparse.Namespace) -> int:
    reader = SpoolReader(args.spool)
    records, damaged = [], 0
    for episode_id in reader.ids():
        try:
            records.append(reader.record(episode_id))
        except DataError as error:
            print(error, file=sys.stderr)
            damaged += 1
    total = len(records)
    records = select(records, args)
    rows = [COLUMNS, *map(_row, records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    steps, size = sum(r.steps for r in records), sum(r.size_bytes for r in records)
    shown = f"{len(records)} of {total} episodes, {steps} steps, {size / 1e6:.1f} MB"
    print(shown + (f"; {damaged} damaged" if damaged else ""))
    tell_torn(records)
    return 1 if damaged else 0


def _row(record: EpisodeRecord) -> tuple[str, ...]:
    meta = record.meta
    outcome = meta.outcome.value + ("*" if record.label_revision else "") + (" (discarded)" if record.discarded else "")
    reason = meta.termination_reason.value
    steps = f"{record.steps}" + (f" of {record.sealed_steps}" if record.steps < record.sealed_steps else "")
    return (
        record.episode_id,
        meta.mode.value,
        steps,
        outcome,
        reason,
        meta.task,
        meta.run_id or "-",
        meta.instruction,
    )


def _verify(args: argparse.Namespace) -> int:
    reader = SpoolReader(args.spool)
    ids, sound, damaged = reader.ids(), [], 0
    with Progress(len(ids), "verify") as progress:
        for episode_id in ids:
            try:
                sound.append(reader.verify(episode_id))
            except DataError as error:
                damaged += 1
                print(error)
            progress.update()
    print(f"{len(sound)} of {len(ids)} episodes sound, {damaged} damaged")
    tell_torn(sound)
    return 1 if damaged else 0
