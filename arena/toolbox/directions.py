"""Gradients at images, and directions of unit length, row by row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arena.geometry.norms import Norm, spec_of
from arena.geometry.scale import length, unit
from arena.target.target import Target

__all__ = ["Loss", "boundaries", "runners_up", "scores_and_gradient", "slope", "steepest", "unit"]

Loss = Callable[[Tensor, Tensor], Tensor]  # scores [n, classes], labels [n] -> [n]


def scores_and_gradient(
    target: Target, x: Tensor, y: Tensor, loss: Loss, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] at the images x [n, ...] and the gradient [n, ...] of `loss` there, by one query of each."""
    x = x.detach().requires_grad_()
    scores = target.scores(x, index)
    gradient = torch.autograd.grad(loss(scores, y).sum(), x)[0]
    return scores.detach(), gradient


def runners_up(scores: Tensor, y: Tensor, number: int) -> Tensor:
    """The `number` highest classes other than the label, the highest first, int64 [n, number], or all where there are
    fewer; for logits [n, classes] and labels y, int64 [n]."""
    ranked = scores.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    return ranked[:, : min(number, scores.shape[1] - 1)]


def boundaries(
    target: Target, x: Tensor, y: Tensor, others: Tensor, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The linearised boundaries between the labels y [n] and the classes `others` [n, k] at the images x [n, ...]: by
    how much the label is ahead [n, k], and its gradients downhill [n, k, ...]. One query and k of gradients."""
    x = x.detach().requires_grad_()
    scores = target.scores(x, index)
    gaps = scores.gather(1, y[:, None]) - scores.gather(1, others)
    normals = [torch.autograd.grad(-gap.sum(), x, retain_graph=True)[0] for gap in gaps.unbind(1)]
    return gaps.detach(), torch.stack(normals, 1)


def steepest(norm: Norm, gradient: Tensor) -> Tensor:
    """The step [B, ...] of length one in `norm` that climbs the most along `gradient` [B, ...]; zero where that is.

    Raises ValueError for an unknown norm, and for L0.
    """
    return spec_of(norm).steepest(gradient)


def slope(norm: Norm, gradient: Tensor) -> Tensor:
    """How fast [B] the steepest step climbs along `gradient` [B, ...]: its length in the dual norm."""
    return length(gradient.flatten(1), spec_of(norm).dual)
