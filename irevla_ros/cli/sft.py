"""Stage 0 alone: collect demonstrations of the expert tasks, clone them with the whole VLA, and evaluate.

The result is the starting point of every other method: irevla train --sft runs/NAME.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irevla_ros.cli.common import add_configuration, configuration
from irevla_ros.cli.runs import run_folder
from irevla_ros.cli.train import train_one
from irevla_ros.jobs.workers import WorkerPool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, "demo")
    parser.add_argument("--name", help="folder of the run under runs/, or a path (default: sft and the seed)")
    parser.add_argument("--demos", metavar="FOLDER", help="learn from the successes of this run of `irevla collect`, or spool")
    parser.epilog = (
        "examples:\n  irevla sft --name base learning.stage0_steps=1500\n  irevla sft --demos runs/collect --name by-hand"
    )


def run(args: argparse.Namespace) -> int:
    config = configuration(args, method="sft", demonstrations=Path(args.demos).resolve() if args.demos else None)
    with WorkerPool(config.workers) as pool:
        train_one(run_folder(args.name or f"sft-seed{config.seed}"), config, pool, None)
    return 0
