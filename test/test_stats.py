from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irevla_ros.core.stats import Rate, paired_difference


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_interval(successes: int, episodes: int, low: float, high: float) -> None:
    # The published examples of Wilson's score interval, e.g. 8 of 10: (.8 + .192073 +- ...) / 1.384146.
    assert Rate(successes, episodes).interval == pytest.approx((low, high), abs=1e-4)


def test_no_episode_says_nothing() -> None:
    rate = Rate(0, 0)
    assert np.isnan(rate.mean)
    assert rate.interval == (0.0, 1.0)


def test_rate_shows_interval_and_n() -> None:
    assert str(Rate(8, 10)) == "0.80 [0.49, 0.94] n=10"


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_mean_and_stays_in_bounds(counts: tuple[int, int]) -> None:
    rate = Rate(*counts)
    low, high = rate.interval
    assert 0.0 <= low <= rate.mean + 1e-12
    assert rate.mean - 1e-12 <= high <= 1.0


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    wins = np.random.default_rng(0).binomial(60, 0.3, size=4000)
    covered = [low <= 0.3 <= high for low, high in (Rate(int(k), 60).interval for k in wins)]
    assert 0.93 < np.mean(covered) < 0.97


def test_paired_difference_by_hand() -> None:
    # 20 pairs succeed both times, 12 only after, 2 only before, 16 never. Wilson: 32/50 in [.501408, .758609],
    # 22/50 in [.311561, .576893]. phi = (20*16 - 12*2 - 25) / sqrt(32*18*22*28) = 271 / 595.66 = .454956.
    # below: sqrt(.138592^2 - 2 phi .138592 * .136893 + .136893^2) = .143834; above with .118609 and .128439: .129252
    after = np.array([1] * 32 + [0] * 18, bool)
    before = np.array([1] * 20 + [0] * 12 + [1] * 2 + [0] * 16, bool)
    difference = paired_difference(after, before)
    assert difference.mean == pytest.approx(0.2)
    assert (difference.low, difference.high) == pytest.approx((0.0562, 0.3292), abs=2e-4)
    assert difference.episodes == 50


def test_pairing_removes_what_both_share() -> None:
    starts = np.random.default_rng(1).random(200) < 0.5  # half of the starts are hopeless for both
    difference = paired_difference(starts, starts)
    assert difference.mean == 0.0
    assert 0.0 < difference.high == -difference.low < 0.02  # narrow, but 200 pairs do not prove equality


def test_one_pair_says_nothing() -> None:
    difference = paired_difference(np.array([True]), np.array([True]))
    assert difference.low < -0.75 and difference.high > 0.75
