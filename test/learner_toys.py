"""An arm that is no robot: it takes orders, goes through the states of an episode, and seals random episodes for real.

Run as a program, ``python learner_toys.py RUN SFT METHOD``, it does a whole run with two of them, to be killed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irevla_ros.core.episode_state import EpisodeState, Phase, Start
from irevla_ros.core.graph_messages import Announcement, Sealed
from irevla_ros.core.types import ControlSource, Episode, EpisodeMeta, Mode, Outcome, TerminationReason
from irevla_ros.data.reader import SpoolReader
from irevla_ros.data.spool import Spool
from irevla_ros.jobs.graph_config import LearnerConfig
from irevla_ros.jobs.graph_learning import GraphLearner, Order, Request, Work
from irevla_ros.jobs.graph_setup import open_learner
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import load_vla, save_vla
from irevla_ros.policy.vla import build_vla
from irevla_ros.sim.suite import load_suite
from spool_toys import toy_episode

STEPS = 3
SMALL = (
    "demos=1", "evaluation=4", "videos=0", "workers=1", "environments=9", "supervised.batch=8", "sacfd.batch=16",
    "sacfd.critic_warmup=2", "sacfd.update_to_data=0.2", "ppo.minibatch=16", "ppo.critic_warmup_updates=0",
    "learning.stage0_steps=2", "learning.stage2_steps=2", "learning.max_episodes=12", "learning.episodes_per_update=4",
    "learning.window=8", "learning.threshold=1.0", "learning.demos=2", "learning.harvest=2",
)  # fmt: skip


def fresh_policy(folder: Path) -> Path:
    """An untrained checkpoint, the same every time."""
    torch.manual_seed(0)
    save_vla(folder, build_vla(build_backbone("tiny")), {})
    return folder


TASK = "push-blue-cube-left"
Succeeds = Callable[[Start, Announcement], bool]


def even(start: Start, announced: Announcement) -> bool:
    """One in two."""
    return start.seed % 2 == 0


def settings(run: Path, sft: Path, method: str = "irevla-sacfd", overrides: Sequence[str] = (), **values: Any) -> LearnerConfig:
    """A small run on one task with the arms a and b."""
    return LearnerConfig(**{
        "run": str(run), "run_id": "toy", "arms": ("a", "b"), "tasks": (TASK,), "sft": str(sft), "gate": 4, "gate_margin": 0.2,
        "overrides": (*SMALL, f"method={method}", *overrides), **values,
    })  # fmt: skip


class ToyArm:
    """What sim, episode, policy, recorder and reward are together; what was ``announced`` acts."""

    def __init__(self, name: str, run: Path, succeeds: Succeeds = even, latents: bool = True) -> None:
        self.name, self.run, self.succeeds, self.latents = name, run, succeeds, latents
        self.announced: Announcement | None = None
        self.spool = Spool(run / "practice")
        taken = [p.name.split(".")[0] for p in self.spool.root.glob(f"toy-{name}-*.episode.safetensors")]
        self.number = max((int(one.rsplit("-", 1)[1]) for one in taken), default=0) + 1
        self.state = EpisodeState(self.number * 1000, Phase.IDLE, "toy")
        self._shapes: dict[str, Any] = {}

    def to(self, phase: Phase, **values: Any) -> EpisodeState:
        self.state = replace(self.state, sequence=self.state.sequence + 1, phase=phase, **values)
        return self.state

    def begin(self, start: Start) -> EpisodeState:
        """Reset of the episode that was ordered."""
        fresh = EpisodeState(self.state.sequence, Phase.IDLE, self.state.run_id)
        self.state = fresh
        episode_id = f"toy-{self.name}-{self.number:06d}"
        self.number += 1
        return self.to(Phase.RESET, episode_id=episode_id, task=start.task, instruction=start.instruction, mode=start.mode,
                       seed=start.seed, deterministic=start.deterministic, time_limit_ns=start.time_limit_ns)  # fmt: skip

    def end(self, outcome: Outcome, reason: TerminationReason = TerminationReason.TIME_LIMIT, version: int | None = None,
            source: ControlSource = ControlSource.POLICY) -> tuple[EpisodeState, Sealed]:  # fmt: skip
        """The end, and the episode on disk."""
        terminal = reason in (TerminationReason.SUCCESS, TerminationReason.FAILURE)
        ended = self.to(Phase.END, outcome=outcome, termination_reason=reason, terminated=terminal, truncated=not terminal)
        assert self.announced is not None
        acted = self.announced.version if version is None else version
        self.spool.write_episode(self._episode(outcome, reason, acted, source))
        return ended, Sealed(self.state.episode_id, STEPS, outcome, reason, "", self.latents)

    def idle(self) -> EpisodeState:
        return self.to(Phase.IDLE)

    def whole(self, start: Start) -> Iterator[EpisodeState | Sealed]:
        """Everything that is said during an episode that goes well."""
        assert self.announced is not None
        yield self.begin(start)
        yield self.to(Phase.READY)
        yield self.to(Phase.RUN)
        success = self.succeeds(start, self.announced)
        yield from self.end(Outcome.SUCCESS if success else Outcome.FAILURE,
                            TerminationReason.SUCCESS if success else TerminationReason.TIME_LIMIT)  # fmt: skip
        yield self.idle()

    def _episode(self, outcome: Outcome, reason: TerminationReason, version: int, source: ControlSource) -> Episode:
        state, rng = self.state, np.random.default_rng([self.state.seed, self.state.mode is Mode.EVAL])
        latents, fingerprint = None, ""
        if self.latents:
            shape, fingerprint = self._backbone()
            latents = rng.normal(size=(STEPS + 1, *shape)).astype(np.float16)
        action = rng.uniform(-1, 1, size=(STEPS, 5)).astype(np.float32)
        last = np.arange(STEPS) == STEPS - 1
        terminal = reason in (TerminationReason.SUCCESS, TerminationReason.FAILURE)
        meta = EpisodeMeta(state.episode_id, state.task, state.instruction, state.mode, state.seed, "toy", outcome,
                           reason, backbone_fingerprint=fingerprint)  # fmt: skip
        policy = source is ControlSource.POLICY
        return Episode(
            meta=meta, images={"front": rng.integers(0, 256, (STEPS + 1, 64, 64, 3), dtype=np.uint8)},
            proprio=rng.normal(size=(STEPS + 1, 6)).astype(np.float32),
            stamps_ns=np.arange(STEPS + 1, dtype=np.int64) * 100_000_000, proposed=action, executed=action, commanded=action,
            source=np.full(STEPS, source, np.uint8), log_prob=np.full(STEPS, -1.0 if policy else np.nan, np.float32),
            head_version=np.full(STEPS, version if policy else -1, np.int64),
            reward=(last * (outcome is Outcome.SUCCESS)).astype(np.float32), terminated=last & terminal,
            truncated=last & (not terminal), latents=latents,
        )  # fmt: skip

    def _backbone(self) -> tuple[tuple[int, ...], str]:
        assert self.announced is not None
        if self.announced.checkpoint not in self._shapes:
            backbone = load_vla(self.run / self.announced.checkpoint)[0].backbone
            self._shapes[self.announced.checkpoint] = (backbone.latent_shape, backbone.fingerprint())
        found: tuple[tuple[int, ...], str] = self._shapes[self.announced.checkpoint]
        return found


def obey(learner: GraphLearner, toys: Mapping[str, ToyArm], order: Order) -> None:
    """The whole episode that was ordered, and what the learner hears of it."""
    for said in toys[order.arm].whole(order.start):
        heard = learner.on_sealed if isinstance(said, Sealed) else learner.on_state
        heard(order.arm, said, time.monotonic())


def drive(learner: GraphLearner, toys: Mapping[str, ToyArm], *, until: Callable[[], bool] = lambda: False,
          seen: Callable[[Request], object] = lambda _: None, timeout_s: float = 600.0) -> None:  # fmt: skip
    """Carry out what the learner requests, in this thread, until it has finished."""
    deadline = time.monotonic() + timeout_s
    for name, toy in toys.items():
        learner.on_state(name, toy.state, time.monotonic())
    while not (learner.finished or until()):
        assert time.monotonic() < deadline, learner.status()
        now = time.monotonic()
        for request in learner.requests(now):
            seen(request)
            if isinstance(request, Work):
                learner.worked(request.do())
            elif isinstance(request, Announcement):
                for toy in toys.values():
                    toy.announced = request
            elif isinstance(request, Order):
                obey(learner, toys, request)


def demonstrations(run: Path) -> None:
    """One of each expert task, of random pictures: simulating them would take longer than all the rest."""
    spool = Spool(run / "expert")
    for task in load_suite("demo").expert:
        name = f"demo-{task.name}"
        if name not in SpoolReader(spool.root).ids():
            spool.write_episode(toy_episode(name, STEPS, cameras={"front": (64, 64)}, task=task.name, mode=Mode.DEMO,
                                            instruction=task.instruction), durable=False)  # fmt: skip
    spool.commit()


def main(run: Path, sft: Path, method: str) -> None:
    learner = open_learner(settings(run, sft, method))
    drive(learner, {name: ToyArm(name, run) for name in ("a", "b")})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
