"""Lengths of vectors of any magnitude: squares of float32 underflow below 1e-19 and overflow above 1e19."""

from __future__ import annotations

import torch
from torch import Tensor

SAFE = 1e15  # lengths from its reciprocal to it need no care: squares that underflow are lost in rounding anyway


def extremes(x: Tensor) -> tuple[float, float]:
    """The least and the largest value of x, which has some; both NaN if one is."""
    low, high = torch.stack(x.detach().aminmax()).tolist()  # one wait for the device
    return low, high


def balanced(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [..., P] with each vector divided by a power of two [..., 1], so that its largest magnitude is in [0.5, 1),
    and that power's exponent, int32. Division by a power of two is exact; zeros stay zeros."""
    exponent = x.abs().amax(-1, keepdim=True).frexp().exponent
    return times_power(x, -exponent), exponent


def times_power(x: Tensor, exponent: Tensor) -> Tensor:
    """x times two to the power of `exponent` (integers that broadcast), in two steps: one factor might overflow."""
    half = exponent // 2
    return x.ldexp(half).ldexp(exponent - half)


def length(x: Tensor, order: float) -> Tensor:
    """The norm [...] of each vector of x [..., P]."""
    plain = torch.linalg.vector_norm(x, order, dim=-1)
    if _safe(plain):
        return plain
    small, exponent = balanced(x)
    return times_power(torch.linalg.vector_norm(small, order, dim=-1), exponent[..., 0])


def unit(x: Tensor, order: float = 2) -> Tensor:
    """x [B, ...] with each row scaled to length one (1: sum of magnitudes, 2: Euclidean); zeros stay zeros."""
    rows = x.flatten(1)
    lengths = torch.linalg.vector_norm(rows, order, dim=1, keepdim=True)
    if _safe(lengths):
        return (rows / lengths).view_as(x)
    rows, _ = balanced(rows)
    lengths = torch.linalg.vector_norm(rows, order, dim=1, keepdim=True)
    return (rows / lengths.clamp_min(torch.finfo(x.dtype).tiny)).view_as(x)


def _safe(lengths: Tensor) -> bool:
    """Whether all of these are as good as those of balanced vectors."""
    if not lengths.numel():
        return True
    low, high = extremes(lengths)
    return low >= 1 / SAFE and high <= SAFE
