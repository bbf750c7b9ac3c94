"""``irevla episodes relabel|trim``: what is said of sealed episodes, as new revisions; the episodes stay as they are."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

from irevla_ros.cli.episodes_common import add_spool
from irevla_ros.cli.episodes_look import said
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool


def add_verbs(verbs: Any) -> None:
    """relabel and trim."""
    labelling = verbs.add_parser(
        "relabel",
        help="give another verdict, discard, or take a discard back",
        description="Append a revision to the labels of each episode. What was recorded stays; the last verdict counts.",
    )
    add_spool(labelling)
    labelling.add_argument("episodes", nargs="+", metavar="episode", help="ids, as in the list")
    what = labelling.add_mutually_exclusive_group(required=True)
    what.add_argument("--outcome", choices=[outcome.value for outcome in Outcome], help="did the task succeed?")
    what.add_argument("--discard", action="store_true", help="never learn from it; it stays on the disk")
    what.add_argument("--restore", action="store_true", help="take the discard back")
    _add_author(labelling)
    labelling.set_defaults(do=_relabel)

    trimming = verbs.add_parser(
        "trim",
        help="leave out steps at the beginning or the end",
        description="Append a revision that says which steps count. Nothing is deleted; the last revision counts. Where the "
        "end is left out, the last step that is left takes over the reward and the ending of the last recorded one.",
    )
    add_spool(trimming)
    trimming.add_argument("episode", help="id of the episode, as in the list")
    trimming.add_argument("--keep", required=True, metavar="START:STOP",
                          help="steps as recorded, from 0, without STOP; 5: leaves out the first five, : nothing")  # fmt: skip
    _add_author(trimming)
    trimming.set_defaults(do=_trim)


def _add_author(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--who", default=os.environ.get("USER", "operator"), help="who says so (default: %(default)s)")
    parser.add_argument("--note", default="", help="why, in words")


def _relabel(args: argparse.Namespace) -> int:
    spool, reader = Spool(args.spool), SpoolReader(args.spool)
    for episode_id in args.episodes:
        reader.record(episode_id)  # all of them are there before the first is changed
    outcome = Outcome(args.outcome) if args.outcome else None
    for episode_id in args.episodes:
        discard = args.discard or (reader.labels(episode_id).discarded and not args.restore)
        label = spool.label(episode_id, outcome, args.who, discard=discard, note=args.note)
        print(f"{episode_id}: label {label.revision}, {said(label)}")
    return 0


def _trim(args: argparse.Namespace) -> int:
    record = SpoolReader(args.spool).record(args.episode)
    found = re.fullmatch(r"(\d*):(\d*)", args.keep)
    if found is None:
        raise ConfigError(f"--keep {args.keep}", "two step numbers with a colon, of which either may be left out", "try 5:40")
    keep = int(found[1] or 0), int(found[2] or record.sealed_steps)
    label = Spool(args.spool).label(args.episode, None, args.who, discard=record.discarded, note=args.note, keep=keep)
    print(f"{args.episode}: label {label.revision}, {keep[1] - keep[0]} of {record.sealed_steps} steps count")
    return 0
