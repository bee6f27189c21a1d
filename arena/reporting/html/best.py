"""What a report needs of every sample before it can draw: the least distances and the lower bounds."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, select

from arena.geometry.norms import Norm
from arena.interface.results import Status
from arena.reporting.html.charts import Distances
from arena.store.bounds import LowerBounds
from arena.store.views import best_result


@dataclass(frozen=True, slots=True)
class Best:
    """`distances`: of each sample by defense and norm, as `accuracy_curve` takes them.

    `closest`: match and sample of the closest adversarial of each sample, for every defense and norm.
    `winners`: for how many samples each attack found it, by defense and norm.
    """

    distances: Distances
    closest: set[tuple[int, int]]
    winners: dict[tuple[str, Norm], Counter[str]]
    samples: list[int]


def read_best(connection: Connection) -> Best:
    """The least distance of every sample over all attacks of a norm."""
    distances: dict[tuple[str, Norm], list[float]] = defaultdict(list)
    winners: dict[tuple[str, Norm], Counter[str]] = defaultdict(Counter)
    closest, samples = set(), set()
    for row in connection.execute(select(best_result)):
        distances[row.defense, row.norm].append(math.nan if row.distance is None else row.distance)
        closest.add((row.match_id, row.sample))
        samples.add(row.sample)
        if row.status == Status.FOUND:
            winners[row.defense, row.norm][row.attack] += 1
    arrays = {key: np.asarray(values) for key, values in distances.items()}
    return Best(arrays, closest, winners, sorted(samples))


def bound_values(bounds: LowerBounds) -> Distances:
    return {key: np.array([bound.value for bound in of.values()]) for key, of in bounds.items()}
