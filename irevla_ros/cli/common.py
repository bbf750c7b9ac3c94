"""What several subcommands share: the run's configuration from arguments, and a pool of workers."""

from __future__ import annotations

import argparse

from irevla_ros.core.config import find_config, load_config
from irevla_ros.jobs.config import RunConfig


def add_configuration(parser: argparse.ArgumentParser, default: str) -> None:
    """Arguments that ``configuration`` reads."""
    parser.add_argument("--config", default=default, help="name of a shipped configuration, or a YAML file (%(default)s)")
    parser.add_argument("--seed", type=int, help="training seed; evaluation start states are the same for every seed")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value",
                        help="settings, such as demos=40 ppo.actor_lr=1e-4; config.yaml of any run lists them all")  # fmt: skip


def configuration(args: argparse.Namespace, **settings: object) -> RunConfig:
    """The configuration file, then ``settings``, then --seed, then the overrides of the command line."""
    overrides = [f"{name}={value}" for name, value in settings.items() if value is not None]
    if args.seed is not None:
        overrides.append(f"seed={args.seed}")
    return load_config(RunConfig, find_config(args.config), [*overrides, *args.overrides])
