"""Gradients at images, and directions of unit length, row by row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arena.geometry.norms import Norm, spec_of
from arena.geometry.scale import length, unit
from arena.target.target import Target

__all__ = ["Loss", "scores_and_gradient", "slope", "steepest", "unit"]

Loss = Callable[[Tensor, Tensor], Tensor]  # scores [n, classes], labels [n] -> [n]


def scores_and_gradient(
    target: Target, x: Tensor, y: Tensor, loss: Loss, index: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] at the images x [n, ...] and the gradient [n, ...] of `loss` there, by one query of each."""
    x = x.detach().requires_grad_()
    scores = target.scores(x, index)
    gradient = torch.autograd.grad(loss(scores, y).sum(), x)[0]
    return scores.detach(), gradient


def steepest(norm: Norm, gradient: Tensor) -> Tensor:
    """The step [B, ...] of length one in `norm` that climbs the most along `gradient` [B, ...]; zero where that is.

    Raises ValueError for an unknown norm, and for L0.
    """
    return spec_of(norm).steepest(gradient)


def slope(norm: Norm, gradient: Tensor) -> Tensor:
    """How fast [B] the steepest step climbs along `gradient` [B, ...]: its length in the dual norm."""
    return length(gradient.flatten(1), spec_of(norm).dual)
