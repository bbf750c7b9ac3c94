from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irevla_ros.core.alignment import Aligner, Arrival, Lack, StampGuard, StreamBuffer, StreamSpec
from irevla_ros.core.errors import ConfigError

MS = 1_000_000
JUMP = 2000 * MS
FAR = 60_000 * MS


def stream(*stamps_ms: int, capacity: int = 64) -> StreamBuffer[int]:
    """Each sample's value is its stamp in ms."""
    buffer: StreamBuffer[int] = StreamBuffer(capacity, JUMP)
    for stamp in stamps_ms:
        buffer.push(stamp * MS, stamp, stamp * MS)
    return buffer


def test_duplicates_and_late_ones_are_dropped_and_counted() -> None:
    buffer = stream(100, 200)
    assert buffer.push(200 * MS, -1, 0) is Arrival.DUPLICATE
    assert buffer.push(150 * MS, -1, 0) is Arrival.LATE
    assert buffer.push(201 * MS, 201, 0) is Arrival.NEW
    assert [buffer.nearest(stamp * MS, 0).value for stamp in (100, 200, 201)] == [100, 200, 201]  # type: ignore[union-attr]
    assert buffer.counts == {"duplicate": 1, "late": 1}


def test_the_oldest_makes_room() -> None:
    buffer = stream(1, 2, 3, capacity=2)
    assert len(buffer) == 2
    assert buffer.latest_before(1 * MS) is None


def test_latest_before_and_nearest_by_hand() -> None:
    buffer = stream(100, 200, 300)
    assert buffer.latest_before(100 * MS - 1) is None
    assert buffer.latest_before(100 * MS).value == 100  # type: ignore[union-attr]
    assert buffer.latest_before(299 * MS).value == 200  # type: ignore[union-attr]
    assert buffer.nearest(251 * MS, 50 * MS).value == 300  # type: ignore[union-attr]
    assert buffer.nearest(250 * MS, 50 * MS).value == 200  # type: ignore[union-attr]  # as near: the earlier
    assert buffer.nearest(250 * MS, 49 * MS) is None
    assert buffer.nearest(400 * MS, 100 * MS).value == 300  # type: ignore[union-attr]
    assert buffer.age_ns(350 * MS) == 50 * MS
    assert buffer.age_ns(250 * MS) == -50 * MS
    assert stream().age_ns(0) is None


@given(st.lists(st.integers(0, 3000), max_size=60), st.integers(0, 3000), st.integers(0, 500), st.integers(1, 8))
def test_searching_is_what_a_linear_search_finds(stamps: list[int], tick: int, tolerance: int, capacity: int) -> None:
    buffer: StreamBuffer[int] = StreamBuffer(capacity, 10_000)
    for stamp in stamps:
        buffer.push(stamp, stamp, 0)
    kept = sorted({s for i, s in enumerate(stamps) if s > max(stamps[:i], default=-1)})[-capacity:]
    latest = buffer.latest_before(tick)
    assert (latest and latest.value) == max((s for s in kept if s <= tick), default=None)
    near = buffer.nearest(tick, tolerance)
    within = [s for s in kept if abs(s - tick) <= tolerance]
    assert (near and near.value) == min(within, key=lambda s: abs(s - tick), default=None)


def test_a_jump_back_or_forth_starts_the_stream_anew() -> None:
    for jump in (-FAR, FAR):
        buffer = stream(100_000, 100_100)
        there = 100_200 * MS + jump
        assert buffer.push(there, 1, 0) is Arrival.JUMP
        assert buffer.newest is None
        assert buffer.push(there + 100 * MS, 2, 0) is Arrival.NEW
        assert buffer.newest is not None
        assert buffer.newest.value == 2
        assert buffer.counts == {"jump": 1}


def test_two_clocks_that_alternate_never_pass() -> None:
    guard = StampGuard(JUMP)
    found = [guard.check(stamp * MS) for i in range(20) for stamp in (100_000 + i, 10_000 + i)]
    assert found[1:] == [Arrival.JUMP] * 39


def test_a_frozen_source_is_new_once() -> None:
    guard = StampGuard(JUMP)
    assert [guard.check(7) for _ in range(5)] == [Arrival.NEW] + [Arrival.DUPLICATE] * 4


# ---- the aligner -----------------------------------------------------------------------------------------------

CAMERA = StreamSpec("camera/front", max_age_ns=100 * MS)
STATE = StreamSpec("joint_states", nearest_ns=20 * MS)
INSTRUCTION = StreamSpec("instruction", latched=True)


def aligner(*specs: StreamSpec) -> Aligner:
    return Aligner(specs or (CAMERA, STATE, INSTRUCTION), JUMP)


def test_the_observation_of_a_tick() -> None:
    streams = aligner()
    streams.push("instruction", 0, "press", 0)
    streams.push("camera/front", 1000 * MS, "frame", 5000 * MS)
    for stamp in (985, 1005, 1030):
        streams.push("joint_states", stamp * MS, stamp, 5000 * MS)
    found = streams.at(1000 * MS, 5010 * MS)
    assert found.complete
    assert {name: sample.value for name, sample in found.samples.items()} == {
        "camera/front": "frame", "joint_states": 1005, "instruction": "press",
    }  # fmt: skip


def test_what_is_missing_or_stale_is_named_with_age_and_limit() -> None:
    streams = aligner()
    told = [str(problem) for problem in streams.at(0, 0).problems]
    assert told == ["camera/front: missing", "joint_states: missing", "instruction: missing"]
    streams.push("camera/front", 1000 * MS, "frame", 0)
    streams.push("joint_states", 1300 * MS, 0, 0)
    streams.push("instruction", 0, "press", 0)
    found = streams.at(1250 * MS, 0)
    assert not found.complete
    assert [str(p) for p in found.problems] == [
        "camera/front: stale, age 0.250 s, limit 0.100 s", "joint_states: ahead, age -0.050 s, limit 0.020 s",
    ]  # fmt: skip
    assert [p.lack for p in found.problems] == [Lack.STALE, Lack.AHEAD]
    assert found.problems[0].age_ns == 250 * MS


def test_age_at_the_limit_is_still_fresh() -> None:
    streams = aligner(CAMERA)
    streams.push("camera/front", 0, "frame", 0)
    assert streams.at(100 * MS, 0).complete
    assert not streams.at(100 * MS + 1, 0).complete


def test_silence_of_wall_time_is_seen_though_the_graphs_clock_stands() -> None:
    streams = aligner(CAMERA)
    streams.push("camera/front", 0, "frame", 50 * MS)
    assert streams.at(0, 1050 * MS).complete
    (problem,) = streams.at(0, 1051 * MS).problems
    assert (problem.lack, problem.age_ns, problem.limit_ns) == (Lack.SILENT, 1001 * MS, 1000 * MS)


def test_a_tick_that_goes_back_forgets_everything_but_what_is_latched() -> None:
    streams = aligner(CAMERA, INSTRUCTION)
    streams.push("instruction", 0, "press", 0)
    streams.push("camera/front", 100_000 * MS, "old", 0)
    assert not streams.at(130_000 * MS, 0).complete  # stale
    # The clock jumps back by 30 s: the old frame would look 0.05 s old.
    found = streams.at(100_050 * MS, 0)
    assert [p.lack for p in found.problems] == [Lack.MISSING]
    assert "instruction" in found.samples
    assert streams.jumps == 1
    assert streams.push("camera/front", 99_990 * MS, "new", 0) is Arrival.NEW
    assert streams.at(100_060 * MS, 0).samples["camera/front"].value == "new"


def test_the_nearest_sample_is_not_older_than_the_limit_either() -> None:
    streams = aligner(StreamSpec("s", max_age_ns=10 * MS, nearest_ns=50 * MS))
    streams.push("s", 0, "s", 0)
    assert str(streams.at(11 * MS, 0).problems[0]) == "s: stale, age 0.011 s, limit 0.010 s"


def test_exact_ticks_for_lock_step() -> None:
    streams = aligner(StreamSpec("camera/front", nearest_ns=0), StreamSpec("joint_states", nearest_ns=0))
    streams.push("camera/front", 100, "c", 0)
    assert [p.stream for p in streams.at(100, 0).problems] == ["joint_states"]
    streams.push("joint_states", 100, "j", 0)
    assert streams.at(100, 0).complete


def test_counts_and_unknown_streams() -> None:
    streams = aligner(CAMERA)
    streams.push("camera/front", 5, 0, 0)
    streams.push("camera/front", 5, 0, 0)
    assert streams.counts() == {"camera/front.duplicate": 1}
    with pytest.raises(ConfigError, match="stream 'camera/fron': no such stream; did you mean 'camera/front'"):
        streams.push("camera/fron", 0, 0, 0)
    with pytest.raises(ConfigError, match="at least one, each named once"):
        Aligner((CAMERA, CAMERA))
    with pytest.raises(ConfigError, match="limits are not negative"):
        StreamSpec("a", max_age_ns=-1)
    with pytest.raises(ConfigError, match="at least one sample is kept"):
        StreamBuffer(0, 1)
    with pytest.raises(ConfigError, match="clock jump limit 0 ns"):
        StampGuard(0)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "at", "clock"]),
            st.integers(0, 300),  # ms that pass
            st.integers(-400, 100),  # ms by which a stamp differs from the clock
            st.sampled_from([-FAR, -3000 * MS, -200 * MS, 200 * MS, FAR]),  # by which the graph's clock jumps
        ),
        max_size=60,
    ),
    st.sampled_from([None, 0, 50 * MS]),
)
def test_nothing_given_out_is_stale_by_either_clock(script: list[tuple[str, int, int, int]], nearest: int | None) -> None:
    """Against what an onlooker knows, who never loses track of time."""
    spec = StreamSpec("s", max_age_ns=100 * MS, nearest_ns=nearest, wall_ns=500 * MS)
    streams = Aligner((spec,), JUMP)
    now, wall, last_tick = 100 * FAR, 0, -1
    era = 0  # grows whenever the consumer saw its clock go back
    pushed: dict[int, tuple[int, int, int]] = {}  # value -> stamp, arrival, era
    for number, (kind, passes, offset, jump) in enumerate(script):
        now, wall = now + passes * MS, wall + passes * MS
        if kind == "clock":
            now += jump
        elif kind == "push":
            pushed[number] = (now + offset * MS, wall, era)
            streams.push("s", now + offset * MS, number, wall)
        else:
            era += now < last_tick
            last_tick = now
            found = streams.at(now, wall)
            if found.complete:
                stamp, arrival, of_era = pushed[found.samples["s"].value]
                assert abs(now - stamp) <= 100 * MS
                assert nearest is not None or stamp <= now
                assert nearest is None or abs(now - stamp) <= nearest
                assert wall - arrival <= 500 * MS
                assert of_era == era
            else:
                assert found.problems[0].stream == "s"
