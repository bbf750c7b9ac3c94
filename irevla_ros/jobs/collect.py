"""Demonstrations of the scripted experts: successful episodes only, as in the paper's expert datasets."""

from __future__ import annotations

from collections.abc import Sequence

from irevla_ros.core.errors import SimulationError
from irevla_ros.core.types import Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.rollouts import EpisodeRequest, EpisodeResult, SceneConfig, run_episodes
from irevla_ros.jobs.workers import WorkerPool

DEMO_SEED = 10_000_000  # far from the seeds of practice and of evaluation
TRIES = 3  # experts succeed in at least 95 %, so more rounds than this mean a broken task


def collect_demonstrations(
    pool: WorkerPool, spool: Spool, scene: SceneConfig, tasks: Sequence[str], per_task: int, seed: int,
    console: Console, environments: int = 16,
) -> int:  # fmt: skip
    """Fill ``spool`` up to ``per_task`` successes of each task; returns how many episodes were run. Resumable."""
    ran = 0
    for round_number in range(TRIES):
        requests = _missing(spool, tasks, per_task, seed, round_number)
        if not requests:
            return ran
        with console.progress(len(requests), "expert demonstrations") as progress:

            def keep(result: EpisodeResult) -> None:
                progress.update()
                if result.success and result.episode is not None:
                    spool.write_episode(result.episode, durable=False)

            run_episodes(pool, scene, requests, batch=environments, run_id=f"demo-{seed}", on_result=keep)
            spool.commit()
        ran += len(requests)
    left = _missing(spool, tasks, per_task, seed, TRIES)
    if left:
        raise SimulationError(f"task {left[0].task!r}", f"its expert missed {len(left)} demonstrations in {TRIES} rounds",
                              "check the task with irevla episodes show")  # fmt: skip
    return ran


def _missing(spool: Spool, tasks: Sequence[str], per_task: int, seed: int, round_number: int) -> list[EpisodeRequest]:
    reader = SpoolReader(spool.root)
    requests = []
    for number, task in enumerate(tasks):
        have = len(reader.episodes(task=task, mode=Mode.DEMO, outcome=Outcome.SUCCESS))
        for index in range(per_task - have):
            episode_seed = DEMO_SEED * (1 + seed) + 100_000 * number + 10_000 * round_number + have + index
            name = f"demo-{task.replace('@', '-at-')}-{episode_seed}"
            requests.append(EpisodeRequest(name, task, episode_seed, Mode.DEMO, expert=True))
    return requests
