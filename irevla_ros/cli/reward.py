"""Train and check a success classifier: it tells the reward node, or a training run, when an episode has reached its goal.

It reads what the frozen vision-language model makes of the pictures. docs/reward.md says how to record and to label.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.types import Mode
from irevla_ros.data.files import write_error
from irevla_ros.jobs.graph_config import SHIPPED, checkpoint_of
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.reader_training import (
    ReaderTraining,
    check_reader,
    encode_touches,
    reads_patches,
    train_reader,
)
from irevla_ros.jobs.reward_data import FrameLabels, read_labelled
from irevla_ros.jobs.reward_eval import rates, score, score_all, table
from irevla_ros.jobs.reward_training import RewardTraining, shortages, train_heads
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.policy.place_reader import READER, load_reader, save_reader
from irevla_ros.rewards.classifier import FILE
from irevla_ros.rewards.success_head import load_success_heads, save_success_heads
from irevla_ros.sim.touches import touches

LEARNED_FROM = (Mode.TRAIN, Mode.DEMO)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = RewardTraining()
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="train|eval|reader")
    training = verbs.add_parser(
        "train",
        help="from labelled episodes to a classifier",
        description="Learn from the judged episodes of one or more spools (modes train and demo), several tasks at once, "
        "and print how the heads judge the episodes that they left out.",
    )
    checking = verbs.add_parser(
        "eval",
        help="how often it is right, by task",
        description="Print and write a table: false positives, recall and precision of whole episodes, with 95 % intervals.",
    )
    reading = verbs.add_parser(
        "reader",
        help="what finds the named thing, from pictures of the simulator",
        description="Teach a reader of places on the latents of a checkpoint's backbone, which stays as it is, and write it "
        "beside it. Only backbones of one camera with 8 x 8 patches have one. About 10 minutes.",
    )
    recipe = ReaderTraining()
    reading.add_argument("--checkpoint", default=SHIPPED, metavar="FOLDER", help="whose backbone is read (%(default)s)")
    reading.add_argument("--touches", type=int, default=recipe.touches, help="pictures with an instruction (%(default)s)")
    reading.add_argument("--steps", type=int, default=recipe.steps, help="of learning places (%(default)s)")
    reading.add_argument("--seed", type=int, default=recipe.seed, help="%(default)s")
    for verb in (training, checking):
        verb.add_argument("spools", type=Path, nargs="+", metavar="SPOOL", help="folders of episodes, such as runs/a/practice")
        verb.add_argument("--task", action="append", default=[], help="only of this task; may be repeated")
        verb.add_argument("--reaction", type=int, default=default.labels.reaction,
                          help="observations from seeing a success to pressing the key, left out (%(default)s)")  # fmt: skip
        verb.add_argument("--shown", type=int, default=default.labels.shown,
                          help="observations before those that show the success (%(default)s)")  # fmt: skip
        verb.add_argument("--unsure", type=int, default=default.labels.unsure,
                          help="observations before those that are left out (%(default)s)")  # fmt: skip
    training.add_argument("--out", type=Path, required=True, metavar="FOLDER", help=f"{FILE} and training.md are written here")
    training.add_argument("--checkpoint", default=SHIPPED, metavar="FOLDER",
                          help="whose frozen vision-language model is read (%(default)s)")  # fmt: skip
    training.add_argument("--fpr", type=float, default=default.target,
                          help="false-positive rate of episodes to choose the threshold for (%(default)s)")  # fmt: skip
    training.add_argument("--hold", type=int, default=default.hold, help="observations in a row to be believed (%(default)s)")
    training.add_argument("--repeats", type=int, default=default.repeats,
                          help=f"divisions of the episodes, each for {default.folds} heads (%(default)s)")  # fmt: skip
    training.add_argument("--limit", type=int, default=0, help="at most so many successes and failures of each task (0: all)")
    training.add_argument("--seed", type=int, default=default.seed, help="%(default)s")
    checking.add_argument("--classifier", type=Path, required=True, metavar="FOLDER", help="what `irevla reward train` wrote")
    checking.add_argument("--checkpoint", default="", metavar="FOLDER",
                          help="whose vision-language model is read (default: that of the training)")  # fmt: skip
    checking.add_argument("--out", type=Path, metavar="FILE", help="where the table goes (default: eval.md in that folder)")
    parser.epilog = (
        "examples:\n"
        "  irevla reward train runs/lab/practice --out runs/lab/reward\n"
        "  irevla reward eval runs/other/practice --classifier runs/lab/reward"
    )


def run(args: argparse.Namespace) -> int:
    return {"train": _train, "eval": _eval, "reader": _reader}[args.verb](args)


def _train(args: argparse.Namespace) -> int:
    if args.limit < 0:
        raise ConfigError(f"--limit {args.limit}", "it is not negative", "leave it out for all episodes")
    labels = FrameLabels(args.reaction, args.shown, args.unsure)
    config = replace(RewardTraining(), labels=labels, hold=args.hold, target=args.fpr, repeats=args.repeats,
                     seed=args.seed)  # fmt: skip
    named = args.checkpoint if args.checkpoint == SHIPPED else str(Path(args.checkpoint).resolve())
    vla = load_vla(checkpoint_of(named))[0].eval()
    fingerprint = vla.backbone.fingerprint()
    reader = load_reader(checkpoint_of(named), fingerprint, vla.backbone.latent_shape[1])
    console = Console()
    episodes = list(read_labelled(args.spools, vla, args.task, LEARNED_FROM, args.limit))
    console.say(f"{len(episodes)} episodes, {sum(one.success for one in episodes)} of them successes")
    with console.progress(config.heads, "heads") as progress:
        progress.update(0)
        heads, unseen = train_heads(episodes, config, fingerprint, named, reader, lambda done: progress.update())
    save_success_heads(args.out / FILE, heads)
    found = rates([score(one, seen, config.labels, config.hold) for one, seen in unseen], heads.spec.thresholds)
    text = "\n".join([f"Episodes that the judging heads had not seen; temperature {heads.spec.temperature:.2f}, "
                      f"{config.hold} observations in a row, {config.heads} heads. The thresholds were chosen on these.", "",
                      table(found), *(f"\nWarning: {one}." for one in shortages(found, config.target))])  # fmt: skip
    _write(args.out / "training.md", text)
    print(text)
    return 0


def _eval(args: argparse.Namespace) -> int:
    path = args.classifier / FILE
    named = args.checkpoint or load_success_heads(path).spec.checkpoint
    vla = load_vla(checkpoint_of(named))[0].eval()
    heads = load_success_heads(path, vla.backbone.fingerprint())
    labels = FrameLabels(args.reaction, args.shown, args.unsure)
    found = rates(score_all(heads, read_labelled(args.spools, vla, args.task), labels), heads.spec.thresholds)
    if not found:
        raise ConfigError(f"{path} of tasks {', '.join(sorted(heads.spec.thresholds))}", "the spools have none of these",
                          "train it on their tasks")  # fmt: skip
    text = f"{heads.spec.hold} observations in a row. Wilson intervals at 95 %.\n\n{table(found)}"
    _write(args.out or args.classifier / "eval.md", text)
    print(text)
    return 0


def _reader(args: argparse.Namespace) -> int:
    config = replace(ReaderTraining(), touches=args.touches, steps=args.steps, seed=args.seed)
    folder, console = checkpoint_of(args.checkpoint), Console()
    vla = load_vla(folder)[0].eval()
    reads_patches(vla)
    with console.progress(config.touches, "touches") as progress:
        progress.update(0)
        found = encode_touches(touches(config.seed, vla.backbone.image_size[0]), config.touches, vla.backbone, progress.update)
    with console.progress(config.steps + config.state_steps, "reader") as progress:
        reader = train_reader(found[: -config.held_out], config, progress.update)
    errors = {name: f"{value:.4g}" for name, value in check_reader(reader, found[-config.held_out :]).items()}
    save_reader(folder / READER, reader, vla.backbone.fingerprint(), seed=str(config.seed), **errors)
    print(", ".join(f"{name} {value}" for name, value in errors.items()))
    print(folder / READER)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise write_error(path, error) from error
