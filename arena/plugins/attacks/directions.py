"""Directions of unit length, row by row."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.distances import per_row
from arena.record import Norm


def unit(x: Tensor, order: float = 2) -> Tensor:
    """x [B, ...] with each row scaled to length one (1: sum of magnitudes, 2: Euclidean); zeros stay zeros."""
    lengths = torch.linalg.vector_norm(x.flatten(1), order, dim=1)
    return x / per_row(lengths.clamp_min(torch.finfo(x.dtype).tiny), x)


def steepest(norm: Norm, gradient: Tensor) -> Tensor:
    """The step [B, ...] of length one in `norm` (linf or l2) that climbs the most along `gradient` [B, ...]."""
    return gradient.sign() if norm == "linf" else unit(gradient)
