"""Whole episodes in parallel: experts, stochastic rollouts and deterministic evaluation are requests alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irevla_ros import __version__
from irevla_ros.core.types import ControlSource, Episode, EpisodeMeta, FloatArray, Mode, Observation, Outcome
from irevla_ros.core.types import TerminationReason as Reason
from irevla_ros.jobs.workers import Send, WorkerContext, WorkerPool
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.policy.sampling import ActionSampler
from irevla_ros.policy.vla import VLA
from irevla_ros.rewards.detector import RewardDetector
from irevla_ros.rewards.success_head import load_success_heads
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.world import CONTROL_HZ


@dataclass(frozen=True)
class EpisodeRequest:
    """One episode to run. ``keep``: return the whole episode, not only its outcome. ``linger``: steps that still follow
    a success that the simulator sees, as where a person needs a moment to press the key."""

    episode_id: str
    task: str
    seed: int
    mode: Mode
    expert: bool = False
    deterministic: bool = False
    keep: bool = True
    linger: int = 0


@dataclass(frozen=True)
class PolicySnapshot:
    """What the workers need to act: a checkpoint folder, and newer weights where training has moved on.

    ``head`` and ``backbone`` are state dicts as numpy arrays; ``log_std`` [A] is the exploration of stage 1.
    """

    checkpoint: str
    head_version: int = 0
    head: dict[str, Any] | None = None
    backbone: dict[str, Any] | None = None
    log_std: FloatArray | None = None
    fingerprint: str = ""


@dataclass(frozen=True)
class EpisodeResult:
    """Outcome of a request; ``episode`` is None unless it was to be kept."""

    request: EpisodeRequest
    success: bool
    steps: int
    episode: Episode | None = field(repr=False, default=None)


@dataclass(frozen=True)
class SceneConfig:
    """Which simulator the workers build: suite by name or YAML path, cameras, image size in pixels."""

    suite: str = "demo"
    cameras: tuple[str, ...] = ("front",)
    image_size: int = 64


def run_episodes(
    pool: WorkerPool,
    scene: SceneConfig,
    requests: Sequence[EpisodeRequest],
    policy: PolicySnapshot | None = None,
    *,
    batch: int = 16,
    run_id: str = "",
    classifier: str = "",
    on_result: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run all requests over the pool, ``batch`` environments in lock step in each worker; results in request order.

    classifier: file of a success classifier that alone decides about success, in place of the simulator; it reads the
    policy's latents and refuses those of another backbone. Nothing fails then before the time limit.

    Which worker runs which request depends on its place alone, so equal requests give equal episodes.
    """
    arguments = [
        {"scene": scene, "requests": list(requests[rank :: pool.size]), "policy": policy, "batch": batch,
         "run_id": run_id, "classifier": classifier}
        for rank in range(pool.size)
    ]  # fmt: skip
    results: dict[str, EpisodeResult] = {}

    def receive(result: EpisodeResult) -> None:
        results[result.request.episode_id] = result
        if on_result is not None:
            on_result(result)

    pool.run(_work, arguments, receive)
    return [results[request.episode_id] for request in requests]


def _work(
    context: WorkerContext,
    send: Send,
    scene: SceneConfig,
    requests: list[EpisodeRequest],
    policy: PolicySnapshot | None,
    batch: int,
    run_id: str,
    classifier: str,
) -> None:
    vla = _policy(context, policy) if policy is not None else None
    detector = _detector(Path(classifier), vla) if classifier and vla is not None else None
    environments = context.kept.setdefault(("environments", scene), [])
    while len(environments) < min(batch, len(requests)):
        environments.append(PandaEnv(scene.suite, cameras=scene.cameras, image_size=scene.image_size))
    queue = iter(requests)
    running = [_Running(env, request, run_id, detector) for env, request in zip(environments, queue, strict=False)]
    while running:
        if vla is not None and policy is not None:
            _act(vla, policy, [r for r in running if r.wants_policy])
        still = []
        for current in running:
            if current.over and not current.wants_last_latent:
                send(current.result(policy))
                following = next(queue, None)
                if following is not None:
                    still.append(_Running(current.env, following, run_id, detector))
                continue
            current.step()
            still.append(current)
        running = still


def _policy(context: WorkerContext, snapshot: PolicySnapshot) -> VLA:
    """The VLA of the snapshot; the checkpoint is read again only when it differs or its own weights are wanted back."""
    newer = {part: state for part in ("head", "backbone") if (state := getattr(snapshot, part)) is not None}
    if context.kept.get("checkpoint") != snapshot.checkpoint or not context.kept["replaced"] <= newer.keys():
        context.kept["vla"] = load_vla(Path(snapshot.checkpoint))[0].eval()
        context.kept["checkpoint"], context.kept["replaced"] = snapshot.checkpoint, set()
    vla: VLA = context.kept["vla"]
    for part, state in newer.items():
        getattr(vla, part).load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        context.kept["replaced"].add(part)
    return vla


def _detector(path: Path, vla: VLA) -> Callable[[], RewardDetector]:
    """What makes a fresh detector for an episode."""
    heads = load_success_heads(path, vla.backbone.fingerprint())
    return heads.detector


def _act(vla: VLA, policy: PolicySnapshot, running: list[_Running]) -> None:
    """Encode the present observations in one batch; store latents; sample actions where the episode goes on."""
    if not running:
        return
    mean, latents = vla.act([r.observation for r in running])
    means = mean[:, 0].numpy()
    std = np.exp(policy.log_std) if policy.log_std is not None else None
    for current, mu, latent in zip(running, means, latents.numpy(), strict=True):
        current.see(mu, latent, std, policy.head_version)


class _Running:
    """An environment in the middle of an episode, and the columns recorded so far."""

    def __init__(
        self, env: PandaEnv, request: EpisodeRequest, run_id: str, detector: Callable[[], RewardDetector] | None
    ) -> None:
        self.env, self.request, self._run_id = env, request, run_id
        observed, _ = env.reset(seed=request.seed, options={"task": request.task})
        self._script = env.expert() if request.expert else None
        self._sampler = ActionSampler(request.seed)
        self.observation = env.observation(observed)
        self.over = False
        self._images: list[Observation] = [self.observation] if request.keep else []
        self._latents: list[Any] = []
        self._seen = 0  # observations that the policy has seen
        self._rows: list[tuple[FloatArray, float, int]] = []  # proposed action, log-probability, head version
        self._ending = (False, False)
        self._success = False
        self._succeeded_at = 0
        self._detector = detector() if detector is not None else None
        if self._detector is not None:
            self._detector.reset(request.task)

    @property
    def wants_policy(self) -> bool:
        """Is an action wanted, or the latent of the last observation?"""
        return self._script is None and (not self.over or self.wants_last_latent)

    @property
    def wants_last_latent(self) -> bool:
        wanted = self.request.keep or self._detector is not None
        return wanted and self._script is None and self._seen <= len(self._rows)

    def see(self, mean: FloatArray, latent: Any, std: FloatArray | None, version: int) -> None:
        """Take the policy's view of the present observation and choose an action."""
        self._seen += 1
        if self.request.keep:
            self._latents.append(latent)
        if self._detector is not None and self._detector.observe(self.observation, {"latents": latent}).sure and self._rows:
            self._success = self.over = True
            self._ending = (True, False)
        if self.over:
            return
        chunk, log_prob = self._sampler.draw(mean[None], std, self.request.deterministic)
        self._rows.append((chunk[0], float("nan") if log_prob is None else log_prob, version))

    def step(self) -> None:
        if self.over:
            return
        if self._script is not None:
            self._rows.append((self._script.act(), float("nan"), -1))
        observed, _, terminated, truncated, info = self.env.step(self._rows[-1][0])
        self.observation = self.env.observation(observed)
        if self.request.keep:
            self._images.append(self.observation)
        if self._detector is not None:
            self.over = len(self._rows) >= self.env.time_limit
            self._ending = (False, self.over)
            return
        if info["success"] and not self._success:
            self._success, self._ending, self._succeeded_at = True, (True, False), len(self._rows)
        if self._success:
            self.over = len(self._rows) - self._succeeded_at >= self.request.linger
        else:
            self.over, self._ending = terminated or truncated, (terminated, truncated)

    def result(self, policy: PolicySnapshot | None) -> EpisodeResult:
        episode = self._episode(policy) if self.request.keep else None
        return EpisodeResult(self.request, self._success, len(self._rows), episode)

    def _episode(self, policy: PolicySnapshot | None) -> Episode:
        request, steps = self.request, len(self._rows)
        terminated, truncated = self._ending
        reason = Reason.SUCCESS if self._success else Reason.FAILURE if terminated else Reason.TIME_LIMIT
        meta = EpisodeMeta(
            episode_id=request.episode_id,
            task=request.task,
            instruction=self.observation.instruction,
            mode=request.mode,
            seed=request.seed,
            run_id=self._run_id,
            outcome=Outcome.SUCCESS if self._success else Outcome.FAILURE,
            termination_reason=reason,
            operator="simulation",
            backbone_fingerprint=policy.fingerprint if policy is not None and self._latents else "",
            action_names=self.env.actions.names,
            control_rate_hz=CONTROL_HZ,
            software={"irevla_ros": __version__},
        )
        proposed = np.stack([row[0] for row in self._rows])
        executed = np.clip(proposed, -1.0, 1.0)
        last = np.arange(steps) == steps - 1
        source = ControlSource.SCRIPT if request.expert else ControlSource.POLICY
        return Episode(
            meta=meta,
            images={name: np.stack([o.images[name] for o in self._images]) for name in self.observation.images},
            proprio=np.stack([o.proprio for o in self._images]),
            stamps_ns=np.arange(steps + 1, dtype=np.int64) * (10**9 // CONTROL_HZ),
            proposed=proposed,
            executed=executed,
            commanded=executed,
            source=np.full(steps, source, np.uint8),
            log_prob=np.array([row[1] for row in self._rows], np.float32),
            head_version=np.array([row[2] for row in self._rows], np.int64),
            reward=(last & self._success).astype(np.float32),
            terminated=last & terminated,
            truncated=last & truncated,
            latents=np.stack(self._latents) if self._latents else None,
        )
