"""The learned success classifier against the simulator: python bench/reward.py (resumable).

1. Shipped stage 0 practises the RL tasks of suite demo with exploration, without learning. The first 20 successes and 20
   failures of each task are what `irevla reward train` gets; other start states give 200 and 200 that it never saw.
2. Stage 1 (SACfD) from the same stage 0, twice for each seed: by the simulator's reward, and by the classifier's, which then
   alone ends episodes as successes. Both are evaluated without noise, by the simulator.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.graph_config import shipped_policy
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.rollouts import EpisodeRequest, EpisodeResult, PolicySnapshot, SceneConfig, run_episodes
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.sim.suite import load_suite

STD = 0.3  # exploration of practice
LINGER = 5  # steps after a success: half a second, as a person needs to press the key
SEEDS = {"train": 50_000_000, "heldout": 60_000_000}
WANTED = {"train": 20, "heldout": 200}  # of successes and of failures, for each task


def practise(pool: WorkerPool, spool: Spool, task: str, first_seed: int, wanted: int, console: Console) -> None:
    """Episodes of stage 0 with exploration, until ``wanted`` successes and failures are kept; the rest is thrown away."""
    checkpoint = shipped_policy()
    vla = load_vla(checkpoint)[0]
    log_std = np.full(vla.action_spec.size, math.log(STD), np.float32)
    policy = PolicySnapshot(str(checkpoint), log_std=log_std, fingerprint=vla.backbone.fingerprint())
    kept = {outcome: len(SpoolReader(spool.root).episodes(task=task, outcome=outcome))
            for outcome in (Outcome.SUCCESS, Outcome.FAILURE)}  # fmt: skip
    seed = first_seed
    while min(kept.values()) < wanted:
        requests = [EpisodeRequest(f"{task}-{one}", task, one, Mode.TRAIN, linger=LINGER) for one in range(seed, seed + 64)]
        known = set(SpoolReader(spool.root).ids())
        results: list[EpisodeResult] = []
        if not known.intersection(request.episode_id for request in requests):
            results = run_episodes(pool, SceneConfig("demo"), requests, policy, run_id="bench-reward")
        for result in results:
            assert result.episode is not None
            outcome = result.episode.meta.outcome
            if kept[outcome] < wanted:
                kept[outcome] += 1
                spool.write_episode(result.episode, durable=False)
        spool.commit()
        seed += 64
        console.say(f"{spool.root.name} {task}: {kept[Outcome.SUCCESS]} successes, {kept[Outcome.FAILURE]} failures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-reward"))
    arguments = parser.parse_args()
    console = Console()
    tasks = [task.name for task in load_suite("demo").rl]
    with WorkerPool(2) as pool:
        for part in ("train", "heldout"):
            for number, task in enumerate(reversed(tasks)):
                first = SEEDS[part] + 1_000_000 * number
                practise(pool, Spool(arguments.folder / part), task, first, WANTED[part], console)


if __name__ == "__main__":
    main()
