"""Several environments in processes of their own; observations come back through shared memory."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.utils import batch_space

from irevla_ros.core.types import ByteArray
from irevla_ros.sim.env import INSTRUCTION_LENGTH, PandaEnv, instruction_space


class PandaVectorEnv(AsyncVectorEnv):
    """``n`` times ``PandaEnv(**keywords)``; also ``gymnasium.make_vec("irevla/Panda-v0", num_envs=n)``.

    As Gymnasium's ``AsyncVectorEnv``, which never refreshes texts in its shared memory: here the instruction crosses it
    as bytes and is a tuple of n strings again in what ``reset`` and ``step`` return.
    """

    def __init__(self, num_envs: int, **keywords: Any) -> None:
        super().__init__([lambda: _InstructionBytes(PandaEnv(**keywords))] * num_envs, context="spawn")
        shared = self.single_observation_space
        assert isinstance(shared, spaces.Dict)
        text = spaces.Dict({**shared.spaces, "instruction": instruction_space()})
        self.single_observation_space, self.observation_space = text, batch_space(text, num_envs)

    def reset_wait(self, *arguments: Any, **keywords: Any) -> Any:
        observed, info = super().reset_wait(*arguments, **keywords)
        return _readable(observed), info

    def step_wait(self, *arguments: Any, **keywords: Any) -> Any:
        observed, *rest = super().step_wait(*arguments, **keywords)
        return _readable(observed), *rest


class _InstructionBytes(gymnasium.ObservationWrapper[dict[str, Any], Any, dict[str, Any]]):
    """The instruction as uint8 [80], padded with zeros."""

    def __init__(self, env: PandaEnv) -> None:
        super().__init__(env)
        code = spaces.Box(0, 255, (INSTRUCTION_LENGTH,), np.uint8)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = spaces.Dict({**env.observation_space.spaces, "instruction": code})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        code: ByteArray = np.zeros(INSTRUCTION_LENGTH, np.uint8)
        letters = observation["instruction"].encode()
        code[: len(letters)] = np.frombuffer(letters, np.uint8)
        return {**observation, "instruction": code}


def _readable(observed: dict[str, Any]) -> dict[str, Any]:
    texts = tuple(row.tobytes().rstrip(b"\0").decode() for row in observed["instruction"])
    return {**observed, "instruction": texts}
