"""How far numbers of a few samples can be from those of all: intervals that hold the truth in 95 of 100 samplings.

Of one median and one share exact intervals exist, which hold for every distribution and any number of samples: order
statistics (Thompson 1936; David and Nagaraja, Order Statistics, 2003, section 7.1) and Clopper and Pearson 1934. The
bootstrap, which has no width where all of 4 samples are robust, serves where there are none: the difference of two
medians over the same samples (percentile method, resampling pairs; Efron and Tibshirani 1993, chapter 13). A
difference of shares over the same samples is Agresti and Min's 2005, with half a sample added to each of four cells.

The samples are taken for independent draws of the data's distribution; what attacks missed is in none of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95
RESAMPLES = 1000
LEAST = 6  # samples that an interval of a median takes: all of five lie beyond it in more than 2.5 of 100 samplings
_TAIL = (1 - LEVEL) / 2
_AT_ONCE = 1 << 22  # indices drawn at once: 32 MiB


class Interval(NamedTuple):
    """Both ends are part of it; they may be infinite."""

    low: float
    high: float

    @property
    def is_vague_distance(self) -> bool:
        """It spans more than a factor of two."""
        return self.high > 2 * self.low

    @property
    def is_vague_share(self) -> bool:
        """It spans more than half of all."""
        return self.high - self.low > 0.5


def of_share(count: int, total: int) -> Interval:
    """The interval of a share of which `count` of `total` > 0 samples are."""
    low, high = of_shares(np.array([count]), total)
    return Interval(float(low[0]), float(high[0]))


def of_shares(counts: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper ends [K] for counts [K] of `total` > 0 samples, each for itself."""
    counts = np.rint(counts)
    low = special.betaincinv(np.maximum(counts, 1), total - np.maximum(counts, 1) + 1, _TAIL)
    high = special.betaincinv(np.minimum(counts, total - 1) + 1, total - np.minimum(counts, total - 1), 1 - _TAIL)
    return np.where(counts > 0, low, 0.0), np.where(counts < total, high, 1.0)


def of_median(distances: np.ndarray) -> Interval:
    """The interval of the median of distances, >= 0 and maybe infinite; of five or fewer nothing is known."""
    if len(distances) < LEAST:
        return Interval(0.0, math.inf)
    rank = _rank(len(distances))
    ends = rank - 1, len(distances) - rank
    return Interval(*(float(np.partition(distances, ends)[end]) for end in ends))


@cache
def _rank(samples: int) -> int:
    """The largest r for which fewer than r of the samples are up to the median in at most 2.5 of 100 samplings."""
    return int(np.searchsorted(special.bdtr(np.arange(samples), samples, 0.5), _TAIL, side="right"))


def of_median_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """The interval of median(first) - median(second), distances [N] of the same N samples; of five or fewer nothing is
    known. Where both medians are infinite their difference may be anything.
    """
    if len(first) < LEAST:
        return Interval(-math.inf, math.inf)
    pairs = np.stack([first, second])
    medians = np.concatenate([np.median(pairs[:, drawn], axis=2) for drawn in resamples(len(first))], axis=1)
    with np.errstate(invalid="ignore"):
        differences = medians[0] - medians[1]
    unknown = np.isnan(differences)
    least, most = (np.sort(np.where(unknown, instead, differences)) for instead in (-math.inf, math.inf))
    end = int(_TAIL * len(differences))
    return Interval(float(least[end]), float(most[-1 - end]))


def of_share_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """The interval of mean(first) - mean(second), bool [N] of the same N samples."""
    total = len(first) + 2
    more, fewer = np.sum(first & ~second) + 0.5, np.sum(second & ~first) + 0.5
    middle = (more - fewer) / total
    half = special.ndtri(1 - _TAIL) * math.sqrt(more + fewer - (more - fewer) ** 2 / total) / total
    return Interval(float(max(middle - half, -1)), float(min(middle + half, 1)))


def resamples(samples: int) -> Iterator[np.ndarray]:
    """Indices [R, samples], drawn with replacement, of 1000 resamples in slices; always the same ones."""
    rng = np.random.default_rng(0)
    step = max(1, _AT_ONCE // samples)
    for start in range(0, RESAMPLES, step):
        yield rng.integers(samples, size=(min(step, RESAMPLES - start), samples))
