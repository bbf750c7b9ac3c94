"""The whole loop on two new tasks, in about eleven minutes on two CPU cores.

Demonstrations by scripted experts, stage 0, evaluation, stages 1 and 2 on two tasks that were never demonstrated,
evaluation, a table and a report with plots and videos. Stopped or killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools

from irevla_ros.cli.common import add_configuration, configuration
from irevla_ros.cli.runs import RUNS, run_folder
from irevla_ros.cli.train import train_one
from irevla_ros.jobs.results import outcome
from irevla_ros.jobs.run_folder import is_finished
from irevla_ros.jobs.workers import WorkerPool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, "demo")
    parser.add_argument("--name", help="folder of the run under runs/, or a path (default: demo, or the next free demo-N)")
    parser.epilog = "examples:\n  irevla demo\n  irevla demo --seed 2"


def run(args: argparse.Namespace) -> int:
    config = configuration(args, method="irevla")
    names = (f"demo-{n}" if n > 1 else "demo" for n in itertools.count(1))
    folder = run_folder(args.name or next(name for name in names if not is_finished(RUNS / name)))
    print(f"{folder}: this takes about eleven minutes on two cores; watch {folder}/report.html and {folder}/videos as it goes")
    with WorkerPool(config.workers) as pool:
        train_one(folder, config, pool, None)
    print(outcome(folder))
    return 0
