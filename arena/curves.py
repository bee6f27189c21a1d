"""Curves over the samples of one defense, as numbers; figures and reports draw them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy_curve(distances: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy against perturbation size (paper, Figure 2): epsilon [K] ascending from 0, accuracy [K] in [0, 1].

    distances: the minimal one of each sample, >= 0; 0 for a misclassified sample, infinity where every attack failed.
    accuracy[k] is the share of samples whose distance is > epsilon[k]. It holds up to epsilon[k + 1] (draw it with
    steps after each point), the last one for good. Both are empty without samples.
    """
    distances = np.asarray(distances, float)
    if not len(distances):
        return np.empty(0), np.empty(0)
    epsilon = np.unique(np.append(distances[np.isfinite(distances)], 0.0))
    fallen = np.searchsorted(np.sort(distances), epsilon, side="right")
    return epsilon, 1 - fallen / len(distances)
