"""Simulator, arbiter, episode and reward node together in lock step: the reward ends the episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arm_toys import Rest, graph
from irevla_ros.core.episode_state import EpisodeState, Judge, Phase
from irevla_ros.core.types import Mode, Outcome, TerminationReason
from irevla_ros.nodes.arbiter import ArbiterNode
from irevla_ros.nodes.episode import EpisodeNode
from irevla_ros.nodes.reward import RewardNode
from ros_toys import spin_until

pytest.importorskip("pybullet")
from irevla_ros.nodes.sim import SimNode


def ended(rest: Rest, episodes: int) -> list[EpisodeState]:
    """The last state of each episode in phase end, once there are so many."""
    last = {state.episode_id: state for state in rest.states if state.phase is Phase.END}
    return list(last.values()) if len(last) >= episodes and rest.state and rest.state.phase is Phase.IDLE else []


def played(tmp_path: Any, episodes: int, rest_acts: Any = None, **parameters: Any) -> list[EpisodeState]:
    def make_rest() -> Rest:
        rest = Rest(lock_step=True, act=rest_acts)
        rest.judge = False  # that is the reward node's
        return rest

    with graph(EpisodeNode, SimNode, ArbiterNode, RewardNode, make_rest, lock_step=True, run=str(tmp_path), run_id="run1",
               auto=True, episodes=episodes, suite="demo", **parameters) as (*others, rest):  # fmt: skip
        spin_until(lambda: ended(rest, episodes), *others, rest, timeout_s=120)
        return ended(rest, episodes)


def test_the_scripted_experts_success_is_what_the_reward_says(tmp_path: Any) -> None:
    states = played(tmp_path, 3, tasks=["press-red"], mode="demo", script=True, participants=["robot"])
    for state in states:
        assert (state.mode, state.outcome, state.judge) == (Mode.DEMO, Outcome.SUCCESS, Judge.REWARD)
        assert state.started_ns is not None and state.ended_ns is not None
        assert 0 < state.ended_ns - state.started_ns < state.time_limit_ns


def test_who_does_nothing_fails_at_the_time_limit_without_waiting_for_the_reward(tmp_path: Any) -> None:
    still = np.array([0, 0, 0, 0, 1], np.float32)
    (state,) = played(tmp_path, 1, lambda stamp_ns: still, tasks=["press-red"], participants=["robot"], time_limit_s=1.5)
    assert (state.outcome, state.judge) == (Outcome.FAILURE, None)
    assert state.termination_reason is TerminationReason.TIME_LIMIT
    assert state.started_ns is not None and state.ended_ns == state.started_ns + state.time_limit_ns
