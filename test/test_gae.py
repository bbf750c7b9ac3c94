"""GAE against numbers computed by hand."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.learn.gae import gae


def test_terminated_cuts_and_truncated_bootstraps_from_its_own_next_value() -> None:
    # Episode A: two steps, terminated with reward 1. Episode B: two steps, truncated. gamma .5, lambda .5.
    reward = torch.tensor([0.0, 1.0, 0.0, 0.0])
    value = torch.tensor([0.2, 0.4, 0.1, 0.3])
    next_value = torch.tensor([0.4, 9.0, 0.3, 0.8])
    terminated = torch.tensor([False, True, False, False])
    truncated = torch.tensor([False, False, False, True])
    advantage, returns = gae(reward, value, next_value, terminated, truncated, gamma=0.5, lam=0.5)
    # deltas: .5*.4-.2 = 0; 1-.4 = .6 (9.0 unused); .5*.3-.1 = .05; .5*.8-.3 = .1. Decay .25 inside an episode.
    assert advantage.tolist() == pytest.approx([0.0 + 0.25 * 0.6, 0.6, 0.05 + 0.25 * 0.1, 0.1])
    assert returns.tolist() == pytest.approx([0.35, 1.0, 0.175, 0.4])


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 10_000))
def test_concatenation_is_the_same_as_episode_by_episode(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    episodes = []
    for length in lengths:
        last = torch.arange(length) == length - 1
        ends = bool(torch.rand(1, generator=generator) < 0.5)
        episodes.append((*torch.rand(3, length, generator=generator), last & ends, last & (not ends)))
    together = gae(*(torch.cat(column) for column in zip(*episodes, strict=True)), gamma=0.9, lam=0.8)
    alone = [gae(*episode, gamma=0.9, lam=0.8) for episode in episodes]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts))


def test_lambda_one_is_the_discounted_return_and_zero_the_temporal_difference() -> None:
    reward, value = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.25, 0.125])
    next_value, no = torch.tensor([0.25, 0.125, 7.0]), torch.zeros(3, dtype=torch.bool)
    end = torch.tensor([False, False, True])
    assert gae(reward, value, next_value, end, no, 0.5, 1.0)[1].tolist() == pytest.approx([2.75, 3.5, 3.0])
    assert gae(reward, value, next_value, end, no, 0.5, 0.0)[1].tolist() == pytest.approx([1.125, 2.0625, 3.0])


def test_five_thousand_steps_take_milliseconds() -> None:
    count = 5000
    end = torch.arange(count) % 40 == 39
    started = time.perf_counter()
    gae(*torch.rand(3, count), end, torch.zeros_like(end), 0.98, 0.95)
    assert time.perf_counter() - started < 0.1
