"""``irevla episodes``: list, show and verify the recorded episodes of a spool."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2

from irevla_ros.core.errors import DataError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.files import write_error
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.data.schema import meta_to_json
from irevla_ros.data.sheet import contact_sheet
from irevla_ros.jobs.progress import Progress

COLUMNS = ("episode", "mode", "steps", "outcome", "ended by", "task", "run", "instruction")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Look at recorded episodes. A spool is a folder with one file an episode (docs/episode-format.md); nothing "
        "here changes it. Of a run's folder it is that of the practice."
    )
    parser.epilog = (
        "examples:\n"
        "  irevla episodes list runs/demo/practice --outcome success\n"
        "  irevla episodes show runs/demo/expert EPISODE\n"
        "  irevla episodes verify runs/demo/practice"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|show|verify")

    listing = verbs.add_parser(
        "list",
        help="a table of the episodes, one a line",
        description="One line an episode: id, mode, steps, outcome (the last verdict; * marks one given after the "
        "recording), why it ended, task, run, instruction. Exit code 1 when a file is damaged.",
    )
    listing.add_argument("spool", type=Path, help="folder of the episodes")
    listing.add_argument("--task", help="only episodes of this task")
    listing.add_argument("--run", dest="run_id", metavar="RUN", help="only episodes of this run")
    listing.add_argument("--mode", choices=[mode.value for mode in Mode], help="only episodes run for this purpose")
    listing.add_argument("--outcome", choices=[o.value for o in Outcome], help="only episodes that ended so")
    listing.add_argument("--discarded", action="store_true", help="also those that were discarded by a label")

    showing = verbs.add_parser(
        "show",
        help="one episode: what is known of it, and a picture",
        description="Print what is known of an episode and write a contact sheet: frames of every camera, executed "
        "actions and reward by step.",
    )
    showing.add_argument("spool", type=Path, help="folder of the episodes")
    showing.add_argument("episode", help="id of the episode, as in the list")
    showing.add_argument("--out", type=Path, metavar="FILE", help="where the picture goes (default: EPISODE.png here)")

    verifying = verbs.add_parser(
        "verify",
        help="check every byte of every episode",
        description="Compare every file with its checksums and decode every frame. One line for each damaged episode; "
        "exit code 1 when there is one, 0 otherwise.",
    )
    verifying.add_argument("spool", type=Path, help="folder of the episodes")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 when an episode is damaged; raises DataError when what was asked for is absent or damaged."""
    reader = SpoolReader(_spool(args.spool))
    if args.verb == "list":
        return _list(reader, args)
    if args.verb == "show":
        return _show(reader, args.episode, args.out or Path(f"{args.episode}.png"))
    return _verify(reader)


def _spool(folder: Path) -> Path:
    """The folder itself, or, of a run's folder, its practice; standard error says so."""
    if not (folder / "practice").is_dir():
        return folder
    others = " (its demonstrations are in expert/)" if (folder / "expert").is_dir() else ""
    print(f"{folder} is a run: its episodes of practice{others}", file=sys.stderr)
    return folder / "practice"


def _list(reader: SpoolReader, args: argparse.Namespace) -> int:
    records, damaged = [], 0
    for episode_id in reader.ids():
        try:
            records.append(reader.record(episode_id))
        except DataError as error:
            print(error, file=sys.stderr)
            damaged += 1
    total = len(records)
    records = [
        record
        for record in records
        if record.matches(
            task=args.task,
            mode=None if args.mode is None else Mode(args.mode),
            outcome=None if args.outcome is None else Outcome(args.outcome),
            run=args.run_id,
            discarded=args.discarded,
        )
    ]
    rows = [COLUMNS, *map(_row, records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    steps, size = sum(r.steps for r in records), sum(r.size_bytes for r in records)
    shown = f"{len(records)} of {total} episodes, {steps} steps, {size / 1e6:.1f} MB"
    print(shown + (f"; {damaged} damaged" if damaged else ""))
    _tell_torn(records)
    return 1 if damaged else 0


def _row(record: EpisodeRecord) -> tuple[str, ...]:
    meta = record.meta
    outcome = meta.outcome.value + ("*" if record.label_revision else "") + (" (discarded)" if record.discarded else "")
    reason = meta.termination_reason.value
    return (
        record.episode_id,
        meta.mode.value,
        str(record.steps),
        outcome,
        reason,
        meta.task,
        meta.run_id or "-",
        meta.instruction,
    )


def _show(reader: SpoolReader, episode_id: str, out: Path) -> int:
    record = reader.record(episode_id)
    episode = reader.read(episode_id)
    for name, value in json.loads(meta_to_json(record.meta)).items():
        print(f"{name:<21} {value if isinstance(value, str) else json.dumps(value)}")
    cameras = [f"{camera} {frames.shape[2]}x{frames.shape[1]}" for camera, frames in episode.images.items()]
    print(f"{'steps':<21} {record.steps}, {(episode.stamps_ns[-1] - episode.stamps_ns[0]) / 1e9:.2f} s")
    print(f"{'cameras':<21} {', '.join(cameras) or 'none'}")
    print(f"{'return':<21} {float(episode.reward.sum()):g}")
    print(f"{'latents':<21} {'none' if episode.latents is None else list(episode.latents.shape)}")
    print(f"{'file':<21} {record.path}, {record.size_bytes / 1e3:.1f} kB, sha256 {record.sha256}")
    for label in reader.labels(episode_id).labels:
        verdict = "discard" if label.discard else label.outcome.value if label.outcome else "keep"
        print(f"{'label ' + str(label.revision):<21} {verdict} by {label.who} {label.note}".rstrip())
    _tell_torn([record])
    _, encoded = cv2.imencode(".png", cv2.cvtColor(contact_sheet(episode), cv2.COLOR_RGB2BGR))
    try:
        out.write_bytes(encoded.tobytes())
    except OSError as error:
        raise write_error(out, error) from error
    print(f"{'picture':<21} {out}")
    return 0


def _verify(reader: SpoolReader) -> int:
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
    _tell_torn(sound)
    return 1 if damaged else 0


def _tell_torn(records: list[EpisodeRecord]) -> None:
    for record in records:
        if record.torn_label_bytes:
            print(f"{record.episode_id}: an unfinished last label of {record.torn_label_bytes} bytes is ignored",
                  file=sys.stderr)  # fmt: skip
