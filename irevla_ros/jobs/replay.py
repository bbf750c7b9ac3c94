"""An episode's commands once more in simulation, and how far what follows differs from what was recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irevla_ros.core.errors import DataError, unknown_name
from irevla_ros.core.spec import ProprioSpec
from irevla_ros.core.types import Episode, FloatArray, Observation, Outcome
from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.suite import Suite, load_suite, suite_names


@dataclass(frozen=True)
class Replayed:
    """steps: executed before the replay, or the episode, ended; deviations from the recorded observations 0 to steps:
    position of the tip and opening of the gripper in m, pixels as the mean absolute difference of an image, 0 to 255."""

    suite: str
    steps: int
    position_m: FloatArray
    gripper_m: FloatArray
    pixels: FloatArray
    outcome: Outcome


def replay(episode: Episode, suite: str = "") -> Replayed:
    """Execute ``commanded`` from the start state of the episode's task and seed.

    Episodes that the simulator ran in one process come out the same to the bit. Where the commands were absolute poses (the
    graph) they are repeated as the motions that they amounted to, and deviate. suite: "" takes the shipped one that has the
    task.

    Raises:
        DataError: no shipped suite has the task, or its frames are not those of the simulator's cameras.
    """
    chosen = load_suite(suite) if suite else _suite_of(episode.meta.task)
    sizes = {frames.shape[1:3] for frames in episode.images.values()}
    if len(sizes) != 1 or len(set(next(iter(sizes)))) != 1:
        raise DataError(f"episode {episode.meta.episode_id!r} with frames of {sorted(sizes)}",
                        "the simulator renders square images of one size", "replay an episode of the simulator")  # fmt: skip
    env = PandaEnv(chosen, cameras=tuple(episode.images), image_size=next(iter(sizes))[0])
    try:
        return _replay(episode, env, chosen.name)
    finally:
        env.close()


def _replay(episode: Episode, env: PandaEnv, suite: str) -> Replayed:
    observed, info = env.reset(seed=episode.meta.seed, options={"task": episode.meta.task})
    seen = [env.observation(observed)]
    over = False
    for action in episode.commanded:
        if over:
            break
        observed, _, terminated, truncated, info = env.step(action)
        seen.append(env.observation(observed))
        over = terminated or truncated
    outcome = Outcome.SUCCESS if info["success"] else Outcome.FAILURE if over else Outcome.UNKNOWN
    return Replayed(suite, len(seen) - 1, *_deviations(episode, seen), outcome)


def _deviations(episode: Episode, seen: list[Observation]) -> tuple[FloatArray, FloatArray, FloatArray]:
    spec, count = ProprioSpec(), len(seen)
    raw = (np.stack([one.proprio for one in seen]) - episode.proprio[:count]) * np.asarray(spec.scale, np.float32)
    pixels = np.mean([[np.abs(one.images[camera].astype(np.int16) - frames[t]).mean() for t, one in enumerate(seen)]
                      for camera, frames in episode.images.items()], axis=0)  # fmt: skip
    return np.linalg.norm(raw[:, :3], axis=1), np.abs(raw[:, spec.names.index("gripper_width")]), pixels.astype(np.float32)


def _suite_of(task: str) -> Suite:
    suites = [load_suite(name) for name in suite_names()]
    for suite in suites:
        if any(task == one.name for one in suite.tasks):
            return suite
    raise unknown_name("task", task, {one.name for suite in suites for one in suite.tasks}, "of the shipped suites (--suite)")
