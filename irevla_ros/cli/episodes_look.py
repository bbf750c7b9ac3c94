"""``irevla episodes show|stats``: one episode in words and pictures, a spool in numbers."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import cv2

from irevla_ros.cli.episodes_common import add_filters, add_spool, select, tell_torn
from irevla_ros.core.errors import DataError
from irevla_ros.core.types import ControlSource, Episode, Mode, Outcome
from irevla_ros.data.container import Container
from irevla_ros.data.files import write_error
from irevla_ros.data.labels import Label
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.records import EpisodeRecord
from irevla_ros.data.schema import meta_to_json
from irevla_ros.data.sheet import contact_sheet, film


def add_verbs(verbs: Any) -> None:
    """show and stats."""
    showing = verbs.add_parser(
        "show",
        help="one episode: what is known of it, and a picture or a film",
        description="Print what is known of an episode and write a contact sheet (.png) or a film (.webp): frames of every "
        "camera, executed actions and reward by step.",
    )
    add_spool(showing)
    showing.add_argument("episode", help="id of the episode, as in the list")
    showing.add_argument("--out", type=Path, metavar="FILE", help="a .png or .webp (default: EPISODE.png here)")
    showing.add_argument("--untrimmed", action="store_true", help="with the steps that a label trims off")
    showing.set_defaults(do=_show)

    counting = verbs.add_parser(
        "stats",
        help="the spool in numbers",
        description="Episodes and steps, success by mode and task, lengths, who commanded, instructions, sizes of images.",
    )
    add_spool(counting)
    add_filters(counting)
    counting.set_defaults(do=_stats)


def _show(args: argparse.Namespace) -> int:
    reader, episode_id = SpoolReader(args.spool), args.episode
    out = args.out or Path(f"{episode_id}.png")
    if out.suffix not in (".png", ".webp"):
        raise DataError(f"{out}", "a picture is a .png, a film a .webp", "name it so")
    record = reader.record(episode_id)
    episode = reader.read(episode_id, trimmed=not args.untrimmed)
    for name, value in json.loads(meta_to_json(record.meta)).items():
        print(f"{name:<21} {value if isinstance(value, str) else json.dumps(value)}")
    cameras = [f"{camera} {frames.shape[2]}x{frames.shape[1]}" for camera, frames in episode.images.items()]
    print(f"{'steps':<21} {len(episode)}, {(episode.stamps_ns[-1] - episode.stamps_ns[0]) / 1e9:.2f} s")
    print(f"{'cameras':<21} {', '.join(cameras) or 'none'}")
    print(f"{'return':<21} {float(episode.reward.sum()):g}")
    print(f"{'latents':<21} {'none' if episode.latents is None else list(episode.latents.shape)}")
    print(f"{'file':<21} {record.path}, {record.size_bytes / 1e3:.1f} kB, sha256 {record.sha256}")
    for label in reader.labels(episode_id).labels:
        print(f"{'label ' + str(label.revision):<21} {said(label)}")
    tell_torn([record])
    try:
        out.write_bytes(_film(episode) if out.suffix == ".webp" else _picture(episode))
    except OSError as error:
        raise write_error(out, error) from error
    print(f"{'picture':<21} {out}")
    return 0


def _picture(episode: Episode) -> bytes:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(contact_sheet(episode), cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def _film(episode: Episode) -> bytes:
    from irevla_ros.jobs.video import encode  # matplotlib's fonts: a second that only films need

    return encode(film(episode), episode.meta.control_rate_hz)


def said(label: Label) -> str:
    """One revision in words."""
    what = ["discarded"] if label.discard else []
    what += [label.outcome.value] if label.outcome is not None else []
    what += [f"steps {label.keep[0]} to {label.keep[1] - 1}"] if label.keep is not None else []
    return f"{', '.join(what) or 'as before'} by {label.who} {label.note}".rstrip()


# ---- stats -------------------------------------------------------------------------------------------------------


def _stats(args: argparse.Namespace) -> int:
    reader = SpoolReader(args.spool)
    records = select(reader.episodes(discarded=True), args)
    if not records:
        print("no episodes")
        return 0
    lengths = [record.steps for record in records]
    seconds = sum(record.steps / record.meta.control_rate_hz for record in records)
    labelled = sum(record.label_revision > 0 for record in records)
    trimmed = sum(record.steps < record.sealed_steps for record in records)
    rows = [
        ("episodes", f"{len(records)}, {sum(lengths)} steps, {seconds / 60:.1f} min, "
                     f"{sum(record.size_bytes for record in records) / 1e6:.1f} MB"),
        ("steps an episode", f"{min(lengths)} to {max(lengths)}, median {median(lengths):g}"),
        ("labels", f"on {labelled} episodes; {trimmed} trimmed, {sum(record.discarded for record in records)} discarded"),
        ("commanded by", _sources(reader, records)),
        ("images", _counted(size for record in records for size in _image_sizes(record))),
        *((f"{mode.value} {task}", said) for (mode, task), said in _by_task(records)),
        *(("instruction", f"{words!r}: {n}") for words, n in Counter(r.meta.instruction for r in records).most_common()),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


def _by_task(records: list[EpisodeRecord]) -> Iterator[tuple[tuple[Mode, str], str]]:
    """Success of each task, practice and evaluations apart."""
    for mode, task in sorted({(record.meta.mode, record.meta.task) for record in records}):
        outcomes = Counter(record.meta.outcome for record in records if (record.meta.mode, record.meta.task) == (mode, task))
        known = outcomes[Outcome.SUCCESS] + outcomes[Outcome.FAILURE]
        rate = f", success {outcomes[Outcome.SUCCESS] / known:.2f} of {known}" if known else ""
        unknown = f", {outcomes[Outcome.UNKNOWN]} unknown" if outcomes[Outcome.UNKNOWN] else ""
        yield (mode, task), f"{outcomes.total()} episodes{rate}{unknown}"


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{value}: {count}" for value, count in Counter(values).most_common())


def _sources(reader: SpoolReader, records: list[EpisodeRecord]) -> str:
    steps: Counter[str] = Counter()
    for record in records:
        source = reader.read(record.episode_id, cameras=(), latents=False).source
        steps.update({one.name.lower(): int((source == one).sum()) for one in ControlSource})
    return ", ".join(f"{name} {count / steps.total():.0%}" for name, count in steps.most_common() if count)


def _image_sizes(record: EpisodeRecord) -> list[str]:
    with Container(record.path) as sealed:
        cameras = json.loads(sealed.metadata["cameras"])
    return [f"{name} {one['shape'][1]}x{one['shape'][0]} {one['format']}" for name, one in cameras.items()]
