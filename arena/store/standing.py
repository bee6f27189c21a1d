"""How sure an order of defenses is: their differences on the same samples, and their places in resamples of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from arena.store import intervals, schema
from arena.store.closest import UNSTABLE, Closest
from arena.store.intervals import LEAST, Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """A defense's numbers less another's over the `samples` that both have, with their intervals (`intervals`).

    The medians leave out samples that either is unstable on; None where there are none, or both medians are infinite.
    The accuracies are None in a norm without threshold.
    """

    samples: int
    median: float | None
    median_interval: Interval | None
    accuracy: float | None
    accuracy_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The place among defenses over the `samples` that all of them have: by accuracy, then by median.

    `rank` counts from 1; `probability` is the share of resamples of the samples in which it has this place, `first`
    that in which it is the most robust. Defenses that are equal share their places evenly.
    """

    samples: int
    rank: int
    probability: float
    first: float


def difference(found: Closest, other: Closest, epsilon: float | None) -> Difference | None:
    """What `found` has more than `other`; None where no sample has both."""
    shared = np.intersect1d(found.samples, other.samples)
    if not len(shared):
        return None
    here, there = found.of(shared), other.of(shared)
    stable = (here != UNSTABLE) & (there != UNSTABLE)
    accuracy = accuracy_interval = median = median_interval = None
    if epsilon is not None:
        robust = [_robust(distances, epsilon) for distances in (here, there)]
        accuracy = float(robust[0].mean() - robust[1].mean())
        accuracy_interval = intervals.of_share_difference(*robust)
    if stable.any():
        medians = [float(np.median(distances[stable])) for distances in (here, there)]
        median = None if min(medians) == math.inf else medians[0] - medians[1]
        median_interval = intervals.of_median_difference(here[stable], there[stable])
    return Difference(len(shared), median, median_interval, accuracy, accuracy_interval)


def standings(found: Sequence[Closest], epsilon: float | None) -> list[Standing | None]:
    """The standing of each defense among those that share six samples or more, of which an interval can be told.

    Those with the fewest samples are left out until the others do: None for them, and where there is only one.
    """
    most = sorted(range(len(found)), key=lambda place: -len(found[place].samples))
    while len(most) > 1 and len(shared := reduce(np.intersect1d, [found[place].samples for place in most])) < LEAST:
        most.pop()
    placed: list[Standing | None] = [None] * len(found)
    if len(most) < 2:
        return placed
    distances = np.stack([found[place].of(shared) for place in most])
    robust = np.zeros(distances.shape, bool) if epsilon is None else _robust(distances, epsilon)
    measured = np.where(distances == UNSTABLE, 0.0, distances)  # an answer that does not hold is no robustness
    better, equal = _places(robust, measured, [np.arange(len(shared))[None]])
    ranks = better[0] + 1
    better, equal = _places(robust, measured, intervals.resamples(len(shared)))
    has_rank = np.mean(((better < ranks) & (ranks <= better + equal)) / equal, axis=0)
    first = np.mean((better == 0) / equal, axis=0)
    for place, *numbers in zip(most, ranks.tolist(), has_rank.tolist(), first.tolist(), strict=True):
        placed[place] = Standing(len(shared), *numbers)
    return placed


def _places(
    robust: np.ndarray, distances: np.ndarray, resamples: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """For each resample [R, N] how many defenses are more robust than each, and how many as robust, itself too: [R, D].

    robust, distances: [D, N].
    """
    better, equal = [], []
    for drawn in resamples:
        accuracy = robust[:, drawn].mean(axis=2).T
        median = np.median(distances[:, drawn], axis=2).T
        mine, theirs = (slice(None), slice(None), None), (slice(None), None)
        same = accuracy[mine] == accuracy[theirs]
        more = (accuracy[mine] < accuracy[theirs]) | (same & (median[mine] < median[theirs]))
        better.append(more.sum(axis=2))
        equal.append((same & (median[mine] == median[theirs])).sum(axis=2))
    return np.concatenate(better), np.concatenate(equal)


def _robust(distances: np.ndarray, epsilon: float) -> np.ndarray:
    return (distances > epsilon * schema.WITHIN) & (distances != UNSTABLE)
