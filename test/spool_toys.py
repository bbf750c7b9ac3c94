"""Small episodes with contents known from their seed, and how to record and compare them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from irevla_ros.core.types import (
    ControlSource,
    Episode,
    EpisodeMeta,
    Mode,
    Observation,
    Outcome,
    TerminationReason,
)
from irevla_ros.data.writer import EpisodeWriter, Step

FINGERPRINT = "0123456789abcdef"
NAMES = ("dx", "dy", "dz", "drz", "gripper")


def toy_episode(
    episode_id: str = "e1",
    steps: int = 5,
    seed: int = 0,
    *,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    latents: bool = False,
    **meta: object,
) -> Episode:
    """A successful episode of random numbers and pictures; cameras: name -> (height, width)."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    values: dict[str, object] = {"task": "press-red", "instruction": "press the red button", "mode": Mode.TRAIN}
    values |= {"outcome": Outcome.SUCCESS, "termination_reason": TerminationReason.SUCCESS, "run_id": "run1"}
    values |= {"action_names": NAMES, "backbone_fingerprint": FINGERPRINT if latents else ""}
    sizes = {"front": (8, 12)} if cameras is None else cameras
    return Episode(
        meta=EpisodeMeta(episode_id=episode_id, seed=seed, **(values | meta)),  # type: ignore[arg-type]
        images={c: rng.integers(0, 256, (steps + 1, h, w, 3), np.uint8) for c, (h, w) in sizes.items()},
        proprio=normal(steps + 1, 6),
        stamps_ns=np.arange(steps + 1, dtype=np.int64) * 100_000_000 + 7,
        proposed=normal(steps, 5),
        executed=normal(steps, 5),
        commanded=normal(steps, 5),
        source=rng.integers(0, 3, steps, np.uint8),
        log_prob=np.where(rng.random(steps) < 0.5, np.float32(np.nan), normal(steps)),
        head_version=rng.integers(-1, 9, steps),
        reward=normal(steps),
        terminated=np.arange(steps) == steps - 1,
        truncated=np.zeros(steps, np.bool_),
        latents=rng.normal(size=(steps + 1, 3, 4)).astype(np.float16) if latents else None,
    )


def append_steps(writer: EpisodeWriter, episode: Episode, start: int, stop: int) -> None:
    """Records steps [start, stop) and the observations after them; the observation before must be there."""
    for t in range(start, stop):
        writer.append_step(
            Step(
                episode.proposed[t],
                episode.executed[t],
                episode.commanded[t],
                ControlSource(episode.source[t]),
                float(episode.log_prob[t]),
                int(episode.head_version[t]),
                float(episode.reward[t]),
            )
        )
        append_observation(writer, episode, t + 1)


def append_observation(writer: EpisodeWriter, episode: Episode, t: int) -> None:
    images = {camera: frames[t] for camera, frames in episode.images.items()}
    observation = Observation(images, episode.proprio[t], episode.meta.instruction)
    latents = None if episode.latents is None else episode.latents[t]
    writer.append_observation(int(episode.stamps_ns[t]), observation, latents)


def columns(episode: Episode) -> dict[str, np.ndarray]:
    """Every array of the episode by name, images and latents included."""
    found = {f.name: getattr(episode, f.name) for f in dataclasses.fields(Episode) if f.name not in ("meta", "images")}
    found |= {f"images.{camera}": frames for camera, frames in episode.images.items()}
    return {name: array for name, array in found.items() if array is not None}


def same_columns(found: Episode, wanted: Episode, steps: int | None = None, ignore: tuple[str, ...] = ()) -> None:
    """Asserts equality bit by bit, of the first ``steps`` steps when given."""
    a, b = columns(found), columns(wanted)
    assert a.keys() == b.keys()
    for name in a.keys() - set(ignore):
        rows = len(b[name]) if steps is None else steps + (len(b[name]) - len(wanted))
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, (rows, *b[name].shape[1:])), name
        assert a[name].tobytes() == b[name][:rows].tobytes(), name
