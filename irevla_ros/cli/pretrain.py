"""Make the weights of the small vision-language model from rendered scenes and questions about them.

The package ships the result (policy/weights/tiny.safetensors, seed 0). This command makes it again in about five minutes:
as good, but not bit for bit the same, since another machine, or a renderer that was sped up since, rounds differently.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irevla_ros.core.config import load_config
from irevla_ros.jobs.pretrain import PretrainConfig, pretrain
from irevla_ros.policy.tiny import WEIGHTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="safetensors file to write (default: into the package)")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, weights and batches (%(default)s, as shipped)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings, such as frames=8000 training.steps=800")
    parser.epilog = "example:\n  irevla pretrain --out /tmp/tiny.safetensors --seed 1"


def run(args: argparse.Namespace) -> int:
    config = load_config(PretrainConfig, None, [f"seed={args.seed}", *args.overrides])
    errors = pretrain(config, args.out)
    print(f"held-out scenes: place error median {100 * errors['place_error']:.1f} cm, 90 % below "
          f"{100 * errors['place_error_p90']:.1f} cm; colour named right {errors['colour_accuracy']:.0%}; "
          f"state right {errors['state_accuracy']:.0%}")  # fmt: skip
    print(args.out)
    return 0
