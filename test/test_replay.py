"""Replay in latent space: successors, overwriting, mixing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError, DataError
from irevla_ros.core.types import Episode
from irevla_ros.learn.replay import DemoReplay, ReplayBuffer
from learn_toys import LATENT_SHAPE, make_episode


def numbered(first: int, steps: int, end: str = "truncated") -> Episode:
    """An episode whose latents, proprio and actions tell their own number; the action is that of its observation."""
    number = first + np.arange(steps + 1)
    latents = np.broadcast_to(number[:, None, None], (steps + 1, *LATENT_SHAPE)).astype(np.float16)
    proprio = np.broadcast_to(number[:, None], (steps + 1, 2)).astype(np.float32)
    executed = (proprio[:-1] / 1000).astype(np.float32)
    return make_episode(steps, end, latents=latents, proprio=proprio, executed=executed)


def test_a_transition_joins_an_observation_with_the_next_of_the_same_episode() -> None:
    buffer = ReplayBuffer(100)
    buffer.add(numbered(0, 3, "terminated"))
    buffer.add(numbered(50, 2, "truncated"))
    assert (len(buffer), buffer.steps_added) == (5, 5)
    batch = buffer.sample(400, torch.Generator().manual_seed(0))
    first = batch.proprio[:, 0]
    assert set(first.tolist()) == {0.0, 1.0, 2.0, 50.0, 51.0}
    assert torch.equal(batch.next_proprio[:, 0], first + 1)
    assert torch.equal(batch.next_latents[:, 0, 0], batch.latents[:, 0, 0] + 1)
    assert torch.equal(batch.terminated, first == 2)
    assert torch.equal(batch.reward, (first == 2).float())
    assert batch.action.shape == (400, 1, 2)
    torch.testing.assert_close(batch.action[:, 0, 0], first / 1000)
    assert buffer._columns["latents"].dtype == torch.float16


@settings(max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(10, 25))
def test_overwriting_never_joins_two_episodes(lengths: list[int], capacity: int) -> None:
    buffer, number = ReplayBuffer(capacity), 0
    for length in lengths:
        buffer.add(numbered(number, length))
        number += length + 10  # a gap, so that a wrong successor shows
    batch = buffer.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(batch.next_proprio, batch.proprio + 1)
    assert torch.equal(batch.next_latents, batch.latents + 1)
    assert batch.proprio.max() == number - 10 - 1  # the newest step is there
    assert len(buffer) <= capacity - 1
    assert buffer.steps_added == sum(lengths)


def test_half_of_a_batch_is_demonstrations_and_they_come_first() -> None:
    demo, online = ReplayBuffer(20), ReplayBuffer(20)
    replay = DemoReplay(demo, online)
    demo.add(numbered(0, 5))
    batch, demos = replay.sample(8, torch.Generator().manual_seed(0))
    assert (len(batch), demos) == (8, 8)
    online.add(numbered(100, 5))
    batch, demos = replay.sample(8, torch.Generator().manual_seed(0))
    assert demos == 4
    assert (batch.proprio[:, 0] < 100).tolist() == [True] * 4 + [False] * 4
    batch, demos = DemoReplay(demo, online, 0.25).sample(8, torch.Generator().manual_seed(0))
    assert demos == 2


def test_sampling_is_repeatable() -> None:
    buffer = ReplayBuffer(30)
    buffer.add(numbered(0, 20))
    first, second = (buffer.sample(16, torch.Generator().manual_seed(3)).proprio for _ in range(2))
    assert torch.equal(first, second)


def test_errors() -> None:
    buffer = ReplayBuffer(4)
    with pytest.raises(DataError, match="an empty replay buffer: sampling needs a transition"):
        buffer.sample(1, torch.Generator())
    with pytest.raises(DataError, match="episode 'e4' with 5 observations: the buffer holds 4; raise the capacity"):
        buffer.add(make_episode(4))
    with pytest.raises(DataError, match="episode 'e2': replay needs its latents"):
        buffer.add(make_episode(2, latents=None))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="demo_share = 2"):
        DemoReplay(buffer, buffer, 2)
