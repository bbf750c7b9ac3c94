"""The learned success classifier against the simulator: python bench/reward.py (resumable; writes bench/results/reward.md).

1. The shipped stage 0 practises RL tasks of suite demo, with exploration and without learning. The first 20 successes and 20
   failures of each are what `irevla reward train` gets; other start states give 200 and 200 that it never saw.
2. Stage 1 (SACfD) from the same stage 0, twice for each seed: by the simulator's reward, and by the classifier's, which then
   alone ends episodes as successes. Both policies are evaluated without noise, by the simulator.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from simulation import RESULTS, machine

from irevla_ros.cli.main import main as irevla
from irevla_ros.core.stats import Rate
from irevla_ros.core.types import Episode, Mode, Outcome
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.graph_config import shipped_policy
from irevla_ros.jobs.progress import Console
from irevla_ros.jobs.reward_data import FrameLabels, read_labelled
from irevla_ros.jobs.reward_eval import percent, score_all
from irevla_ros.jobs.rollouts import EpisodeRequest, PolicySnapshot, SceneConfig, run_episodes
from irevla_ros.jobs.run_record import PRACTICE_SEED
from irevla_ros.jobs.stage1 import Stage1
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
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.rewards.classifier import FILE
from irevla_ros.rewards.success_head import load_success_heads
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.suite import load_suite
from irevla_ros.sim.tasks import DIRECTIONS, Press, Push

STD = 0.3  # exploration of practice
LINGER = 5  # steps after a success: half a second, as a person needs to press the key
FIRST_SEED = {"train": 50_000_000, "heldout": 60_000_000}
WANTED = {"train": 20, "heldout": 200}  # of successes and of failures, for each task
KINDS = (Outcome.SUCCESS, Outcome.FAILURE)
NEAR = 0.5  # of the way that a push has to go
NEAR_BUTTON = 0.03  # m from the button's axis, at most as high above it


def practise(pool: WorkerPool, spool: Spool, task: str, first_seed: int, wanted: int, console: Console) -> None:
    """Episodes of stage 0 with exploration, until ``wanted`` successes and failures are kept; the rest is thrown away."""
    checkpoint = shipped_policy()
    vla = load_vla(checkpoint)[0]
    log_std = np.full(vla.action_spec.size, math.log(STD), np.float32)
    policy = PolicySnapshot(str(checkpoint), log_std=log_std, fingerprint=vla.backbone.fingerprint())
    records = SpoolReader(spool.root).episodes(task=task)
    kept = {kind: sum(record.meta.outcome is kind for record in records) for kind in KINDS}
    seed = max((record.meta.seed + 1 for record in records), default=first_seed)
    while min(kept.values()) < wanted:
        requests = [EpisodeRequest(f"{task}-{one}", task, one, Mode.TRAIN, linger=LINGER) for one in range(seed, seed + 64)]
        for result in run_episodes(pool, SceneConfig("demo"), requests, policy, run_id="bench-reward"):
            assert result.episode is not None
            kind = result.episode.meta.outcome
            if kept[kind] < wanted:
                kept[kind] += 1
                spool.write_episode(result.episode, durable=False)
        spool.commit()
        seed += 64
        console.say(f"{spool.root.name} {task}: " + ", ".join(f"{number} {kind.value}" for kind, number in kept.items()))


def near_miss(env: PandaEnv, episode: Episode) -> bool:
    """Was the failure a close one? Its actions are run again, which the simulator does exactly.

    A push: the object has gone half of the way at some time. A press: the tip has been right above the button, or another
    one was pressed.
    """
    env.reset(seed=episode.meta.seed, options={"task": episode.meta.task})
    task = env.task
    for action in episode.proposed:
        *_, info = env.step(action)
        if isinstance(task, Push):
            moved = env.world.position(task.target.body) - task.start
            if moved @ DIRECTIONS[task.spec.direction] > NEAR * task.distance:
                return True
        elif isinstance(task, Press):
            away = env.world.arm.tip()[0][:2] - np.array(task.target.xy)
            if info["failure"] or np.linalg.norm(away) < NEAR_BUTTON:
                return True
    return False


def classify(folder: Path, tasks: Sequence[str]) -> list[str]:
    """Train on ``train``, check on ``heldout``; lines of the report."""
    trained, named = folder / "classifier", [word for task in tasks for word in ("--task", task)]
    if not (trained / FILE).is_file():
        irevla(["reward", "train", str(folder / "train"), "--out", str(trained), "--limit", str(WANTED["train"]), *named])
    irevla(["reward", "eval", str(folder / "heldout"), "--classifier", str(trained), *named])
    heads, vla = load_success_heads(trained / FILE), load_vla(shipped_policy())[0].eval()
    scores = score_all(heads, read_labelled([folder / "heldout"], vla, tasks), FrameLabels())
    reader, env = SpoolReader(folder / "heldout"), PandaEnv("demo", image_size=8)
    lines = ["Trained on at most 20 successes and 20 failures of each task; measured on episodes of other start states.", "",
             (trained / "eval.md").read_text()]  # fmt: skip
    for task in tasks:
        failures = [reader.read(record.episode_id, cameras=(), latents=False)
                    for record in reader.episodes(task=task, outcome=Outcome.FAILURE)]  # fmt: skip
        found = sorted(one.anywhere for one in scores if one.task == task and one.success)
        mistaken = [one.anywhere >= found[len(found) // 10] for one in scores if one.task == task and not one.success]
        lines.append(f"- {task}: at the threshold that finds 90 % of these successes, it takes "
                     f"{percent(Rate(sum(mistaken), len(mistaken)))} of the failures for one.")  # fmt: skip
        near = sum(near_miss(env, one) for one in failures)
        lines.append(f"- {near} of {len(failures)} failures of {task} are near misses.")
    env.close()
    return [*lines, "", "On the training episodes, each by the heads that had not seen it:", "",
            (trained / "training.md").read_text()]  # fmt: skip


def stage1(pool: WorkerPool, task: str, seed: int, episodes: int, classifier: str, console: Console) -> Stage1:
    """SACfD on one task, as Algorithm 1 does it; ``classifier``: the file whose reward it learns from, or "" """
    config = RunConfig(method="irevla-sacfd", seed=seed)
    plan = replace(config.plan((task,), str(shipped_policy())), max_episodes=episodes, threshold=1.0)
    machine_ = IRevla(State(plan))
    machine_.handle(EvaluationDone("stage0"))
    start = machine_.next()
    assert isinstance(start, StartTask)
    learner = Stage1(start, shipped_policy(), config, [])
    machine_.handle(TaskStarted(task))
    collected: list[Episode] = []
    while not isinstance(command := machine_.next(), EndTask):
        if isinstance(command, UpdateHead):
            learner.update(collected, command.head_version)
            machine_.handle(UpdateDone(command.head_version))
            continue
        assert isinstance(command, CollectEpisodes)
        first = PRACTICE_SEED * (1 + seed) + command.first
        seeds = range(first, first + command.episodes)
        requests = [EpisodeRequest(f"practice-{one}", task, one, command.mode) for one in seeds]
        results = run_episodes(pool, config.scene, requests, learner.snapshot(), classifier=classifier)
        collected = [result.episode for result in results if result.episode is not None]
        learner.remember(collected)
        successes = tuple(result.success for result in results)
        machine_.handle(EpisodesCollected(task, successes))
        console.say(f"seed {seed}, {'classifier' if classifier else 'simulator'}: "
                    f"{command.first + len(successes)} episodes, {sum(successes)} of {len(successes)} successes")  # fmt: skip
    return learner


def compare(pool: WorkerPool, folder: Path, task: str, seeds: Sequence[int], episodes: int, evaluated: int,
            console: Console) -> list[str]:  # fmt: skip
    """Stage 1 by either reward; what is done already is in ``stage1.json``."""
    path, requests = folder / "stage1.json", [
        EpisodeRequest(f"eval-{index}", task, EVALUATION_SEED + index, Mode.EVAL, deterministic=True, keep=False)
        for index in range(evaluated)
    ]  # fmt: skip
    found: dict[str, list[int]] = json.loads(path.read_text()) if path.is_file() else {}

    def evaluate(name: str, policy: PolicySnapshot) -> Rate:
        results = run_episodes(pool, SceneConfig("demo"), requests, policy)
        found[name] = [sum(result.success for result in results), len(results)]
        path.write_text(json.dumps(found))
        return Rate(*found[name])

    lines = ["| seed | stage 0 | by the simulator | by the classifier | classifier / simulator |", "|---|---|---|---|---:|"]
    before = Rate(*found["stage0"]) if "stage0" in found else evaluate("stage0", PolicySnapshot(str(shipped_policy())))
    for seed in seeds:
        by = {}
        for reward, classifier in (("simulator", ""), ("classifier", str(folder / "classifier" / FILE))):
            name = f"{reward}-{seed}-{episodes}"
            by[reward] = (Rate(*found[name]) if name in found else
                          evaluate(name, stage1(pool, task, seed, episodes, classifier, console).snapshot()))  # fmt: skip
        share = by["classifier"].mean / by["simulator"].mean if by["simulator"].successes else math.nan
        cells = [str(seed), *map(percent, (before, by["simulator"], by["classifier"])), f"{share:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return [f"Stage 1 of {task} with SACfD, {episodes} episodes; success without noise on {evaluated} start states, judged by "
            "the simulator:", "", *lines]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-reward"), help="episodes and classifier (%(default)s)")
    parser.add_argument("--task", action="append", help="RL tasks of suite demo (default: all)")
    parser.add_argument("--practise", default="push-blue-cube-left", help="task of the second part (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2], help="of the second part; none: leave it out")
    parser.add_argument("--episodes", type=int, default=640, help="of each stage 1 (%(default)s)")
    parser.add_argument("--evaluated", type=int, default=200, help="start states (%(default)s)")
    arguments = parser.parse_args()
    console, tasks = Console(), arguments.task or [task.name for task in reversed(load_suite("demo").rl)]
    with WorkerPool(2) as pool:
        for part, wanted in WANTED.items():
            for number, task in enumerate(tasks):
                practise(pool, Spool(arguments.folder / part), task, FIRST_SEED[part] + 1_000_000 * number, wanted, console)
        lines = classify(arguments.folder, tasks)
        if arguments.seeds:
            lines += ["", *compare(pool, arguments.folder, arguments.practise, arguments.seeds, arguments.episodes,
                                   arguments.evaluated, console)]  # fmt: skip
    settings = ", ".join(f"{key} {value}" for key, value in machine().items())
    head = ["# The success classifier", "", "`python bench/reward.py`; intervals are Wilson's at 95 %.", ""]
    text = "\n".join([*head, *lines, "", settings])
    (RESULTS / "reward.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
