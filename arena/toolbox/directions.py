"""Gradients at images, and directions of unit length, row by row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arena.geometry.distances import per_row
from arena.geometry.norms import Norm
from arena.target.target import Target

Loss = Callable[[Tensor, Tensor], Tensor]  # scores [n, classes], labels [n] -> [n]


def scores_and_gradient(
    target: Target, x: Tensor, y: Tensor, loss: Loss, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] at the images x [n, ...] and the gradient [n, ...] of `loss` there, by one query of each."""
    x = x.detach().requires_grad_()
    scores = target.scores(x, index)
    gradient = torch.autograd.grad(loss(scores, y).sum(), x)[0]
    return scores.detach(), gradient


def unit(x: Tensor, order: float = 2) -> Tensor:
    """x [B, ...] with each row scaled to length one (1: sum of magnitudes, 2: Euclidean); zeros stay zeros."""
    lengths = torch.linalg.vector_norm(x.flatten(1), order, dim=1)
    return x / per_row(lengths.clamp_min(torch.finfo(x.dtype).tiny), x)


def steepest(norm: Norm, gradient: Tensor) -> Tensor:
    """The step [B, ...] of length one in `norm` (linf or l2) that climbs the most along `gradient` [B, ...]."""
    return gradient.sign() if norm == "linf" else unit(gradient)
