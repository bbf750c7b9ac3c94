"""Rates of learning, on the finished run of `irevla sft`: `python bench/learning.py --run runs/sft-seed1`.

Prints and writes to bench/results/learning.md and .json: gradient steps of stage 1 on stored latents and through the VLM,
samples/s of supervised learning on one and on two processes, rollouts/s, and what latents cost on disk. All measurements
take turns, so that the load of a busy machine hits them alike; each figure is the median of the rounds with the smallest
and the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simulation import RESULTS, machine, table_of

from irevla_ros import __version__
from irevla_ros.core.config import load_config
from irevla_ros.core.errors import CheckpointError, IrevlaError
from irevla_ros.core.types import Episode, Mode
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.rollouts import EpisodeRequest, PolicySnapshot, run_episodes
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.supervise import SupervisedTraining
from irevla_ros.jobs.training import TrainingProgress, train
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.learn.irevla import StartTask
from irevla_ros.learn.ppo import PPO
from irevla_ros.learn.rollout import RolloutBatch
from irevla_ros.learn.supervised import BCConfig
from irevla_ros.sim.suite import load_suite

MINIBATCH = 256
DEFAULT_RUN = Path("runs/sft-seed1")  # what `irevla sft` makes when nothing else is said
Samples = dict[str, list[float]]  # name of a measurement -> one value per round


# --- what both benchmarks of learning share --------------------------------------------------------------------------


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=DEFAULT_RUN, help="a finished run of `irevla sft` (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch threads of this process (%(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings such as ppo.actor_lr=1e-4")


def finished_run(arguments: argparse.Namespace) -> tuple[Path, RunConfig]:
    """The checkpoint of stage 0 and the configuration of the run."""
    checkpoint = arguments.run / "checkpoints" / "sft"
    if not checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint}", "stage 0 of a finished run is needed", "make it: irevla sft --seed 1")
    return checkpoint, load_config(RunConfig, arguments.run / "config.yaml", arguments.overrides)


def start_of_stage1(task: str, trains: str = "head") -> StartTask:
    """PPO from the checkpoint of stage 0."""
    return StartTask(task, init_from="", algorithm="ppo", trains=trains, head_version=0, first=0)


def provenance(arguments: argparse.Namespace) -> dict[str, Any]:
    """Machine, versions and command line of a result; where the run lay on this machine is nobody's business."""
    shown = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    command = " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *shown])
    return {**machine(), "torch": torch.__version__, "numpy": np.__version__, "irevla_ros": __version__,
            "torch_threads": arguments.threads, "command": command}  # fmt: skip


def headline(m: dict[str, Any]) -> str:
    own = ", ".join(f"{name} {m[name]}" for name in m if name in ("torch", "numpy", "stable_baselines3", "irevla_ros"))
    return (f"`{m['command']}`\n\n{m['cpu']}, {m['cores']} cores, load {m['load_1min']} at the start, Python {m['python']}, "
            f"{own}, {m['torch_threads']} torch threads in the main process, {m['date']}\n")  # fmt: skip


def save(name: str, text: str, results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


@contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except IrevlaError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


# --- stage 1 ---------------------------------------------------------------------------------------------------------


class Stage1Steps:
    """The same 256 on-policy steps learned from stored latents, through a frozen VLM, and with the VLM trained too."""

    def __init__(self, checkpoint: Path, config: RunConfig, episodes: Sequence[Episode]) -> None:
        # Nothing may cut an update short: every epoch is one gradient step of actor and critic.
        ppo = replace(config.ppo, minibatch=MINIBATCH, target_kl=None, critic_warmup_updates=0, anchor="none")
        self.epochs = ppo.epochs
        self.parts: dict[str, tuple[PPO, RolloutBatch, dict[str, torch.Tensor]]] = {}
        for name, trains in (("stored latents", "head"), ("VLM run again, frozen", "head"), ("whole VLA", "all")):
            stage = Stage1(start_of_stage1("", trains), checkpoint, replace(config, ppo=ppo), [])
            if name == "stored latents":
                batch = RolloutBatch.from_latents(episodes, 0)
            else:
                batch = RolloutBatch.from_images(episodes, 0, stage.vla.backbone, stage.vla.cameras)
            assert isinstance(stage.learner, PPO)
            self.parts[name] = (stage.learner, _cut(batch), stage.learner.state_dict())

    def measure(self, times: Samples) -> None:
        """Milliseconds of one gradient step, in an update of all epochs that first computes all values once."""
        for name, (learner, batch, start) in self.parts.items():
            learner.load_state_dict(start)
            started = time.perf_counter()
            learner.update(batch)
            times.setdefault(name, []).append(1e3 * (time.perf_counter() - started) / self.epochs)


def _cut(batch: RolloutBatch) -> RolloutBatch:
    """The first ``MINIBATCH`` steps."""
    columns = ("obs_index", "next_index", "action", "log_prob", "reward", "terminated", "truncated")
    return replace(batch, **{name: getattr(batch, name)[:MINIBATCH] for name in columns})


# --- rollouts and supervised learning --------------------------------------------------------------------------------


def practice_requests(suite: str, count: int, turn: int) -> list[EpisodeRequest]:
    tasks = load_suite(suite).rl
    return [
        EpisodeRequest(f"bench-{turn}-{number}", tasks[number % len(tasks)].name, 10_000 * turn + number, Mode.TRAIN)
        for number in range(count)
    ]


def measure_rollouts(pool: WorkerPool, config: RunConfig, policy: PolicySnapshot, count: int, turn: int,
                     rates: Samples) -> list[Episode]:  # fmt: skip
    """Stochastic episodes of the RL tasks, whole with images and latents, as stage 1 collects them."""
    requests = practice_requests(config.scene.suite, count, turn)
    started = time.perf_counter()
    results = run_episodes(pool, config.scene, requests, policy, batch=config.environments)
    elapsed = time.perf_counter() - started
    rates.setdefault("episodes/s", []).append(count / elapsed)
    rates.setdefault("steps/s", []).append(sum(result.steps for result in results) / elapsed)
    return [result.episode for result in results if result.episode is not None]


def measure_supervised(pool: WorkerPool, config: RunConfig, run: Path, checkpoint: Path, steps: int) -> float:
    """Samples/s of stage 0 on the run's own arrays, from the first report of the worker to its last."""
    reports: list[tuple[int, float]] = []
    sources = len(json.loads((run / "arrays" / "tasks.json").read_text()))  # of the run's last supervised stage
    with tempfile.TemporaryDirectory() as folder:
        training = SupervisedTraining(str(run / "arrays"), str(checkpoint), "", str(Path(folder) / "result"), "all",
                                      (1.0,) * sources, config.backbone, config.scene.cameras, {})  # fmt: skip
        train(pool, training, BCConfig(steps), batch=config.supervised.batch, seed=1,
              augmentation=config.supervised.augmentation,
              on_progress=lambda news: _note(reports, news))  # fmt: skip
    (first, start), (last, end) = reports[0], reports[-1]
    return (last - first) * config.supervised.batch / (end - start)


def _note(reports: list[tuple[int, float]], news: TrainingProgress) -> None:
    reports.append((news.step, time.perf_counter()))


# --- disk ------------------------------------------------------------------------------------------------------------


def measure_disk(episodes: Sequence[Episode]) -> dict[str, float]:
    """Bytes a step, of the latents in memory and of what is sealed with and without them."""
    steps = sum(len(episode) for episode in episodes)
    latents = episodes[0].latents
    assert latents is not None
    sealed = []
    for kept in (episodes, [replace(e, latents=None, meta=replace(e.meta, backbone_fingerprint="")) for e in episodes]):
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(folder)
            for episode in kept:
                spool.write_episode(episode, durable=False)
            spool.commit()
            sealed.append(sum(path.stat().st_size for path in Path(folder).iterdir()) / steps)
    return {"steps": steps, "episodes": len(episodes), "latent_shape": list(latents.shape[1:]),
            "latent_bytes": latents[0].nbytes, "disk_latent_bytes": sealed[0] - sealed[1],
            "disk_other_bytes": sealed[1]}  # fmt: skip


# --- results ---------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float], digits: int) -> list[str]:
    """Cells: median, smallest, largest."""
    return [f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))]


def markdown(results: dict[str, Any]) -> str:
    s, head = results["samples"], ["median", "min", "max"]
    steps, rates, supervised, disk = s["stage 1"], s["rollouts"], s["supervised"], results["disk"]
    text = "# Learning: rates\n\nWritten by `python bench/learning.py`: " + headline(results["machine"])
    text += f"\nMedian, smallest and largest of {results['rounds']} rounds; the measurements take turns.\n"

    text += f"\n## Stage 1: one PPO gradient step of actor and critic on {MINIBATCH} steps\n\n"
    rows = [[f"{name}, ms", *spread(values, 1)] for name, values in steps.items()]
    for name in list(steps)[1:]:
        ratios = [slow / fast for slow, fast in zip(steps[name], steps["stored latents"], strict=True)]
        rows.append([f"{name} / stored latents", *spread(ratios, 1)])
    text += table_of(["minibatch of 256", *head], rows)

    text += "\n## Stages 0 and 2: behaviour cloning of the whole VLA, with augmentation\n\n"
    rows = [[f"{name}, samples/s", *spread(values, 0)] for name, values in supervised.items()]
    one, *more = supervised.values()
    for name, values in zip(list(supervised)[1:], more, strict=True):
        rows.append([f"{name} / 1 process", *spread([b / a for a, b in zip(one, values, strict=True)], 2)])
    text += table_of([f"batch of {results['batch']}, one thread each", *head], rows)

    text += f"\n## Rollouts: {results['workers']} workers with {results['environments']} arms each\n\n"
    text += table_of(["stochastic policy, RL tasks, whole episodes returned", *head],
                     [[name, *spread(values, 1)] for name, values in rates.items()])  # fmt: skip

    text += "\n## Latents on disk\n\n"
    m, d = disk["latent_shape"]
    text += table_of(
        [f"fp16 [{m}, {d}], {disk['episodes']} episodes of {disk['steps'] / disk['episodes']:.1f} steps", "a step",
         "1,000 steps"],
        [[name, f"{disk[key]:,.0f} B", f"{disk[key] / 1e3:.2f} MB"] for name, key in
         (("one latent", "latent_bytes"), ("latents in sealed episodes (T + 1 for T steps)", "disk_latent_bytes"),
          ("images and all else in them", "disk_other_bytes"))],
    )  # fmt: skip
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each measurement (%(default)s)")
    parser.add_argument("--episodes", type=int, default=64, help="rollouts a round (%(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="supervised steps a round, from 20 on (%(default)s)")
    arguments = parser.parse_args()
    about = provenance(arguments)
    torch.set_num_threads(arguments.threads)
    checkpoint, config = finished_run(arguments)
    stage1, rollouts, supervised = Samples(), Samples(), Samples()
    policy = PolicySnapshot(str(checkpoint), log_std=np.full(5, np.log(config.std), np.float32))
    with WorkerPool(1) as one, WorkerPool(config.workers) as several:
        pools = {"1 process": one, f"{several.size} processes": several}
        collected = measure_rollouts(several, config, policy, arguments.episodes, 0, Samples())  # builds the arms
        steps = Stage1Steps(checkpoint, config, collected)
        steps.measure(Samples())
        for turn in range(1, arguments.rounds + 1):
            print(f"round {turn} of {arguments.rounds}", file=sys.stderr)
            measure_rollouts(several, config, policy, arguments.episodes, turn, rollouts)
            steps.measure(stage1)
            for name, pool in pools.items():
                rate = measure_supervised(pool, config, arguments.run, checkpoint, arguments.steps)
                supervised.setdefault(name, []).append(rate)
    results = {
        "machine": about, "rounds": arguments.rounds, "batch": config.supervised.batch, "workers": config.workers,
        "environments": config.environments, "disk": measure_disk(collected),
        "samples": {"stage 1": stage1, "rollouts": rollouts, "supervised": supervised},
    }  # fmt: skip
    save("learning", markdown(results), results)


if __name__ == "__main__":
    with one_line_errors():
        main()
