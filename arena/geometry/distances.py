"""L0, L2 and Linf of a perturbation, per sample, and the projections onto their balls."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.geometry.norms import Norm


def distance(norm: Norm, x: Tensor, other: Tensor) -> Tensor:
    """Distance [B] between images x and other, each [B, ...]: L0 counts pixels, L2 and Linf are in pixel units."""
    difference = (x - other).flatten(1)
    if norm == "l0":
        return (difference != 0).sum(1).to(difference.dtype)
    if norm == "l2":
        return difference.square().sum(1).sqrt()
    return difference.abs().amax(1)


def project(norm: Norm, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
    """The images x [B, ...] moved onto the ball of `radius` [B] (L2 or Linf) around `clean`; inner points stay."""
    radius = per_row(radius, x)
    if norm == "linf":
        return clean + (x - clean).clamp(-radius, radius)
    if norm == "l2":
        length = per_row(distance("l2", x, clean), x)
        return torch.where(length > radius, clean + (x - clean) * (radius / length.clamp_min(1e-30)), x)
    raise ValueError("the L0 ball has no unique projection")


def per_row(values: Tensor, x: Tensor) -> Tensor:
    """values [B] shaped [B, 1, ...] to broadcast over the rows of x."""
    return values.view(-1, *[1] * (x.ndim - 1))
