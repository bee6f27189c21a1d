"""Curves over the samples of one defense, as numbers; figures and reports draw them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy_curve(distances: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy against perturbation size (paper, Figure 2): epsilon [K] ascending from 0, accuracy [K] in [0, 1].

    distances: the minimal one of each sample, >= 0; 0 for a misclassified sample, infinity where every attack failed,
    not a number for an unstable sample, which is never robust.
    accuracy[k] is the share of samples whose distance is > epsilon[k]. It holds up to epsilon[k + 1] (draw it with
    steps after each point), the last one for good. Both are empty without samples.
    """
    distances = np.asarray(distances, float)
    if not len(distances):
        return np.empty(0), np.empty(0)
    epsilon = np.unique(np.append(distances[np.isfinite(distances)], 0.0))
    unstable = np.isnan(distances)
    fallen = np.searchsorted(np.sort(distances[~unstable]), epsilon, side="right") + unstable.sum()
    return epsilon, 1 - fallen / len(distances)


def median_progress(progress: Sequence[Sequence[Sequence[float]]], queries: np.ndarray) -> np.ndarray:
    """The median over samples of the least distance that an attack has found after so many queries, [K] as `queries`.

    progress: for each sample [query, distance] of each closer adversarial, in order, as in `Record`; infinity before
    the first. queries: ascending [K]. Infinity everywhere without samples.
    """
    if not progress:
        return np.full(len(queries), np.inf)
    distances = np.full((len(progress), len(queries)), np.inf)
    for row, entries in zip(distances, progress, strict=True):
        if len(entries):
            when, closer = np.array(entries).T
            last = np.searchsorted(when, queries, side="right") - 1
            row[last >= 0] = closer[last[last >= 0]]
    return np.median(distances, axis=0)


def chart_width(distances: np.ndarray, epsilon: float | None) -> float:
    """Up to which distance to draw: nearly all that is finite, but 1.25 to 4 thresholds where there is one."""
    finite = distances[np.isfinite(distances)]
    widest = float(np.quantile(finite, 0.98, method="higher")) if len(finite) else 0.0
    return (widest or 1.0) if epsilon is None else float(np.clip(widest, 1.25 * epsilon, 4 * epsilon))
