"""Stage 1 of one task under several settings, from the same stage 0: learning curve and final deterministic success.

    python bench/stage1.py --run runs/sft-seed1 --task push-blue-cube-left --try "" --try "std=0.2 ppo.epochs=8"

Each ``--try`` is a list of overrides of the demo configuration, as for `irevla train` (``method=irevla-sacfd`` practises
with SACfD, which first collects its zero-shot successes). One training seed: a lead, not a verdict.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from irevla_ros.core.config import load_config
from irevla_ros.core.stats import Rate
from irevla_ros.core.types import Episode, Mode
from irevla_ros.data.reader import SpoolReader
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.rollouts import EpisodeRequest, run_episodes
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.train import PRACTICE_SEED
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.learn.irevla import (
    CollectEpisodes,
    EndTask,
    EpisodesCollected,
    EvaluationDone,
    IRevla,
    StartTask,
    State,
    TaskStarted,
    UpdateDone,
    UpdateHead,
)

# Start states of neither practice nor evaluation: what is tuned here must not be tuned to those of the results.
TUNING_SEED = EVALUATION_SEED + PRACTICE_SEED // 2


def practise(pool: WorkerPool, run: Path, task: str, episodes: int, config: RunConfig) -> None:
    """Run stage 1 of the configured method on ``task``, as Algorithm 1 does, and print one row of the table."""
    checkpoint, expert = run / "checkpoints" / "sft", SpoolReader(run / "expert")
    plan = replace(config.plan((task,), str(checkpoint)), max_episodes=episodes, threshold=1.0)
    machine = IRevla(State(plan))
    machine.handle(EvaluationDone("stage0"))
    start = machine.next()
    assert isinstance(start, StartTask)
    anchored = config.ppo.anchor == "bc"
    stage1 = Stage1(start, checkpoint, config, [expert.read(name) for name in expert.ids()] if anchored else [])
    machine.handle(TaskStarted(task))
    started, outcomes, zero_shot = time.monotonic(), list[bool](), 0
    collected: list[Episode] = []
    while not isinstance(command := machine.next(), EndTask):
        if isinstance(command, UpdateHead):
            stage1.update(collected, command.head_version)
            machine.handle(UpdateDone(command.head_version))
            continue
        assert isinstance(command, CollectEpisodes)
        first = PRACTICE_SEED * (1 + config.seed) + command.first
        seeds = range(first, first + command.episodes)
        requests = [EpisodeRequest(f"practice-{seed}", task, seed, command.mode) for seed in seeds]
        results = run_episodes(pool, config.scene, requests, stage1.snapshot(), batch=config.environments)
        collected = [result.episode for result in results if result.episode is not None]
        stage1.remember(collected)
        successes = tuple(result.success for result in results)
        if command.mode is Mode.TRAIN:
            outcomes += successes
        else:
            zero_shot += len(successes)
        machine.handle(EpisodesCollected(task, successes))
    wall = time.monotonic() - started
    requests = [
        EpisodeRequest(f"eval-{index}", task, TUNING_SEED + index, Mode.EVAL, deterministic=True, keep=False)
        for index in range(150)
    ]
    results = run_episodes(pool, config.scene, requests, stage1.snapshot(), batch=config.environments)
    quarter = max(1, len(outcomes) // 4)
    parts = [outcomes[i : i + quarter] for i in range(0, 4 * quarter, quarter)]
    curve = " ".join(f"{sum(part) / len(part):.2f}" for part in parts if part)
    final = Rate(sum(result.success for result in results), len(results))
    print(f"| {zero_shot} + {len(outcomes)} | {curve} | {final} | {wall:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/sft-seed1"), help="a run with a finished stage 0 (%(default)s)")
    parser.add_argument("--task", default="push-blue-cube-left", help="%(default)s")
    parser.add_argument("--episodes", type=int, default=640, help="budget of each (%(default)s)")
    parser.add_argument("--try", action="append", dest="settings", metavar="OVERRIDES", default=[])
    arguments = parser.parse_args()
    print("| settings | episodes (zero-shot + practice) | success of practice, by quarter | deterministic after it | seconds |")
    print("|---|---:|---|---|---:|")
    configs = [load_config(RunConfig, None, text.split()) for text in arguments.settings or [""]]
    with WorkerPool(configs[0].workers) as pool:
        for text, config in zip(arguments.settings or [""], configs, strict=True):
            print(f"| {text or 'defaults'} ", end="")
            practise(pool, arguments.run, arguments.task, arguments.episodes, config)


if __name__ == "__main__":
    main()
