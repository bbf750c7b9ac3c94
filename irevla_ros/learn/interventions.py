"""What a person's hand on the arm teaches: the steps that are a demonstration, and what was wrong just before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from irevla_ros.core.types import ControlSource, Episode


def human_segments(episode: Episode) -> list[tuple[int, int]]:
    """The stretches [first, stop) of steps that a human commanded, in order."""
    human = np.concatenate([[False], episode.source == ControlSource.HUMAN, [False]])
    edges = np.flatnonzero(human[1:] != human[:-1])
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


def with_takeover_penalty(episode: Episode, penalty: float) -> Episode:
    """The episode with ``penalty`` taken from the reward of each policy's step after which a human took over.

    As in RLIF (Luo et al. 2024, arXiv 2311.12996): what made the human intervene is what the policy did last. That step
    ends nothing: the state after it has a value, and is bootstrapped from.
    """
    takeovers = (episode.source[:-1] == ControlSource.POLICY) & (episode.source[1:] == ControlSource.HUMAN)
    if penalty == 0.0 or not takeovers.any():
        return episode
    reward = episode.reward.copy()
    reward[:-1][takeovers] -= np.float32(penalty)
    return replace(episode, reward=reward)
