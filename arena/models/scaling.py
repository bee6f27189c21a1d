"""The scale of each class's score in Binary ABS."""

from __future__ import annotations

import torch
from torch import Tensor

GRID = torch.linspace(0.9, 1.1, 201)  # the paper's factors lie in [0.96, 1.06]


def line_search(score: Tensor, y: Tensor) -> Tensor:
    """Factors gamma [C] that minimise the errors of argmin_c gamma_c f_c (paper, section 3 and appendix A.5).

    One class after the other, until none improves; of equally good factors the nearest to 1. The first class keeps 1:
    a common factor decides nothing.

    Args:
        score: f_c of training images, [N, C].
        y: their labels, int64 [N].
    """
    scales = torch.ones(score.shape[1])
    while True:
        before = scales.clone()
        for label in range(1, len(scales)):
            rivals = scales * score
            rivals[:, label] = torch.inf
            least, rival = rivals.min(1)
            chosen = GRID[:, None] * score[:, label] < least
            correct = torch.where(chosen, y == label, y == rival).sum(1)
            best = GRID[correct == correct.max()]
            scales[label] = best[(best - 1).abs().argmin()]
        if torch.equal(scales, before):
            return scales
