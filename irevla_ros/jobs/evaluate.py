"""Evaluation: every method meets the same start states, so that differences are paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from irevla_ros.core.types import CATEGORIES, Mode
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.rollouts import EpisodeRequest, PolicySnapshot, SceneConfig, run_episodes
from irevla_ros.jobs.summary import EvaluatedEpisode, Evaluation
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.sim.suite import load_suite

EVALUATION_SEED = 1_000_000  # start states of evaluation: the same for every method and training seed


def evaluation_requests(suite: str, per_category: int, deterministic: bool = True) -> list[EpisodeRequest]:
    """``per_category`` episodes (rounded up to equal shares) over the tasks of each category."""
    requests = []
    for category in CATEGORIES:
        tasks = getattr(load_suite(suite), category)
        share = -(-per_category // len(tasks))
        for task in tasks:
            for index in range(share):
                seed = EVALUATION_SEED + index
                requests.append(EpisodeRequest(f"eval-{task.name}-{seed}", task.name, seed, Mode.EVAL,
                                               deterministic=deterministic, keep=False))  # fmt: skip
    return requests


def evaluate(
    pool: WorkerPool,
    scene: SceneConfig,
    policy: PolicySnapshot,
    requests: Sequence[EpisodeRequest],
    label: str,
    console: Console,
    environments: int,
) -> Evaluation:
    """Run ``requests`` with ``policy`` and return what happened under ``label``."""
    suite = load_suite(scene.suite)
    with console.progress(len(requests), f"evaluating {label}") as progress:
        progress.update(0)
        results = run_episodes(pool, scene, requests, policy, batch=environments, on_result=lambda _: progress.update())
    episodes = tuple(
        EvaluatedEpisode(r.request.task, suite.category(r.request.task), r.request.seed, r.success, r.steps)
        for r in results
    )
    return Evaluation(label, policy.checkpoint, requests[0].deterministic, episodes)


def recorded(requests: Sequence[EpisodeRequest], per_task: int) -> list[EpisodeRequest]:
    """The first ``per_task`` requests of each task, to be kept whole: for videos."""
    kept: dict[str, list[EpisodeRequest]] = {}
    for request in requests:
        chosen = kept.setdefault(request.task, [])
        if len(chosen) < per_task:
            chosen.append(replace(request, keep=True))
    return [request for chosen in kept.values() for request in chosen]
