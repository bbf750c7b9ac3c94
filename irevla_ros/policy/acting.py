"""The policy that acts: a VLA with the head and the exploration that the learner announced for it, verified on load."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from irevla_ros.core.errors import CheckpointError
from irevla_ros.core.graph_messages import Announcement
from irevla_ros.core.types import FloatArray, HalfArray, Observation
from irevla_ros.policy.checkpoint import load_head, load_vla
from irevla_ros.policy.gaussian import GaussianActor
from irevla_ros.policy.head import ActionHead
from irevla_ros.policy.vla import VLA


@dataclass(frozen=True, eq=False)
class Acting:
    """``vla`` encodes; ``head`` (its own or a newer one) acts, with ``std`` [A] or, where that is None, as its mean.

    checkpoint, sha256: where the VLA came from. Nothing of it changes once made: whoever holds it keeps it for an episode.
    """

    vla: VLA
    head: ActionHead
    std: FloatArray | None
    version: int
    fingerprint: str
    checkpoint: str
    sha256: str = ""


def load_acting(folder: Path, std: float, device: str, version: int = 0, sha256: str = "", name: str = "") -> Acting:
    """The checkpoint with its own head; std: of the exploration, in normalised action units, 0 for none."""
    vla = load_vla(folder, sha256=sha256)[0].eval().requires_grad_(False).to(device)
    return Acting(vla, vla.head, _spread(vla, std), version, vla.backbone.fingerprint(), name or str(folder), sha256)


def load_announced(run: Path, announced: Announcement, present: Acting | None, std: float, device: str) -> Acting:
    """What the learner announced; the VLA is read again only where it is another than ``present``'s.

    Raises:
        CheckpointError: a file leaves the run's folder, is absent, damaged, another than announced, or not finite.
    """
    folder = _within(run, announced.checkpoint)
    if present is None or (present.checkpoint, present.sha256) != (announced.checkpoint, announced.checkpoint_sha256):
        present = load_acting(folder, std, device, announced.version, announced.checkpoint_sha256, announced.checkpoint)
    head, spread = present.vla.head, _spread(present.vla, std)
    if announced.head:
        actor = GaussianActor(copy.deepcopy(present.vla.head))
        path = _within(run, announced.head)
        load_head(path, actor, fingerprint=present.fingerprint, sha256=announced.head_sha256)
        head, spread = actor.head, actor.clamped_log_std().exp().detach().cpu().numpy()
        wrong = [name for name, tensor in actor.state_dict().items() if not tensor.isfinite().all()]
        if wrong:
            raise CheckpointError(f"{path} tensor {wrong[0]!r} is not finite", "no arm is moved by it",
                                  "look at the learner's losses")  # fmt: skip
    return Acting(present.vla, head, spread, announced.version, present.fingerprint, present.checkpoint, present.sha256)


@torch.inference_mode()
def act(wanted: Sequence[tuple[Acting, Observation]]) -> list[tuple[FloatArray, HalfArray]]:
    """For each observation the mean chunk float32 [H, A] of its head, and latents float16 [m, d] as they are stored.

    As ``VLA.act``: one batch for each VLA, then one for each head of it. ``DataError`` for an observation that does not fit.
    """
    results: dict[int, tuple[FloatArray, HalfArray]] = {}
    for vla in {id(acting.vla): acting.vla for acting, _ in wanted}.values():
        rows = [k for k, (acting, _) in enumerate(wanted) if acting.vla is vla]
        images, tokens, proprio = vla.batch([wanted[k][1] for k in rows])
        stored = vla.latents(images, tokens).half()
        latents = stored.cpu().numpy()
        for head in {id(wanted[k][0].head): wanted[k][0].head for k in rows}.values():
            mine = [place for place, k in enumerate(rows) if wanted[k][0].head is head]
            every = len(mine) == len(rows)
            mean = head(stored.float() if every else stored[mine].float(), proprio if every else proprio[mine])
            for place, chunk in zip(mine, mean.cpu().numpy(), strict=True):
                results[rows[place]] = chunk, latents[place]
    return [results[k] for k in range(len(wanted))]


def _spread(vla: VLA, std: float) -> FloatArray | None:
    return np.full(vla.action_spec.size, std, np.float32) if std > 0 else None


def set_threads(count: int) -> None:
    """How many threads torch computes with in this process."""
    torch.set_num_threads(count)


def _within(run: Path, path: str) -> Path:
    """The path below the run's folder; links that lead out of it are not followed."""
    found = (run / path).resolve()
    if not found.is_relative_to(run.resolve()):
        raise CheckpointError(f"{run / path}", "it leads out of the run's folder", "announce files of this run")
    return found
