"""Stage 1 of one task, in process: the learner, its buffers, and the file from which a killed run continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from irevla_ros.core.errors import CheckpointError
from irevla_ros.core.types import Episode, Mode
from irevla_ros.jobs.config import RunConfig
from irevla_ros.jobs.rollouts import PolicySnapshot
from irevla_ros.learn.interventions import human_segments, with_takeover_penalty
from irevla_ros.learn.irevla import StartTask
from irevla_ros.learn.ppo import PPO
from irevla_ros.learn.replay import DemoReplay, ReplayBuffer
from irevla_ros.learn.rollout import BackboneFeatures, Demonstrations, Features, RolloutBatch, StoredLatents
from irevla_ros.learn.sacfd import SACfD, init_critics_from
from irevla_ros.policy.checkpoint import load_vla
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import CriticHead, TwinQ
from irevla_ros.policy.tensor_file import read_tensors, write_tensors

REPLAY = 60_000  # observations; 8 KB of latents each


class Stage1:
    """PPO or SACfD on the head (or PPO on everything) of the VLA in ``checkpoint``.

    ``demonstrations`` are those of the expert tasks; only the anchor ``bc`` of PPO reads them.
    """

    def __init__(self, start: StartTask, checkpoint: Path, config: RunConfig, demonstrations: Sequence[Episode]) -> None:
        torch.manual_seed(config.seed * 1000 + start.head_version)
        self.start, self.config, self.checkpoint = start, config, checkpoint
        self.vla, _ = load_vla(checkpoint)
        self.fingerprint = self.vla.backbone.fingerprint()
        self.head_version = start.head_version
        self.whole = start.trains == "all"
        self.vla.backbone.requires_grad_(self.whole)
        self.demos: Demonstrations | None = None
        self.actor = GaussianActor(self.vla.head, config.std)
        generator = torch.Generator().manual_seed(config.seed * 1000 + start.head_version)
        head, width = self.vla.head, self.vla.backbone.latent_shape[1]
        self.learner: PPO | SACfD
        if start.algorithm == "ppo":
            critic = CriticHead(width, head.proprio_size, head.config)
            critic.init_trunk_from(head)
            reference = None
            if config.ppo.anchor == "kl":
                reference = GaussianActor(load_vla(checkpoint)[0].head, config.std).requires_grad_(False)
            if config.ppo.anchor == "bc":
                self.demos = self._encode(demonstrations)
            self.learner = PPO(self.actor, critic, config.ppo, generator, self.vla.backbone if self.whole else None,
                               reference)  # fmt: skip
        else:
            critics = TwinQ(width, head.proprio_size, head.action_size, head.horizon, head.config)
            init_critics_from(critics, head)
            self.learner = SACfD(self.actor, critics, config.sacfd, generator)
            self.forget()

    def forget(self) -> None:
        """Empty the replay of SACfD."""
        if isinstance(self.learner, SACfD):
            self.replay = DemoReplay(ReplayBuffer(REPLAY), ReplayBuffer(REPLAY))

    def imitate(self, demonstrations: Sequence[Episode]) -> None:
        """Take a person's demonstrations of the task into the replay of SACfD."""
        if isinstance(self.learner, SACfD):
            for episode in demonstrations:
                self.replay.demo.add(episode)

    def remember(self, episodes: Sequence[Episode]) -> None:
        """Take collected episodes into the replay of SACfD.

        Successes of the zero-shot policy are its demonstrations; its failures are experience like any other. What a human
        did in any episode is a demonstration, too.
        """
        if isinstance(self.learner, SACfD):
            for collected in episodes:
                episode = with_takeover_penalty(collected, self.config.sacfd.takeover_penalty)
                zero_shot = episode.meta.mode is Mode.DEMO
                if episode.success and (zero_shot or self.config.sacfd.keep_successes):
                    self.replay.demo.add(episode)
                else:
                    for first, stop in human_segments(episode):
                        self.replay.demo.add(episode, first, stop)
                if not (episode.success and zero_shot):
                    self.replay.online.add(episode)

    def update(self, episodes: Sequence[Episode], version: int,
               watch: Callable[[int, int], bool] = lambda done, of: False) -> dict[str, float] | None:  # fmt: skip
        """Learn; the head becomes ``version``. PPO learns from ``episodes``, SACfD from its replay.

        SACfD tells ``watch`` before each of its steps how many of how many are done. There ``save`` keeps what has been
        learned so far, and once ``watch`` is true the update breaks off: None, and the same update again does the rest.
        """
        if isinstance(self.learner, SACfD):
            due = self.learner.updates_due(self.replay.online.steps_added)
            metrics = self.learner.update(self.replay, due, watch)
            if metrics["updates"] < due:
                return None
        elif self.whole:
            batch = RolloutBatch.from_images(episodes, self.head_version, self.vla.backbone, self.vla.cameras)
            metrics = self.learner.update(batch, self.demos)
        else:
            metrics = self.learner.update(RolloutBatch.from_latents(episodes, self.head_version), self.demos)
        self.head_version = version
        return metrics

    def _encode(self, episodes: Sequence[Episode]) -> Demonstrations:
        """Demonstrations as stored latents, or as images when the backbone is trained too."""
        images = torch.from_numpy(np.concatenate([
            np.stack([episode.images[camera][:-1] for camera in self.vla.cameras], axis=1) for episode in episodes
        ]))  # fmt: skip
        tokens = self.vla.backbone.tokenize([episode.meta.instruction for episode in episodes])
        tokens = tokens.repeat_interleave(torch.tensor([len(episode) for episode in episodes]), dim=0)
        features: Features = BackboneFeatures(self.vla.backbone, images, tokens)
        if not self.whole:
            with torch.no_grad():
                parts = [features(rows).half() for rows in torch.arange(len(images)).split(256)]
            features = StoredLatents(torch.cat(parts))
        return Demonstrations(
            features,
            torch.from_numpy(np.concatenate([episode.proprio[:-1] for episode in episodes])),
            torch.arange(len(images)),
            torch.from_numpy(np.concatenate([episode.executed for episode in episodes]))[:, None],
        )

    def snapshot(self) -> PolicySnapshot:
        """What the workers need to act with the present weights."""
        return PolicySnapshot(
            checkpoint=str(self.checkpoint),
            head_version=self.head_version,
            head=_arrays(self.vla.head),
            backbone=_arrays(self.vla.backbone) if self.whole else None,
            log_std=self.actor.clamped_log_std().detach().numpy().copy(),
            fingerprint=self.vla.backbone.fingerprint() if self.whole else self.fingerprint,
        )

    def save(self, path: Path) -> None:
        """Write everything that changes in training, atomically."""
        write_tensors(path, self.learner.state_dict(), {"head_version": str(self.head_version), "task": self.start.task})

    def restore(self, path: Path) -> None:
        """Continue from ``save``. Raises ``CheckpointError`` when the file belongs to another task."""
        file = read_tensors(path)
        if file.metadata.get("task") != self.start.task:
            raise CheckpointError(f"{path} of task {file.metadata.get('task')!r}", f"task {self.start.task!r} is under way",
                                  "start the run anew")  # fmt: skip
        self.learner.load_state_dict(file.tensors)
        self.head_version = int(file.metadata["head_version"])


def _arrays(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}
