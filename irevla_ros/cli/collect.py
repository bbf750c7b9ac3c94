"""Record successful demonstrations of the scripted experts into a spool."""

from __future__ import annotations

import argparse
from pathlib import Path

from irevla_ros.core.errors import ConfigError, Interrupted
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.collect import collect_demonstrations
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.rollouts import SceneConfig
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.sim.suite import load_suite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spool", type=Path, help="folder to record into; what it already holds counts")
    parser.add_argument("--suite", default="demo", help="name of a shipped suite, or a YAML file (%(default)s)")
    parser.add_argument("--tasks", help="tasks by commas (default: the expert tasks of the suite)")
    parser.add_argument("--episodes", type=int, default=50, help="successes to have for each task (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="start states of the demonstrations (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.epilog = "example:\n  irevla collect runs/demos --tasks press-red --episodes 20\n  irevla episodes list runs/demos"


def run(args: argparse.Namespace) -> int:
    if args.episodes < 1 or args.workers < 1:
        raise ConfigError(f"--episodes {args.episodes} --workers {args.workers}", "both are at least 1", "raise them")
    suite = load_suite(args.suite)
    tasks = args.tasks.split(",") if args.tasks else [task.name for task in suite.expert]
    for task in tasks:
        suite.task(task)
    spool = Spool(args.spool)
    try:
        with WorkerPool(args.workers) as pool:
            ran = collect_demonstrations(pool, spool, SceneConfig(args.suite), tasks, args.episodes, args.seed, Console())
    except KeyboardInterrupt:
        raise Interrupted(args.command_line) from None
    print(f"{spool.root}: {args.episodes} successes of each of {len(tasks)} tasks ({ran} episodes run now)")
    return 0
