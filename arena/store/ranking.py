"""What an attack is worth beside the others of its norm: how close to the best, what only it breaks, at what cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy import Connection, select

from arena.interface.results import Status
from arena.store import schema


def optimality(distances: np.ndarray, best: np.ndarray) -> float | None:
    """How much of what all attacks together achieve this one achieves alone, in [0, 1]; None if they achieve nothing.

    distances: of one attack, [N], infinity where it failed; best: the per-sample minimum over all attacks, [N]; both 0
    for misclassified samples. It is the local optimality of AttackBench (Cina et al., AAAI 2025, arXiv:2404.19460):

        1 - (A - A_best) / (clean accuracy * epsilon_0 - A_best)

    with A the area under a curve of accuracy against epsilon, from 0 to epsilon_0, the largest finite `best`; the
    divisor is the area between the curves of the best and of an attack that finds nothing. A sample adds
    min(distance, epsilon_0) to the area, so that this equals, over samples that are not misclassified,

        sum(epsilon_0 - min(distances, epsilon_0)) / sum(epsilon_0 - min(best, epsilon_0)).

    Where every sample that was broken has the same `best`, both sums are 0; then it is the limit for an epsilon_0 a
    little larger: the share of these samples for which the attack is as close.
    """
    attacked = best > 0
    distances, best = distances[attacked], best[attacked]
    broken = np.isfinite(best)
    if not broken.any():
        return None
    epsilon = best[broken].max()
    gained, possible = (float(np.sum(epsilon - np.minimum(of, epsilon))) for of in (distances, best))
    return gained / possible if possible else float(np.mean(distances[broken] <= epsilon))


def unique(broken: Mapping[str, np.ndarray]) -> dict[str, int]:
    """For each attack the number of samples that no other one broke; broken: the samples of each, without repeats."""
    samples, counts = np.unique(np.concatenate(list(broken.values())), return_counts=True)
    alone = samples[counts == 1]
    return {attack: int(np.isin(of_attack, alone).sum()) for attack, of_attack in broken.items()}


def median_costs(connection: Connection, matches: Sequence[int]) -> tuple[float | None, float | None]:
    """Median queries (forward and gradient) and median seconds that a sample took, over the samples attacked.

    Several matches are one attack in several settings: a sample took the sum.
    """
    result = schema.result.c
    taken: dict[int, tuple[int, float]] = {}
    query = select(result.sample, result.queries + result.gradient_queries, result.seconds).where(
        result.match_id.in_(matches), result.status.not_in([Status.ERROR, Status.MISCLASSIFIED])
    )
    for sample, queries, seconds in connection.execute(query):
        before = taken.get(sample, (0, 0.0))
        taken[sample] = before[0] + queries, before[1] + seconds
    if not taken:
        return None, None
    queries, seconds = np.median(np.array(list(taken.values())), axis=0)
    return float(queries), float(seconds)


def curve(connection: Connection, matches: Sequence[int]) -> list[tuple[int, float]]:
    """Median distance against queries: how close the attack is if it may ask so often, (queries, distance) ascending.

    Points lie at 1, 2, 5, 10, 20, ... queries, forward and gradient together, and at the most that a sample took.
    Several matches run side by side. Empty without results; unstable samples, which have no distance, are left out.
    """
    result = schema.result.c
    query = select(
        result.sample, result.distance, result.queries + result.gradient_queries, result.status, result.progress
    ).where(result.match_id.in_(matches), result.status != Status.ERROR)
    rows = connection.execute(query).all()
    unstable = {sample for sample, _, _, status, _ in rows if status == Status.UNSTABLE}
    unstable -= {sample for sample, distance, *_ in rows if distance is not None and math.isfinite(distance)}
    rows = [row for row in rows if row.distance is not None and row.sample not in unstable]
    if not rows:
        return []
    points = _points(max(queries for _, _, queries, _, _ in rows))
    reached: dict[int, np.ndarray] = {}
    for sample, distance, queries, status, progress in rows:
        # What did not survive the referee's check counts no closer than what did.
        steps = [(query, max(seen, distance)) for query, seen in json.loads(progress or "[]")]
        steps.append((0 if status == Status.MISCLASSIFIED else queries, distance))
        at, distances = zip(*steps, strict=True)
        of_row = np.array([math.inf, *distances])[np.searchsorted(at, points, side="right")]
        reached[sample] = np.minimum(of_row, reached.get(sample, math.inf))
    medians = np.median(np.array(list(reached.values())), axis=0)
    return [(point, float(median)) for point, median in zip(points, medians, strict=True)]


def _points(last: int) -> list[int]:
    powers = range(len(str(last)))
    return [point for power in powers for digit in (1, 2, 5) if (point := digit * 10**power) < last] + [last]
