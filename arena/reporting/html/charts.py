"""Accuracy against distance, as the report draws it: each curve on a fixed grid, so that a page of any store is small.

The grid divides the threshold of the norm evenly; the accuracies on it are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from arena.geometry.norms import NORMS, Norm
from arena.reporting.curves import accuracy_curve, chart_width
from arena.store.intervals import of_shares
from arena.store.schema import WITHIN

POINTS_PER_EPSILON = 60

Distances = Mapping[tuple[str, Norm], np.ndarray]  # of every sample, by defense and norm


@dataclass(frozen=True, slots=True)
class Curve:
    """One defense; the shares are of its samples whose distance, or lower bound, is larger than each point's.

    `low` and `high` are the ends of the 95 % interval of each accuracy. `bounds` is None where no bounds are stored,
    `samples` and `bounded` count the samples behind each curve.
    """

    defense: str
    samples: int
    accuracies: list[float]
    low: list[float]
    high: list[float]
    bounded: int
    bounds: list[float] | None


@dataclass(frozen=True, slots=True)
class Chart:
    """The curves of one norm over `points` distances: multiples of epsilon / 60, from 0.

    `epsilon` is the threshold of the norm, or where it has none (`threshold` is False) half of the width.
    """

    norm: Norm
    epsilon: float
    threshold: bool
    points: int
    curves: list[Curve]
    points_per_epsilon: int = POINTS_PER_EPSILON

    def x(self, distance: float) -> float:
        """Where a distance is, from 0 (left) to 1 (right)."""
        return distance / self.epsilon * POINTS_PER_EPSILON / (self.points - 1)

    def ticks(self) -> Iterator[float]:
        """Distances to label: a third of the threshold apart, or two in a wide chart."""
        spacing = POINTS_PER_EPSILON // 3 * (1 if self.points <= 2 * POINTS_PER_EPSILON else 2)
        for point in range(0, self.points, spacing):
            yield point * self.epsilon / POINTS_PER_EPSILON

    def path(self, accuracies: list[float], width: float, height: float) -> str:
        """An SVG path of steps through these accuracies; the box is width x height, accuracy 1 on top."""
        end = self.points - 1
        drops = (point for point in range(1, end) if accuracies[point] != accuracies[point - 1])
        corners = (f"H{width * p / end:.1f}V{height * (1 - accuracies[p]):.1f}" for p in (*drops, end))
        return f"M0 {height * (1 - accuracies[0]):.1f}{''.join(corners)}"

    def band(self, curve: Curve, width: float, height: float) -> str:
        """An SVG path around the intervals of a curve: along the upper ends, and back along the lower ones."""
        end = self.points - 1
        back = range(end, 0, -1)
        drops = (point for point in back if point == end or curve.low[point] != curve.low[point - 1])
        corners = (f"V{height * (1 - curve.low[p]):.1f}H{width * p / end:.1f}" for p in drops)
        return f"{self.path(curve.high, width, height)}{''.join(corners)}V{height * (1 - curve.low[0]):.1f}H0Z"


def read_charts(distances: Distances, bounds: Distances, epsilons: Mapping[Norm, float | None]) -> list[Chart]:
    """One chart for every norm that was played; `epsilons`: the threshold of each norm that has one."""
    return [
        _chart(norm, epsilons[norm], {defense: of for (defense, own), of in distances.items() if own == norm}, bounds)
        for norm in NORMS
        if any(own == norm for _, own in distances)
    ]


def _chart(norm: Norm, threshold: float | None, distances: Mapping[str, np.ndarray], bounds: Distances) -> Chart:
    width = chart_width(np.concatenate(list(distances.values())), threshold)
    epsilon = threshold or width / 2
    points = int(np.ceil(width / epsilon * POINTS_PER_EPSILON)) + 1
    grid = np.arange(points) * epsilon / POINTS_PER_EPSILON
    curves = []
    for defense in sorted(distances):
        bound = bounds.get((defense, norm), np.empty(0))
        certified = _rounded(_on_grid(bound, grid)) if len(bound) else None
        found = distances[defense]
        accuracies = _on_grid(found, grid)
        low, high = map(_rounded, of_shares(accuracies * len(found), len(found)))
        curves.append(Curve(defense, len(found), _rounded(accuracies), low, high, len(bound), certified))
    return Chart(norm, epsilon, threshold is not None, points, curves)


def _on_grid(distances: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The accuracy at each distance of the grid, read with the leaderboard's tolerance."""
    epsilon, accuracy = accuracy_curve(distances)
    return accuracy[np.searchsorted(epsilon, grid * WITHIN, side="right") - 1]


def _rounded(shares: np.ndarray) -> list[float]:
    rounded: list[float] = np.round(shares, 4).tolist()
    return rounded
