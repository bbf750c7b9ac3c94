from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.chunks import ActionChunk, ChunkBuffer, Due, Gap
from irevla_ros.core.errors import ConfigError
from irevla_ros.core.messages import MessageError
from irevla_ros.core.spec import ActionSpec

MS = 1_000_000
PERIOD = 100 * MS
SPEC = ActionSpec()


def chunk(stamp_ms: int = 0, horizon: int = 3, **values: Any) -> ActionChunk:
    """Action i is i/10 in every dimension."""
    actions = np.repeat(np.arange(horizon, dtype=np.float32)[:, None] / 10, 5, axis=1)
    return ActionChunk(**({"stamp_ns": stamp_ms * MS, "names": SPEC.names, "actions": actions, "period_ns": PERIOD} | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"actions": np.zeros((0, 5))}, r"shape \[0, 5\] for 5 names"),
        ({"actions": np.zeros(5)}, r"shape \[5\] for 5 names"),
        ({"actions": np.zeros((2, 4))}, r"shape \[2, 4\] for 5 names"),
        ({"actions": [[1.0], [1.0, 2.0]]}, "its actions are no rectangle of numbers"),
        ({"actions": [["a"] * 5]}, "its actions are no rectangle of numbers"),
        ({"actions": np.array([[0, 0, math.nan, math.inf, 0]])}, "2 of its numbers are not finite"),
        ({"names": ("dx", "dx", "dz", "drz", "gripper")}, "give each dimension a name of its own"),
        ({"names": ("dx", "dy", "dz", "drz", "fr3_joint1")}, "'fr3_joint1' is that of a robot's joint"),
        ({"names": ("dx", "dy", "dz", "drz", "panda_finger_joint1")}, "is that of a robot's joint"),
        ({"stamp_ns": -1}, "stamp -1 and period 100000000 ns"),
        ({"period_ns": 0}, "stamp 0 and period 0 ns"),
        ({"log_prob": math.nan}, "log-probability nan"),
    ],
)
def test_a_malformed_chunk_is_refused_as_a_whole(values: dict[str, Any], message: str) -> None:
    with pytest.raises(MessageError, match=message) as error:
        chunk(**values)
    assert "it is refused as a whole" in str(error.value)


def test_a_chunk_for_another_arm_is_refused() -> None:
    chunk().require(SPEC, PERIOD, 3)
    chunk(period_ns=PERIOD + PERIOD // 100).require(SPEC, PERIOD, 3)
    with pytest.raises(MessageError, match="in that order"):
        chunk(names=("dy", "dx", "dz", "drz", "gripper")).require(SPEC, PERIOD, 3)
    with pytest.raises(MessageError, match="this arm is controlled every 100000000 ns"):
        chunk(period_ns=PERIOD // 2).require(SPEC, PERIOD, 3)
    with pytest.raises(MessageError, match="3 actions: it is refused as a whole; send at most 2"):
        chunk().require(SPEC, PERIOD, 2)


def test_a_chunk_cannot_be_changed_under_the_arbiter() -> None:
    mine = np.zeros((1, 5), np.float32)
    taken = chunk(actions=mine)
    mine[:] = 9
    assert (taken.actions == 0).all()
    with pytest.raises(ValueError, match="read-only"):
        taken.actions[0, 0] = 1


def taken(buffer: ChunkBuffer, now_ms: int) -> int | Gap:
    due = buffer.take(now_ms * MS)
    return due.index if isinstance(due, Due) else due


def buffer_with(held: ActionChunk, now_ms: int = 0, age_ms: int = 500) -> ChunkBuffer:
    buffer = ChunkBuffer(age_ms * MS)
    assert buffer.put(held, now_ms * MS)
    return buffer


def test_one_action_a_period_from_the_first_time_it_is_asked_for() -> None:
    buffer = buffer_with(chunk(0), now_ms=40)
    assert buffer.take(60 * MS).action.tolist() == [0.0] * 5  # type: ignore[union-attr]
    assert taken(buffer, 100) is Gap.WAITING
    assert taken(buffer, 155) == 1  # a little early
    assert taken(buffer, 160) is Gap.WAITING
    assert taken(buffer, 270) == 2  # a little late
    assert taken(buffer, 280) is Gap.EXHAUSTED
    assert taken(buffer, 400) is Gap.EXHAUSTED
    assert taken(ChunkBuffer(1), 0) is Gap.NONE


def test_an_action_whose_time_has_passed_is_skipped() -> None:
    buffer = buffer_with(chunk(0))
    assert [taken(buffer, 0), taken(buffer, 200)] == [0, 2]
    assert buffer.counts["skipped"] == 1


def test_an_old_observation_ends_the_chunk() -> None:
    buffer = buffer_with(chunk(0, horizon=9), age_ms=150)
    assert [taken(buffer, 50), taken(buffer, 150), taken(buffer, 151)] == [0, 1, Gap.STALE]


def test_a_new_chunk_replaces_the_rest() -> None:
    buffer = buffer_with(chunk(0))
    taken(buffer, 0)
    assert buffer.put(chunk(100), 110 * MS)
    assert buffer.counts["dropped"] == 2
    assert taken(buffer, 120) == 0


def test_an_older_or_equal_chunk_does_not_replace_a_newer_one() -> None:
    buffer = buffer_with(chunk(100), now_ms=100)
    assert not buffer.put(chunk(100), 110 * MS)
    assert not buffer.put(chunk(50), 110 * MS)
    buffer.drop()
    assert not buffer.put(chunk(100), 110 * MS)  # nor after it was dropped
    assert buffer.counts["late"] == 3
    buffer.clear()
    assert buffer.put(chunk(50), 110 * MS)


def test_a_chunk_from_the_future_is_refused_and_does_not_block_later_ones() -> None:
    buffer = ChunkBuffer(500 * MS, ahead_ns=50 * MS)
    assert not buffer.put(chunk(151), 100 * MS)
    assert buffer.counts["ahead"] == 1
    assert buffer.put(chunk(150), 100 * MS)
    assert taken(buffer, 100) == 0
    assert taken(buffer, 99) is Gap.AHEAD  # the clock went back


def test_limits_are_checked() -> None:
    with pytest.raises(ConfigError, match="chunk age limit 0 ns"):
        ChunkBuffer(0)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-300, 300), st.integers(-200, 100), st.integers(1, 6)), max_size=50),
)
def test_each_action_is_given_at_most_once_in_order_and_never_too_old(script: list[tuple[bool, int, int, int]]) -> None:
    buffer = ChunkBuffer(400 * MS, ahead_ns=50 * MS)
    now, given_out, newest = 100_000, [(-1, -1)], -1
    for is_put, passes, offset, horizon in script:
        now += passes
        if is_put:
            offered = chunk(now + offset, horizon)
            accepted = buffer.put(offered, now * MS)
            assert accepted == (offered.stamp_ns > newest and offset <= 50)
            newest = max(newest, offered.stamp_ns) if accepted else newest
        else:
            due = buffer.take(now * MS)
            if isinstance(due, Due):
                assert -50 * MS <= now * MS - due.chunk.stamp_ns <= 400 * MS
                assert (due.chunk.stamp_ns, due.index) > given_out[-1]
                assert due.chunk.stamp_ns == newest
                given_out.append((due.chunk.stamp_ns, due.index))
