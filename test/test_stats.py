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
    # differences 1, 0, 0, -1, 1, 1: mean 1/3, sample variance 2/3, half width 1.96 * sqrt(2/3 / 6)
    after = np.array([1, 1, 0, 0, 1, 1], bool)
    before = np.array([0, 1, 0, 1, 0, 0], bool)
    difference = paired_difference(after, before)
    assert difference.mean == pytest.approx(1 / 3)
    assert difference.low == pytest.approx(1 / 3 - 1.959964 / 3)
    assert difference.high == pytest.approx(1 / 3 + 1.959964 / 3)
    assert difference.episodes == 6


def test_pairing_removes_what_both_share() -> None:
    starts = np.random.default_rng(1).random(200) < 0.5  # half of the starts are hopeless for both
    difference = paired_difference(starts, starts)
    assert (difference.mean, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_one_pair_says_nothing() -> None:
    difference = paired_difference(np.array([True]), np.array([True]))
    assert (difference.low, difference.high) == (-1.0, 1.0)
