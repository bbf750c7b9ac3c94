from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.errors import ConfigError
from irevla_ros.core.health import Health, Level, RateLimit, RateMeter

S = 1_000_000_000
MS = 1_000_000


def test_rate_and_age_by_hand() -> None:
    meter = RateMeter()
    assert (meter.hz(0), meter.age_ns(0)) == (0.0, None)
    for i in range(11):
        meter.arrived(i * 100 * MS)
    assert meter.hz(1000 * MS) == pytest.approx(10.0)
    assert meter.hz(1150 * MS) == pytest.approx(10.0)  # the next one is not overdue yet
    assert meter.age_ns(1150 * MS) == 150 * MS
    assert meter.hz(2000 * MS) == pytest.approx(5.0)  # 10 intervals in 2 s
    assert meter.hz(10 * S) == 0.0
    assert (meter.age_ns(10 * S), meter.total) == (9 * S, 11)


def test_a_meter_is_bounded_and_forgets_what_is_older_than_its_window() -> None:
    meter = RateMeter(window_ns=S, capacity=10)
    for i in range(1000):
        meter.arrived(i * MS)
    assert meter.hz(999 * MS) == pytest.approx(1000.0)
    slow = RateMeter(window_ns=S)
    for t in (0, 2, 4):
        slow.arrived(t * S)
    assert slow.hz(4 * S) == 0.0
    with pytest.raises(ConfigError, match="a positive window and 2 or more"):
        RateMeter(0)


@given(st.integers(1, 500), st.integers(2, 200))
def test_a_steady_stream_shows_its_rate(period_ms: int, count: int) -> None:
    meter = RateMeter(window_ns=5 * S)
    for i in range(count):
        meter.arrived(i * period_ms * MS)
    assert meter.hz((count - 1) * period_ms * MS) == pytest.approx(1000 / period_ms)


def test_a_report_has_the_worst_level_and_every_value() -> None:
    health = Health()
    assert (health.report(0).level, health.report(0).message) == (Level.OK, "ok")
    camera = health.watch("camera/front", lowest_hz=9.0, stale_ns=S // 2)
    for i in range(6):
        camera.arrived(i * 200 * MS)
    health.check("disk", Level.OK, "12 GB free")
    health.counts["frames.dropped"] += 3
    health.absorb("policy", {"late": 2})
    report = health.report(S)
    assert report.level is Level.WARN
    assert report.message == "camera/front: 5.0 Hz, at least 9.0 wanted"
    assert report.values == (
        ("camera/front.hz", "5.0"), ("camera/front.age_s", "0.000"), ("disk", "OK: 12 GB free"), ("frames.dropped", "3"),
        ("policy.late", "2"),
    )  # fmt: skip
    late = health.report(2 * S)
    assert (late.level, late.message) == (Level.STALE, "camera/front: nothing for 1.0 s, limit 0.5 s")
    health.check("disk", Level.ERROR, "full")
    worst = health.report(2 * S)
    assert worst.level is Level.ERROR
    assert worst.message == "disk: full; camera/front: nothing for 1.0 s, limit 0.5 s"
    health.check("disk", Level.OK)
    assert dict(health.report(S).values)["disk"] == "OK"


def test_a_stream_that_never_came_is_stale() -> None:
    health = Health()
    health.watch("joint_states", stale_ns=S)
    report = health.report(0)
    assert (report.level, report.message) == (Level.STALE, "joint_states: nothing yet, limit 1.0 s")
    assert report.values == (("joint_states.hz", "0.0"), ("joint_states.age_s", "never"))


def test_levels_are_those_of_diagnostic_msgs() -> None:
    assert [int(level) for level in (Level.OK, Level.WARN, Level.ERROR, Level.STALE)] == [0, 1, 2, 3]


def test_once_a_second_with_the_number_of_the_suppressed() -> None:
    limit = RateLimit(S)
    assert limit.allow("a", 0) == 0
    assert [limit.allow("a", t * MS) for t in (1, 500, 999)] == [None] * 3
    assert limit.allow("b", 999 * MS) == 0
    assert limit.allow("a", 1000 * MS) == 3
    assert limit.allow("a", 2000 * MS) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 700)), max_size=60))
def test_nothing_is_lost_and_nothing_comes_too_often(script: list[tuple[str, int]]) -> None:
    limit, now = RateLimit(S), 0
    last: dict[str, int] = {}
    counted: dict[str, int] = {}
    quiet: dict[str, int] = {}
    for key, passes in script:
        now += passes * MS
        told = limit.allow(key, now)
        if told is None:
            quiet[key] = quiet.get(key, 0) + 1
        else:
            assert key not in last or now - last[key] >= S
            last[key] = now
            counted[key] = counted.get(key, 0) + told
            assert counted[key] == quiet.get(key, 0)


def test_the_keys_are_bounded() -> None:
    limit = RateLimit(S, capacity=2)
    for key in "abc":
        limit.allow(key, 0)
    assert limit.allow("a", 1) == 0  # forgotten, so told again
    assert limit.allow("c", 1) is None


def test_silence_that_is_expected_is_waiting() -> None:
    running = [False]
    health = Health()
    meter = health.watch("observations", stale_ns=S, expected=lambda: running[0])
    assert (health.report(5 * S).level, health.report(5 * S).message) == (Level.OK, "waiting for a run")
    running[0] = True
    assert health.report(5 * S).level is Level.STALE
    meter.arrived(5 * S)
    assert (health.report(5 * S).level, health.report(5 * S).message) == (Level.OK, "ok")
    running[0] = False
    health.check("disk", Level.ERROR, "full")
    assert health.report(50 * S).message == "disk: full"
