"""Train iRe-VLA or a baseline on a suite of tasks, in one process with many simulated arms.

A run lives in its folder; started again with the same arguments, or with --resume, it continues where it was stopped
or killed. With several methods or seeds it is a study: for each seed, stage 0 is trained once (method sft) and the
other methods start from it.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

from irevla_ros.cli.common import add_configuration, configuration, run_folder
from irevla_ros.core.config import load_config
from irevla_ros.core.errors import ConfigError
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.train import Trainer, is_finished
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.learn.plan import METHODS

EPILOG = """examples:
  irevla train --name first                                   iRe-VLA with PPO on the demo suite
  irevla train --method irevla-sacfd --sft runs/first         SACfD from the same stage 0
  irevla train --config study --method sft,irevla,ppo-replay --seeds 1,2,3 --name study
  irevla train --resume runs/first                            go on after Ctrl-C or a kill
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser, "demo")
    parser.add_argument("--method", default="irevla", help=f"one or several, by commas: {', '.join(METHODS)} (%(default)s)")
    parser.add_argument("--seeds", help="training seeds of a study, by commas")
    parser.add_argument("--name", help="folder of the run under runs/, or a path (default: method and seed)")
    parser.add_argument("--sft", metavar="RUN", help="take demonstrations and stage 0 from this run")
    parser.add_argument("--resume", metavar="FOLDER", help="go on with a run; no other argument is needed")
    parser.epilog = EPILOG


def run(args: argparse.Namespace) -> int:
    if args.resume is not None:
        folder = run_folder(args.resume)
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"run {folder}", "a run's folder has config.yaml", "check the path; see ls runs")
        config = load_config(RunConfig, folder / "config.yaml")
        link = folder / "sft_run.txt"
        with WorkerPool(config.workers) as pool:
            train_one(folder, config, pool, Path(link.read_text()) if link.is_file() else None)
        return 0
    methods = args.method.split(",")
    if len(methods) > 1 or args.seeds:
        return _study(args, methods)
    config = configuration(args, method=args.method)
    with WorkerPool(config.workers) as pool:
        train_one(run_folder(args.name or f"{config.method}-seed{config.seed}"), config, pool,
                  run_folder(args.sft) if args.sft else None)  # fmt: skip
    return 0


def train_one(folder: Path, config: RunConfig, pool: WorkerPool, sft_run: Path | None) -> Path:
    """Start or continue one run; returns the path of its report."""
    trainer = Trainer(folder, config, pool, sft_run=sft_run)
    try:
        return trainer.run()
    finally:
        trainer.close()


def _study(args: argparse.Namespace, methods: list[str]) -> int:
    seeds = [int(seed) for seed in (args.seeds or "1").split(",")]
    study = run_folder(args.name or "study")
    base = configuration(args)
    with WorkerPool(base.workers) as pool:
        for seed, method in itertools.product(seeds, ["sft", *(m for m in methods if m != "sft")]):
            folder, sft = study / f"{method}-seed{seed}", study / f"sft-seed{seed}"
            if not is_finished(folder):
                print(f"== {method}, seed {seed}: {folder}")
                config = replace(base, method=method, seed=seed)
                train_one(folder, config, pool, None if method == "sft" else sft)
    print(f"tables: irevla report --study {study} --out docs/results")
    return 0
