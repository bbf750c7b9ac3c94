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
ATTEMPTS = 3  # times as many as wanted; experts succeed in at least 95 %, so more than this mean a broken task


def collect_demonstrations(
    pool: WorkerPool, spool: Spool, scene: SceneConfig, tasks: Sequence[str], per_task: int, seed: int,
    console: Console, environments: int = 16,
) -> int:  # fmt: skip
    """Fill ``spool`` up to ``per_task`` successes of each task; returns how many episodes were run.

    The k-th attempt at a task has the k-th seed, and attempts are made in that order until enough have succeeded: a
    collection that was killed and resumed ends with the same episodes as one that was not.
    """
    tried: set[str] = set()
    while requests := _missing(spool, tasks, per_task, seed, tried):
        with console.progress(len(requests), "expert demonstrations") as progress:
            progress.update(0)  # workers need seconds to start

            def keep(result: EpisodeResult) -> None:
                progress.update()
                if result.success and result.episode is not None:
                    spool.write_episode(result.episode, durable=False)

            run_episodes(pool, scene, requests, batch=environments, run_id=f"demo-{seed}", on_result=keep)
            spool.commit()
        tried.update(request.episode_id for request in requests)
    return len(tried)


def _missing(spool: Spool, tasks: Sequence[str], per_task: int, seed: int, tried: set[str]) -> list[EpisodeRequest]:
    """The next attempts at each task, as many as successes are lacking; ``tried`` are those made just now."""
    reader = SpoolReader(spool.root)
    over = tried.union(reader.ids())
    requests: list[EpisodeRequest] = []
    for number, task in enumerate(tasks):
        lacking = per_task - len(reader.episodes(task=task, mode=Mode.DEMO, outcome=Outcome.SUCCESS))
        first = DEMO_SEED * (1 + seed) + 100_000 * number
        seeds = range(first, first + ATTEMPTS * per_task)
        attempts = [(f"demo-{task.replace('@', '-at-')}-{one}", one) for one in seeds]
        left = [EpisodeRequest(name, task, one, Mode.DEMO, expert=True) for name, one in attempts if name not in over]
        if lacking > len(left):
            raise SimulationError(f"task {task!r}: {lacking} demonstrations lacking after {len(seeds)} attempts",
                                  "its expert succeeds in most", "leave the task out, or mend its expert")  # fmt: skip
        requests += left[: max(0, lacking)]
    return requests
