"""``irevla episodes export|import``: to LeRobot and rosbag2 MCAP, from there, and from bags of the live graph."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irevla_ros.cli.episodes_common import add_filters, add_spool, select
from irevla_ros.core.errors import DataError
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.progress import Progress

FORMATS = ("lerobot", "mcap")


def add_verbs(verbs: Any) -> None:
    """export and import."""
    giving = verbs.add_parser(
        "export",
        help="write a LeRobotDataset v3, or rosbag2 MCAP bags",
        description="Write episodes to a new folder, which appears when it is whole. What the format cannot hold is said, and "
        "kept beside it where possible (docs/data.md).",
    )
    add_spool(giving)
    giving.add_argument("out", type=Path, help="the new folder")
    giving.add_argument("--format", required=True, choices=FORMATS, help="lerobot: one dataset; mcap: a bag for each episode")
    giving.add_argument("--lossless", action="store_true", help="lerobot: keep every pixel (larger; browsers do not play it)")
    add_filters(giving)
    giving.set_defaults(do=_export)

    taking = verbs.add_parser(
        "import",
        help="take in what was exported, or a bag of the live graph",
        description="Put episodes into a spool with their ids and labels. What is there already is left alone: an import that "
        "was stopped is repeated. The format is seen from the files.",
    )
    taking.add_argument("source", type=Path, help="a dataset, a bag, or a folder of bags")
    add_spool(taking)
    live = taking.add_argument_group("for a bag of the live graph, as the recorder's parameters")
    live.add_argument("--cameras", default="", metavar="A,B", help="the first gives the stamps (default: the only one)")
    live.add_argument("--image-size", type=int, default=64, help="pixels, square; 0 as they come (default: %(default)s)")
    live.add_argument("--rate", type=float, default=10.0, metavar="HZ", help="of control (default: %(default)s)")
    taking.set_defaults(do=_import)


def _export(args: argparse.Namespace) -> int:
    reader = SpoolReader(args.spool)
    records = select(reader.episodes(discarded=True), args)
    if not records:
        raise DataError(f"{args.spool}", "no episode fits the filters", "see irevla episodes list, with the same filters")
    if args.format == "lerobot":
        from irevla_ros.exchange.lerobot import export_lerobot, not_in_frames

        written, lacking = export_lerobot(reader, records, args.out, args.lossless), not_in_frames(records, args.lossless)
    else:
        from irevla_ros.exchange.bag import export_bags

        if args.lossless:
            raise DataError("--lossless", "bags have the recorded frames as they are", "leave it out")
        written, lacking = export_bags(reader, records, args.out), []
    with Progress(len(records), "export") as progress:
        for _ in written:
            progress.update()
    print(f"{len(records)} episodes, {sum(record.steps for record in records)} steps: {args.out}")
    for line in lacking:
        print(f"not in the format, but {line}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from irevla_ros.exchange.sealed import take

    parcels = _parcels(args)
    spool, done = Spool(args.spool), Counter[str]()
    for parcel in parcels:
        taken = take(spool, parcel)
        done[taken.value] += 1
        print(f"{parcel.episode_id}: {taken.value}")
    print(f"{done.total()} episodes: " + ", ".join(f"{count} {what}" for what, count in done.items()))
    return 0


def _parcels(args: argparse.Namespace) -> Iterator[Any]:
    """What the source holds, whatever it is."""
    source: Path = args.source
    if (source / "meta" / "info.json").is_file():
        from irevla_ros.exchange.lerobot_import import read_lerobot

        return read_lerobot(source)
    bags = [path.parent for path in (source / "metadata.yaml", *sorted(source.glob("*/metadata.yaml"))) if path.is_file()]
    if not bags:
        raise DataError(f"{source}", "a LeRobotDataset has meta/info.json, a bag metadata.yaml", "give the folder that has it")
    return (parcel for bag in bags for parcel in _of_bag(bag, args))


def _of_bag(path: Path, args: argparse.Namespace) -> Iterator[Any]:
    from irevla_ros.exchange.bag import META, bag_topics, read_bag

    if META in bag_topics(path):
        yield read_bag(path)
        return
    from irevla_ros.exchange.live_bag import LiveSettings, read_live_bag

    settings = LiveSettings(tuple(filter(None, args.cameras.split(","))), args.image_size, args.rate)
    yield from read_live_bag(path, settings, lambda why: print(why, file=sys.stderr))
    print(f"{path}: latents, log-probabilities and versions of the policy are on no topic and so not in the bag")
