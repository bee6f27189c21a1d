"""Intervals hold the truth as often as they say, of few samples too, against distributions whose truth is known."""

import math
from collections.abc import Iterable

import numpy as np
import pytest

from arena.store import intervals
from arena.store.intervals import Interval

SAMPLINGS = 400
LEAST = 0.95 - 3 * math.sqrt(0.95 * 0.05 / SAMPLINGS)  # what 95 % show in all but one of 700 such counts


def covered(found: Iterable[Interval], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in found]))


@pytest.mark.parametrize("samples", [1, 4, 6, 20, 101])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_the_interval_of_a_share_covers_it(samples: int, share: float) -> None:
    counts = np.random.default_rng(samples).binomial(samples, share, SAMPLINGS)
    found = [intervals.of_share(int(count), samples) for count in counts]
    assert covered(found, share) >= LEAST
    assert all(low <= count / samples <= high for count, (low, high) in zip(counts, found, strict=True))


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson() -> None:
    # The ends solve P(X >= 2) = 2.5 % and P(X <= 2) = 2.5 % for 2 of 10 (their paper, and every table since).
    assert intervals.of_share(2, 10) == pytest.approx((0.02521, 0.55610), abs=1e-5)
    assert intervals.of_share(0, 4) == pytest.approx((0, 1 - 0.025**0.25))
    assert intervals.of_share(4, 4) == pytest.approx((0.025**0.25, 1))


@pytest.mark.parametrize("samples", [4, 6, 20, 101])
@pytest.mark.parametrize("misclassified", [0.0, 0.3])
def test_the_interval_of_a_median_covers_it(samples: int, misclassified: float) -> None:
    """Exponential distances, some of them 0, those beyond 1.5 never found: the median is finite, the mean is not."""
    rng = np.random.default_rng(samples)
    quantiles = rng.random((SAMPLINGS, samples))
    distances = -np.log(1 - np.maximum(quantiles - misclassified, 0) / (1 - misclassified))
    distances[distances > 1.5] = np.inf
    truth = -math.log(1 - (0.5 - misclassified) / (1 - misclassified))
    assert covered(map(intervals.of_median, distances), truth) >= LEAST


def test_the_interval_of_a_median_is_of_two_of_the_distances() -> None:
    assert intervals.of_median(np.arange(1.0, 6)) == (0, math.inf)  # P(all 5 beyond the median) = 1 / 32 > 2.5 %
    assert intervals.of_median(np.arange(1.0, 7)) == (1, 6)  # 1 / 64
    assert intervals.of_median(np.random.default_rng(0).permutation(20) + 1.0) == (6, 15)  # David and Nagaraja, table
    assert intervals.of_median(np.array([1.0] * 3 + [math.inf] * 7)) == (1, math.inf)
    assert intervals.of_median(np.full(10, math.inf)) == (math.inf, math.inf)


def defenses(samples: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances of two defenses, which share half of their variance: sample by sample, the first is `shift` farther."""
    rng = np.random.default_rng(samples)
    common, *own = rng.normal(size=(3, SAMPLINGS, samples))
    return np.exp(0.5 * common + 0.5 * own[0] + math.log(1 + shift)), np.exp(0.5 * common + 0.5 * own[1])


@pytest.mark.parametrize("samples", [4, 8, 20])
def test_the_interval_of_a_difference_of_medians_covers_it(samples: int) -> None:
    found = [intervals.of_median_difference(*pair) for pair in zip(*defenses(samples, 0.5), strict=True)]
    assert covered(found, 0.5) >= LEAST
    assert samples < 6 or max(high - low for low, high in found) < 6


@pytest.mark.parametrize("samples", [4, 20, 100])
def test_the_interval_of_a_difference_of_shares_covers_it(samples: int) -> None:
    """Of the second defense 60 % hold, of the first those and half of the others."""
    quantiles = np.random.default_rng(samples).random((SAMPLINGS, samples))
    found = [intervals.of_share_difference(of < 0.8, of < 0.6) for of in quantiles]
    assert covered(found, 0.2) >= LEAST
    assert all(-1 <= low < high <= 1 for low, high in found)


def test_resampling_pairs_keeps_what_the_samples_share() -> None:
    first = np.random.default_rng(0).exponential(size=50)
    low, high = intervals.of_median_difference(first + 0.25, first)
    assert (low, high) == pytest.approx((0.25, 0.25))  # resampled apart, it would be some 0.6 wide


def test_a_difference_of_infinities_may_be_anything() -> None:
    never, half = np.full(20, math.inf), np.array([1.0] * 10 + [math.inf] * 10)
    assert intervals.of_median_difference(never, never) == (-math.inf, math.inf)
    assert intervals.of_median_difference(never, np.ones(20)) == (math.inf, math.inf)
    assert intervals.of_median_difference(half, np.ones(20)) == (0, math.inf)


def test_the_same_samples_have_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(0).exponential(size=(2, 30))
    found = intervals.of_median_difference(first, second)
    monkeypatch.setattr(intervals, "_AT_ONCE", 300)  # ten resamples at once
    assert intervals.of_median_difference(first, second) == found
