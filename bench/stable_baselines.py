"""Stage 1 against Stable-Baselines3's PPO: `python bench/stable_baselines.py --run runs/sft-seed1`.

Both practise one task in the same environment for the same wall-clock time, from the same stage-0 head on latents of the
same frozen VLM, with the same settings of PPO. A third row has Stable-Baselines3 start from a fresh head of the same size.
Starting processes and building arms is not counted. Every learner's last policy then meets the same start states without
noise. Prints and writes bench/results/stable_baselines.md and .json, and draws docs/images/stable_baselines.png.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
import matplotlib
import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from gymnasium.wrappers import FilterObservation
from learning import add_run_arguments, finished_run, headline, one_line_errors, provenance, save, start_of_stage1
from simulation import table_of
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper

from irevla_ros.core.stats import Rate, paired_difference
from irevla_ros.core.types import Mode
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.rollouts import EpisodeRequest, EpisodeResult, PolicySnapshot, SceneConfig, run_episodes
from irevla_ros.jobs.stage1 import Stage1
from irevla_ros.jobs.train import PRACTICE_SEED
from irevla_ros.jobs.workers import WorkerPool
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.policy.head import Trunk
from irevla_ros.policy.vla import VLA
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.suite import Suite, load_suite

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "stable_baselines.png"
OURS, SAME, FRESH, START = "irevla_ros PPO", "SB3 PPO, same start", "SB3 PPO, fresh head", "before practice (stage 0)"
COLOURS = {OURS: "tab:blue", SAME: "tab:orange", FRESH: "tab:gray"}
WINDOW = 64  # episodes of the moving success rate
STEPS_PER_UPDATE = 512  # of Stable-Baselines3: about what 32 episodes of ours come to
TUNING_SEED = EVALUATION_SEED + 50_000  # first of the start states that a learning rate is chosen on
PROBE_S = 6.0  # seconds for each number of environments that is tried for Stable-Baselines3


@dataclass
class Practice:
    """One learner in its time. ``finished``: second and success of each training episode; ``head``: its last weights."""

    learner: str
    seed: int
    finished: list[tuple[float, bool]] = field(default_factory=list)
    steps: int = 0
    elapsed_s: float = 0.0
    learning_s: float = 0.0
    updates: int = 0
    final: list[bool] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict, repr=False)

    def success_at(self, second: float) -> float:
        """Success of the last ``WINDOW`` training episodes that had ended by then; NaN before there are as many."""
        ended = [success for end, success in self.finished if end <= second][-WINDOW:]
        return sum(ended) / WINDOW if len(ended) == WINDOW else math.nan


# --- ours ------------------------------------------------------------------------------------------------------------


def practise_ours(pool: WorkerPool, checkpoint: Path, config: RunConfig, task: str, seed: int, budget_s: float) -> Practice:
    """The loop of `irevla train` in stage 1, without its disk: collect, learn, until the time is up."""
    practice = Practice(OURS, seed)
    stage = Stage1(start_of_stage1(task), checkpoint, replace(config, seed=seed), [])
    start = time.perf_counter()

    def note(result: EpisodeResult) -> None:
        practice.finished.append((time.perf_counter() - start, result.success))
        practice.steps += result.steps

    number = 0
    while True:
        first = PRACTICE_SEED * (1 + seed) + number
        requests = [EpisodeRequest(f"{task}-{first + i}", task, first + i, Mode.TRAIN)
                    for i in range(config.learning.episodes_per_update)]  # fmt: skip
        results = run_episodes(pool, config.scene, requests, stage.snapshot(), batch=config.environments, on_result=note)
        practice.elapsed_s = time.perf_counter() - start
        if practice.elapsed_s > budget_s:
            break
        stage.update([r.episode for r in results if r.episode is not None], stage.head_version + 1)
        practice.learning_s += time.perf_counter() - start - practice.elapsed_s
        practice.updates += 1
        number += len(requests)
    practice.head = stage.snapshot().head or {}
    return practice


# --- Stable-Baselines3 -----------------------------------------------------------------------------------------------


class LatentVecEnv(VecEnvWrapper):
    """Encodes the images of all environments in one batch: latents [m, d], rounded to fp16 as ours, and proprioception."""

    def __init__(self, venv: VecEnv, vla: VLA, instruction: str) -> None:
        proprio = venv.observation_space["proprio"]
        latents = spaces.Box(-np.inf, np.inf, vla.backbone.latent_shape, np.float32)
        super().__init__(venv, spaces.Dict({"latents": latents, "proprio": proprio}))
        self._vla, self._tokens = vla, vla.backbone.tokenize([instruction])

    def reset(self) -> dict[str, Any]:
        return self._encode(self.venv.reset())

    def step_wait(self) -> Any:
        observed, reward, done, infos = self.venv.step_wait()
        # Only where the time was up does PPO ask for the value of the last observation.
        cut = [info for info in infos if info["TimeLimit.truncated"]]
        every = {key: np.concatenate([rows, *(info["terminal_observation"][key][None] for info in cut)])
                 for key, rows in observed.items()}  # fmt: skip
        encoded = self._encode(every)
        for row, info in enumerate(cut, start=len(done)):
            info["terminal_observation"] = {key: rows[row] for key, rows in encoded.items()}
        return {key: rows[: len(done)] for key, rows in encoded.items()}, reward, done, infos

    @torch.inference_mode()
    def _encode(self, observed: dict[str, Any]) -> dict[str, Any]:
        images = torch.from_numpy(np.stack([observed[camera] for camera in self._vla.cameras], axis=1))
        latents = self._vla.latents(images, self._tokens.expand(len(images), -1))
        return {"latents": latents.half().float().numpy(), "proprio": observed["proprio"]}


@dataclass(frozen=True)
class Theirs:
    """What Stable-Baselines3 is given of its own; a learning rate of None is that of our actor.

    Its KL limit ends the whole update and so starves the critic, where ours rests the actor only: by default there is none,
    as in the library.
    """

    environments: int
    learning_rate: float | None
    target_kl: float | None


class TrunkExtractor(BaseFeaturesExtractor):
    """Our trunk (token learner and MLP) in the place of Stable-Baselines3's features extractor."""

    def __init__(self, observation_space: spaces.Dict, vla: VLA) -> None:
        head = vla.head
        super().__init__(observation_space, head.config.hidden)
        self.reads_proprio = head.proprio_size > 0
        self.trunk = Trunk(head.width, head.proprio_size, head.config)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.trunk(observations["latents"], observations["proprio"] if self.reads_proprio else None)


class Clock(BaseCallback):
    """Notes every episode's end, the time spent learning, and stops when the time is up."""

    def __init__(self, practice: Practice, budget_s: float) -> None:
        super().__init__()
        self.practice, self._budget_s = practice, budget_s
        self._start = self._collected = time.perf_counter()

    def _on_training_start(self) -> None:
        self._start = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            self.practice.learning_s += time.perf_counter() - self._collected
            self.practice.updates += 1

    def _on_rollout_end(self) -> None:
        self._collected = time.perf_counter()

    def _on_step(self) -> bool:
        practice = self.practice
        practice.elapsed_s, practice.steps = time.perf_counter() - self._start, self.num_timesteps
        for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True):
            if done:
                practice.finished.append((practice.elapsed_s, bool(info["success"])))
        return practice.elapsed_s <= self._budget_s


def environment(suite: Suite, scene: SceneConfig, task: str) -> Callable[[], gymnasium.Env[Any, Any]]:
    """What one subprocess builds; the instruction of the one task is known and stays behind."""
    return lambda: FilterObservation(PandaEnv(suite, task, scene.cameras, scene.image_size), [*scene.cameras, "proprio"])


def subprocesses(checkpoint: Path, config: RunConfig, task: str, count: int) -> LatentVecEnv:
    vla = load_vla(checkpoint)[0].eval()
    suite = load_suite(config.scene.suite)
    arms = SubprocVecEnv([environment(suite, config.scene, task)] * count)
    return LatentVecEnv(arms, vla, suite.task(task).instruction)


def learner(env: VecEnv, vla: VLA, config: RunConfig, theirs: Theirs, seed: int, fresh: bool) -> stable_baselines3.PPO:
    """PPO with our settings; a fresh head has the initial weights and the learned width (1 at first) of its library."""
    if vla.head.horizon != 1:
        raise ValueError("Stable-Baselines3 acts one step at a time: a head of horizon 1 is needed")
    ppo = config.ppo
    model = stable_baselines3.PPO(
        "MultiInputPolicy", env, learning_rate=theirs.learning_rate or ppo.actor_lr,
        n_steps=max(1, STEPS_PER_UPDATE // env.num_envs),
        batch_size=ppo.minibatch, n_epochs=ppo.epochs, gamma=ppo.gamma, gae_lambda=ppo.lam, clip_range=ppo.clip,
        clip_range_vf=ppo.value_clip, normalize_advantage=ppo.normalise_advantage, ent_coef=ppo.entropy_coef,
        max_grad_norm=ppo.max_grad_norm, seed=seed, device="cpu",
        target_kl=theirs.target_kl,
        policy_kwargs={
            "features_extractor_class": TrunkExtractor, "features_extractor_kwargs": {"vla": vla},
            "share_features_extractor": False, "net_arch": [], "log_std_init": 0.0 if fresh else math.log(config.std),
        },
    )  # fmt: skip
    if not fresh:
        policy = model.policy
        for extractor in (policy.pi_features_extractor, policy.vf_features_extractor):
            extractor.trunk.load_state_dict(vla.head.trunk.state_dict())
        policy.action_net.load_state_dict(vla.head.out.state_dict())
        policy.log_std.requires_grad_(config.ppo.learn_std)
        with torch.no_grad():  # as our critic's last layer starts
            policy.value_net.weight.mul_(0.01)
    return model


def practise_theirs(
    checkpoint: Path, config: RunConfig, task: str, seed: int, budget_s: float, theirs: Theirs, fresh: bool
) -> Practice:
    practice = Practice(FRESH if fresh else SAME, seed)
    env = subprocesses(checkpoint, config, task, theirs.environments)
    try:
        model = learner(env, load_vla(checkpoint)[0], config, theirs, seed, fresh)
        model.learn(total_timesteps=sys.maxsize, callback=Clock(practice, budget_s))
    finally:
        env.close()
    policy = model.policy
    parts = {"trunk": policy.pi_features_extractor.trunk, "out": policy.action_net}
    practice.head = {f"{part}.{name}": tensor.detach().numpy().copy()
                     for part, module in parts.items() for name, tensor in module.state_dict().items()}  # fmt: skip
    return practice


def rates_by_count(checkpoint: Path, config: RunConfig, task: str, theirs: Theirs, counts: Sequence[int]) -> dict[int, float]:
    """Steps/s of Stable-Baselines3, learning included, with each number of subprocesses."""
    rates = {}
    for count in counts:
        tried = replace(theirs, environments=count)
        practice = practise_theirs(checkpoint, config, task, 0, PROBE_S, tried, fresh=False)
        rates[count] = practice.steps / practice.elapsed_s
        print(f"SB3 with {count} subprocesses: {rates[count]:.0f} steps/s", file=sys.stderr)
    return rates


# --- results ---------------------------------------------------------------------------------------------------------


def tune(
    pool: WorkerPool, checkpoint: Path, config: RunConfig, task: str, theirs: Theirs, rates: Sequence[float],
    seeds: Sequence[int], budget_s: float, episodes: int,
) -> dict[float, Rate]:  # fmt: skip
    """Final success of Stable-Baselines3 from the same start at each learning rate, on seeds and start states of its own."""
    found = {}
    for rate in rates:
        finals: list[bool] = []
        for seed in seeds:
            practice = practise_theirs(checkpoint, config, task, seed, budget_s, replace(theirs, learning_rate=rate), False)
            finals += final_success(pool, checkpoint, config, task, episodes, practice.head, TUNING_SEED)
        found[rate] = Rate(sum(finals), len(finals))
        print(f"SB3 at learning rate {rate:g}: {found[rate]}", file=sys.stderr)
    return found


def best_rate(tuning: dict[float, Rate]) -> float:
    """Of the highest success; of equals the lowest, which is the safer one."""
    return min(tuning, key=lambda rate: (-tuning[rate].mean, rate))


def final_success(
    pool: WorkerPool, checkpoint: Path, config: RunConfig, task: str, episodes: int, head: dict[str, Any] | None,
    first: int = EVALUATION_SEED,
) -> list[bool]:  # fmt: skip
    """Without noise, on start states that are the same for every learner and seed."""
    requests = [EpisodeRequest(f"final-{seed}", task, seed, Mode.EVAL, deterministic=True, keep=False)
                for seed in range(first, first + episodes)]  # fmt: skip
    policy = PolicySnapshot(str(checkpoint), head=head)
    return [r.success for r in run_episodes(pool, config.scene, requests, policy, batch=config.environments)]


def first_time(practice: Practice, rate: float) -> float:
    """Second at which the moving success first reaches ``rate``; infinite if it never does."""
    return next((end for end, _ in practice.finished if practice.success_at(end) >= rate), math.inf)


def of(practices: Sequence[Practice], name: str) -> list[Practice]:
    return [practice for practice in practices if practice.learner == name]


def mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f}"


def verdicts(practices: Sequence[Practice], rate: float) -> list[str]:
    """Who is better, ours or SB3 from the same start, or that the figures do not tell."""
    ours, theirs = of(practices, OURS), of(practices, SAME)
    lines = []
    speeds = [statistics.fmean(p.steps / p.elapsed_s for p in own) for own in (ours, theirs)]
    lines.append(f"Steps/s: {OURS if speeds[0] > speeds[1] else SAME} wins, {max(speeds) / min(speeds):.2f} times as fast.")
    times = [statistics.median(first_time(p, rate) for p in own) for own in (ours, theirs)]
    if math.isinf(min(times)):
        lines.append(f"Time to a moving success of {rate:.2f}: neither reached it.")
    else:
        shown = ["never" if math.isinf(t) else f"{t:.0f} s" for t in times]
        winner = "nobody wins" if times[0] == times[1] else f"{OURS if times[0] < times[1] else SAME} wins"
        lines.append(f"Time to a moving success of {rate:.2f} (median of the seeds): {winner}, "
                     f"{shown[0]} (ours) and {shown[1]} (SB3).")  # fmt: skip
    both = [np.array([success for p in own for success in p.final]) for own in (ours, theirs)]
    difference = paired_difference(both[0], both[1])
    winner = OURS if difference.low > 0 else SAME if difference.high < 0 else "no clear winner"
    lines.append(f"Final success: {winner}; ours minus SB3 {difference.mean:+.2f} [{difference.low:+.2f}, "
                 f"{difference.high:+.2f}], paired by start state, n={difference.episodes} over the seeds.")  # fmt: skip
    return lines


def markdown(results: dict[str, Any], practices: Sequence[Practice], before: Sequence[bool]) -> str:
    budget, task = results["seconds"], results["task"]
    marks = [budget * part / 4 for part in (1, 2, 3, 4)]
    text = f"# Stage 1 against Stable-Baselines3: {task}\n\nWritten by `python bench/stable_baselines.py`: "
    text += headline(results["machine"])
    text += (f"\n{budget:g} s of practice for each learner, seeds {', '.join(map(str, results['seeds']))}; "
             f"{results['workers']} workers with {results['environments']} arms each against a SubprocVecEnv of "
             f"{results['sb3']['environments']}")  # fmt: skip
    if results["sb3_rates"]:
        tried = ", ".join(f"{rate:.0f} steps/s with {count}" for count, rate in results["sb3_rates"].items())
        text += f" (the fastest of those tried: {tried})"
    if results["sb3_tuning"]:
        tried = ", ".join(f"{rate}: {Rate(*counts)}" for rate, counts in results["sb3_tuning"]["successes"].items())
        tuned_on = ", ".join(map(str, results["sb3_tuning"]["seeds"]))
        text += (f". Its learning rate, {results['sb3']['learning_rate']:g}, is the best of those tried for {budget:g} s on "
                 f"seeds {tuned_on} and start states of their own ({tried})")  # fmt: skip
    text += ". Start-up is not counted; all three see latents of the same frozen VLM. Means over the seeds.\n\n"
    rows, table = [], []
    for name in (OURS, SAME, FRESH):
        own = of(practices, name)
        rows.append([name, f"{statistics.fmean(p.steps / p.elapsed_s for p in own):.0f}",
                     f"{statistics.fmean(len(p.finished) for p in own):.0f}",
                     f"{statistics.fmean(p.updates for p in own):.0f}",
                     f"{100 * statistics.fmean(p.learning_s / p.elapsed_s for p in own):.0f} %",
                     *(mean([p.success_at(mark) for p in own]) for mark in marks)])  # fmt: skip
        shown = ["never" if math.isinf(first_time(p, results["threshold"])) else f"{first_time(p, results['threshold']):.0f} s"
                 for p in own]  # fmt: skip
        table.append([name, Rate(sum(sum(p.final) for p in own), sum(len(p.final) for p in own)),
                      " ".join(mean(p.final) for p in own), ", ".join(shown)])  # fmt: skip
    text += table_of(["learner", "steps/s", "episodes", "updates", "time learning",
                      *(f"success at {mark:g} s" for mark in marks)], rows)  # fmt: skip
    text += f"\nSuccess: of the last {WINDOW} training episodes, with exploration noise; nan before there are as many.\n\n"
    table.insert(0, [START, Rate(sum(before), len(before)), "", ""])
    text += table_of(["policy, without noise, on the same start states", "success [95 % Wilson]", "by seed",
                      f"moving success {results['threshold']:.2f} after"], table)  # fmt: skip
    return text + "\n" + "\n".join(f"- {line}" for line in verdicts(practices, results["threshold"])) + "\n"


def draw(practices: Sequence[Practice], before: Sequence[bool], task: str, budget: float) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    grid = np.linspace(0, budget, 241)
    for name, colour in COLOURS.items():
        curves = np.array([[practice.success_at(second) for second in grid] for practice in of(practices, name)])
        axes.plot(grid, curves.T, color=colour, alpha=0.35, linewidth=1)
        # From where every seed has a full window.
        axes.plot(grid, curves.mean(axis=0), color=colour, linewidth=2.2, label=name)
    axes.axhline(statistics.fmean(before), color="black", linestyle=":", linewidth=1, label=f"{START}, without noise")
    axes.set(xlabel="seconds of wall clock", ylabel=f"success of the last {WINDOW} training episodes", title=task,
             ylim=(-0.02, 1.02), xlim=(0, budget))  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize=8)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("--task", help="task of the run's suite (default: the first of its RL tasks)")
    parser.add_argument("--seconds", type=float, default=120.0, help="practice of each learner (%(default)s)")
    parser.add_argument("--seeds", default="1,2,3", help="by commas (%(default)s)")
    parser.add_argument("--evaluation", type=int, default=150, help="final episodes of each policy (%(default)s)")
    parser.add_argument("--environments", default="4,8,16",
                        help="subprocesses of Stable-Baselines3; of several, the fastest is taken (%(default)s)")  # fmt: skip
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--sb3-lr", type=float, help="learning rate of Stable-Baselines3 (default: our actor's)")
    rate.add_argument("--sb3-learning-rates", metavar="RATES", help="by commas, such as 1e-4,3e-4,1e-3: each practises as long "
                      "as a learner does, on --tuning-seeds and start states apart; the best is taken")  # fmt: skip
    parser.add_argument("--tuning-seeds", default="101,102", help="by commas; none of --seeds (%(default)s)")
    parser.add_argument("--sb3-kl", type=float, help="target_kl of Stable-Baselines3 (default: none)")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    counts = [int(count) for count in arguments.environments.split(",")]
    candidates = [float(rate) for rate in (arguments.sb3_learning_rates or "").split(",") if rate]
    tuning_seeds = [int(seed) for seed in arguments.tuning_seeds.split(",")]
    if shared := sorted(set(seeds) & set(tuning_seeds)):
        parser.error(f"--tuning-seeds {arguments.tuning_seeds}: seed {shared[0]} is among --seeds too; choose others")
    if any(not 0 < rate < math.inf for rate in candidates):
        parser.error(f"--sb3-learning-rates {arguments.sb3_learning_rates}: rates are positive; give 1e-4,3e-4,1e-3, say")
    about = {**provenance(arguments), "stable_baselines3": stable_baselines3.__version__}
    torch.set_num_threads(arguments.threads)
    checkpoint, config = finished_run(arguments)
    suite, budget = load_suite(config.scene.suite), arguments.seconds
    task = (suite.task(arguments.task) if arguments.task else suite.rl[0]).name  # an unknown task is an error here
    theirs = Theirs(counts[0], arguments.sb3_lr, arguments.sb3_kl)
    rates = rates_by_count(checkpoint, config, task, theirs, counts) if len(counts) > 1 else {}
    theirs = replace(theirs, environments=max(rates, key=rates.__getitem__, default=counts[0]))

    practices: list[Practice] = []
    with WorkerPool(config.workers) as pool:
        before = final_success(pool, checkpoint, config, task, arguments.evaluation, None)  # builds the arms
        tuning = tune(pool, checkpoint, config, task, theirs, candidates, tuning_seeds, budget, arguments.evaluation)
        if tuning:
            theirs = replace(theirs, learning_rate=best_rate(tuning))
        for seed in seeds:
            for practise in (
                lambda seed=seed: practise_ours(pool, checkpoint, config, task, seed, budget),
                lambda seed=seed: practise_theirs(checkpoint, config, task, seed, budget, theirs, fresh=False),
                lambda seed=seed: practise_theirs(checkpoint, config, task, seed, budget, theirs, fresh=True),
            ):
                practice = practise()
                practice.final = final_success(pool, checkpoint, config, task, arguments.evaluation, practice.head)
                practices.append(practice)
                rate = Rate(sum(practice.final), len(practice.final))
                print(f"seed {seed}, {practice.learner}: {practice.steps / practice.elapsed_s:.0f} steps/s, "
                      f"{len(practice.finished)} episodes, at the end {rate}", file=sys.stderr)  # fmt: skip
    results = {
        "machine": about, "task": task, "seconds": budget, "seeds": seeds, "threshold": 0.85, "workers": config.workers,
        "environments": config.environments, "sb3": asdict(theirs), "sb3_rates": rates, "before": before,
        "sb3_tuning": {"seeds": tuning_seeds, "successes": {f"{rate:g}": [found.successes, found.episodes]
                                                            for rate, found in tuning.items()}} if tuning else None,
        "practices": [{key: value for key, value in asdict(p).items() if key != "head"} for p in practices],
    }  # fmt: skip
    save("stable_baselines", markdown(results, practices, before), results)
    draw(practices, before, task, budget)


if __name__ == "__main__":
    with one_line_errors():
        main()
