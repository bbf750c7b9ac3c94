"""Stage 1 of one task under several settings, from the same stage 0: learning curve and final deterministic success.

    python bench/stage1.py --run runs/sft-seed1 --task push-blue-cube-left --try "" --try "std=0.2 ppo.epochs=8"

Each ``--try`` is a list of overrides of the demo configuration, as for `irevla train`. One training seed: a lead, not a
verdict.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from irevla_ros.core.config import load_config
from irevla_ros.core.stats import Rate
from irevla_ros.core.types import Mode
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.rollouts import EpisodeRequest, run_episodes
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.train import PRACTICE_SEED
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.learn.irevla import StartTask


def practise(pool: WorkerPool, checkpoint: Path, task: str, episodes: int, config: RunConfig) -> None:
    """Run PPO on ``task`` and print one row of the table."""
    stage1 = Stage1(StartTask(task, "sft", "ppo", "head", 1, 0), checkpoint, config, [])
    started, outcomes = time.monotonic(), list[bool]()
    while len(outcomes) < episodes:
        numbers = range(len(outcomes), min(episodes, len(outcomes) + config.learning.episodes_per_update))
        seeds = [PRACTICE_SEED * (1 + config.seed) + number for number in numbers]
        requests = [EpisodeRequest(f"practice-{seed}", task, seed, Mode.TRAIN) for seed in seeds]
        results = run_episodes(pool, config.scene, requests, stage1.snapshot(), batch=config.environments)
        outcomes += [result.success for result in results]
        stage1.update([result.episode for result in results if result.episode is not None], stage1.head_version + 1)
    wall = time.monotonic() - started
    requests = [
        EpisodeRequest(f"eval-{index}", task, EVALUATION_SEED + index, Mode.EVAL, deterministic=True, keep=False)
        for index in range(150)
    ]
    results = run_episodes(pool, config.scene, requests, stage1.snapshot(), batch=config.environments)
    quarter = max(1, episodes // 4)
    curve = " ".join(f"{sum(part) / len(part):.2f}" for i in range(0, episodes, quarter) if (part := outcomes[i : i + quarter]))
    final = Rate(sum(result.success for result in results), len(results))
    print(f"| {curve} | {final} | {wall:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/sft-seed1"), help="a run with a finished stage 0 (%(default)s)")
    parser.add_argument("--task", default="push-blue-cube-left", help="%(default)s")
    parser.add_argument("--episodes", type=int, default=640)
    parser.add_argument("--try", action="append", dest="settings", metavar="OVERRIDES", default=[])
    arguments = parser.parse_args()
    print("| settings | success of practice, by quarter | deterministic after it | seconds |\n|---|---|---|---:|")
    configs = [load_config(RunConfig, None, text.split()) for text in arguments.settings or [""]]
    with WorkerPool(configs[0].workers) as pool:
        for text, config in zip(arguments.settings or [""], configs, strict=True):
            print(f"| {text or 'defaults'} ", end="")
            practise(pool, arguments.run / "checkpoints" / "sft", arguments.task, arguments.episodes, config)


if __name__ == "__main__":
    main()
