"""An arm that is no robot: it takes orders, goes through the states of an episode, and seals random episodes for real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irevla_ros.core.episode_state import EpisodeState, Phase, Start
from irevla_ros.core.graph_messages import Announcement, Sealed
from irevla_ros.core.types import ControlSource, Episode, EpisodeMeta, Mode, Outcome, TerminationReason
from irevla_ros.data.spool import Spool
from irevla_ros.policy.backbone import build_backbone
from irevla_ros.policy.checkpoint import load_vla, save_vla
from irevla_ros.policy.vla import build_vla

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


class ToyArm:
    """What sim, episode, policy, recorder and reward are together. ``succeeds`` by seed; ``announced`` acts."""

    def __init__(self, name: str, run: Path, announced: Announcement | None = None, latents: bool = True) -> None:
        self.name, self.run, self.announced, self.latents = name, run, announced, latents
        self.spool = Spool(run / "practice")
        taken = [p.name.split(".")[0] for p in self.spool.root.glob(f"toy-{name}-*.episode.safetensors")]
        self.number = max((int(one.rsplit("-", 1)[1]) for one in taken), default=0) + 1
        self.state = EpisodeState(self.number * 1000, Phase.IDLE, f"toy-{name}")
        self._shapes: dict[str, Any] = {}

    def to(self, phase: Phase, **values: Any) -> EpisodeState:
        self.state = replace(self.state, sequence=self.state.sequence + 1, phase=phase, **values)
        return self.state

    def begin(self, start: Start) -> EpisodeState:
        """Reset of the episode that was ordered."""
        fresh = EpisodeState(self.state.sequence, Phase.IDLE, self.state.run_id)
        self.state = fresh
        episode_id = f"{fresh.run_id}-{self.number:06d}"
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
        """Everything that is said during an episode; one in two succeeds, and all of them by the seed."""
        yield self.begin(start)
        yield self.to(Phase.READY)
        yield self.to(Phase.RUN)
        success = start.seed % 2 == 0
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
        meta = EpisodeMeta(state.episode_id, state.task, state.instruction, state.mode, state.seed, state.run_id, outcome,
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
