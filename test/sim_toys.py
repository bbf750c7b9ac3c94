"""A suite with each kind of task, and whole episodes reduced to digests, for the tests of the simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from irevla_ros.sim.env import PandaEnv
from irevla_ros.sim.suite import parse_suite

SUITE = parse_suite(
    "families",
    {
        "expert": [{"family": "press", "colour": "red"}, {"family": "pick", "colour": "blue", "shape": "block"}],
        "rl": [{"family": "push", "colour": "green", "shape": "cylinder", "direction": "left"}],
        "unseen": [
            {"family": "open", "fixture": "drawer"},
            {"family": "open", "fixture": "door"},
            {"family": "put", "colour": "yellow", "shape": "cube", "container": "bin"},
        ],
    },
    "families.yaml",
)
TASKS = tuple(task.name for task in SUITE.tasks)
STILL = np.array([0.0, 0.0, 0.0, 0.0, 1.0], np.float32)


def new_env(**keywords: Any) -> PandaEnv:
    return PandaEnv(SUITE, **{"image_size": 16, **keywords})


def play(env: PandaEnv, task: str, seed: int, expert: bool = True) -> Iterator[tuple[Any, ...]]:
    """One whole episode: what ``step`` returns, tick by tick; random actions where no expert acts."""
    env.reset(seed=seed, options={"task": task})
    yield from finish(env, env.expert() if expert else None)


def finish(env: PandaEnv, script: Any = None) -> Iterator[tuple[Any, ...]]:
    """From here to the end of the episode, by a script or by random actions."""
    while True:
        action = script.act() if script else env.np_random.uniform(-1, 1, 5).astype(np.float32)
        result = env.step(action)
        yield result
        if result[2] or result[3]:
            return


def digest(env: PandaEnv, task: str, seed: int) -> str:
    """SHA-256 of every byte that an expert episode shows: images, proprioception, rewards, endings."""
    seen = hashlib.sha256()
    first, _ = env.reset(seed=seed, options={"task": task})
    for observed, reward, terminated, truncated, _ in [(first, 0.0, False, False, {}), *finish(env, env.expert())]:
        for camera in env.cameras:
            seen.update(observed[camera.name].tobytes())
        seen.update(observed["proprio"].tobytes() + np.array([reward, terminated, truncated]).tobytes())
    return seen.hexdigest()


def digests_in_worker(context: Any, send: Any, seed: int) -> list[str]:
    """For ``WorkerPool.run``: the digests of each task in a fresh process, in reverse order."""
    env = new_env()
    return [digest(env, task, seed) for task in reversed(TASKS)][::-1]
