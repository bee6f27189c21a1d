"""The box [0, 1] that images lie in."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.geometry.distances import distance
from arena.geometry.norms import Norm


def across_the_box(norm: Norm, x: Tensor) -> float:
    """From black to white, the farthest that two images like x [B, ...] are apart: 1 in Linf, in L2 the diagonal."""
    white = torch.ones_like(x[:1])
    return distance(norm, white, torch.zeros_like(white)).item()


def movable(x: Tensor, direction: Tensor) -> Tensor:
    """`direction`, zero where the image x in [0, 1] is at the edge of the box that it points out of."""
    return direction.masked_fill((x + direction.sign()).clamp(0, 1) == x, 0)
