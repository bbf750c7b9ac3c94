"""Measure the success rate of a checkpoint on a suite, with its 95 % interval.

Start states depend on the suite alone, so that two checkpoints meet the same ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.stats import Rate
from irevla_ros.core.types import CATEGORIES
from irevla_ros.jobs.evaluate import evaluate, evaluation_requests
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.rollouts import PolicySnapshot, SceneConfig
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.policy.checkpoint import load_vla


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="folder such as runs/demo/checkpoints/sft")
    parser.add_argument("--suite", default="demo", help="name of a shipped suite, or a YAML file (%(default)s)")
    parser.add_argument("--episodes", type=int, default=200,
                        help="in each category, rounded up to equal shares of its tasks (%(default)s)")  # fmt: skip
    parser.add_argument("--std", type=float, help="explore with this standard deviation (default: deterministic)")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.epilog = "example:\n  irevla eval runs/demo/checkpoints/sft --episodes 300"


def run(args: argparse.Namespace) -> int:
    if args.episodes < 1 or args.workers < 1:
        raise ConfigError(f"--episodes {args.episodes} --workers {args.workers}", "both are at least 1", "raise them")
    if args.std is not None and not args.std > 0:
        raise ConfigError(f"--std {args.std}", "it is positive", "leave it out for deterministic actions")
    vla, _ = load_vla(args.checkpoint)
    log_std = None if args.std is None else np.full(vla.action_spec.size, np.log(args.std), np.float32)
    policy = PolicySnapshot(str(args.checkpoint), log_std=log_std)
    scene = SceneConfig(args.suite, vla.cameras, vla.backbone.image_size[0])
    requests = evaluation_requests(args.suite, args.episodes, deterministic=args.std is None)
    with WorkerPool(args.workers) as pool:
        found = evaluate(pool, scene, policy, requests, args.checkpoint.name, Console(), environments=16)
    for category in CATEGORIES:
        print(f"{category:8} {found.rate(category)}")
        for task in dict.fromkeys(e.task for e in found.episodes if e.category == category):
            outcomes = [e.success for e in found.episodes if e.task == task]
            print(f"  {task:32} {Rate(sum(outcomes), len(outcomes))}")
    return 0
