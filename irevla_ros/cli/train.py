"""Train iRe-VLA or a baseline on a suite of tasks, in one process with many simulated arms.

A run lives in its folder; started again with the same arguments, or with --resume, it continues where it was stopped
or killed. With several methods or seeds it is a study: for each seed, stage 0 is trained once (method sft) and the
other methods start from it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

from irevla_ros.cli.common import add_configuration, configuration
from irevla_ros.cli.runs import run_folder
from irevla_ros.core.config import load_config
from irevla_ros.core.errors import ConfigError, DataError, Interrupted
from irevla_ros.data.files import FULL
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.run_folder import is_finished, resume_command
from irevla_ros.jobs.train import Trainer
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.learn.plan import METHODS, plan

EPILOG = """examples:
  irevla train --name first                                   iRe-VLA with PPO on the demo suite
  irevla train --method irevla-sacfd --sft runs/first         SACfD from the same stage 0
  irevla train --method sft,irevla,ppo-replay --seeds 1,2,3 --name study
  irevla train --resume runs/first                            go on after Ctrl-C or a kill
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, "demo")
    parser.add_argument("--method", help=f"one, or several by commas for a study: {', '.join(METHODS)} (default: irevla)")
    parser.add_argument("--seeds", help="training seeds of a study, by commas, such as 1,2,3")
    parser.add_argument("--name", help="folder of the run under runs/, or a path (default: method and seed)")
    parser.add_argument("--sft", metavar="RUN", help="take demonstrations and stage 0 from this run, which has finished them")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run; takes no other argument")
    parser.epilog = EPILOG


def run(args: argparse.Namespace) -> int:
    if args.resume is not None:
        folder = run_folder(args.resume)
        given = [args.method, args.name, args.sft, args.seeds, args.seed]
        if args.overrides or any(value is not None for value in given):
            raise ConfigError(f"--resume {args.resume} with other arguments", "a run keeps the configuration that it began "
                              "with", "leave them out, or start a new run with --name")  # fmt: skip
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"--resume {args.resume}: {folder}", "a run's folder has config.yaml",
                              "give the folder of a run, such as runs/demo")  # fmt: skip
        config = load_config(RunConfig, folder / "config.yaml")
        link = folder / "sft_run.txt"
        with WorkerPool(config.workers) as pool:
            train_one(folder, config, pool, Path(link.read_text()) if link.is_file() else None)
        return 0
    methods = args.method.split(",") if args.method is not None else []
    if len(methods) > 1 or args.seeds:
        return _study(args, methods)
    config = configuration(args, method=args.method)
    with WorkerPool(config.workers) as pool:
        train_one(run_folder(args.name or f"{config.method}-seed{config.seed}"), config, pool,
                  run_folder(args.sft) if args.sft else None)  # fmt: skip
    return 0


def train_one(folder: Path, config: RunConfig, pool: WorkerPool, sft_run: Path | None) -> None:
    """Start or continue one run.

    Raises ``Interrupted`` on Ctrl-C and ``DataError`` on a full disk; both name the command that goes on.
    """
    try:
        with contextlib.closing(Trainer(folder, config, pool, sft_run=sft_run)) as trainer:
            trainer.run()
    except KeyboardInterrupt:
        raise Interrupted(resume_command(folder)) from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DataError(f"disk of {folder}: {os.strerror(error.errno)}", "a run writes episodes, checkpoints and logs",
                        f"free space there, then: {resume_command(folder)}") from error  # fmt: skip


def _study(args: argparse.Namespace, methods: list[str]) -> int:
    given = args.seeds or str(1 if args.seed is None else args.seed)
    if not re.fullmatch(r"\d+(,\d+)*", given):
        raise ConfigError(f"--seeds {given}", "seeds are whole numbers by commas, not negative", "write --seeds 1,2,3")
    seeds = [int(seed) for seed in given.split(",")]
    study = run_folder(args.name or "study")
    base = configuration(args)
    if args.sft is not None:
        raise ConfigError(f"--sft {args.sft}", "a study trains its own stage 0 for each seed", "leave it out")
    methods = methods or [base.method]
    for method in methods:
        plan(method, ())  # an unknown one is an error now, not after hours
    with WorkerPool(base.workers) as pool:
        for seed, method in itertools.product(seeds, ["sft", *(m for m in methods if m != "sft")]):
            folder, sft = study / f"{method}-seed{seed}", study / f"sft-seed{seed}"
            if not is_finished(folder):
                print(f"== {method}, seed {seed}: {folder}")
                config = replace(base, method=method, seed=seed)
                try:
                    train_one(folder, config, pool, None if method == "sft" else sft)
                except Interrupted:  # the whole study is to go on, not this run alone
                    raise Interrupted(args.command_line) from None
    print(f"tables: irevla report --study {study} --out docs/results")
    return 0
