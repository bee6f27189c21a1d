"""Which of many points can explain images best that are close together, such as those of an estimated gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.kernels.reference import rough_scores

FEW = 64  # images, for which scoring every point costs less than finding out which matter
CLOSE = 2.0  # L1 distance up to which few points matter: a pixel or two


def in_reach(bank: Tensor, latents: Tensor, x: Tensor) -> Tensor | None:
    """Indices [n], ascending, of the points that can be the best of a class for an image of x [B, 784] in [0, 1].

    bank [C, P, 784]: the points `latents` [P, 8], decoded. None where it does not pay to ask.

    Moving a pixel of the image x by d changes F_c(x, z) by 2 d (x_i - G_i) + d^2. So on the way to the image x' one
    point gains on another at most 2 sum_i |d_i (G_i - G'_i)| <= 2 ||x' - x||_1: whatever is that far behind the best
    point at one of the images is behind it at all of them. The slack of rounding counts twice, at x and at x'.
    """
    if len(x) < FEW:
        return None
    radius = torch.linalg.vector_norm(x - x[0], 1, dim=1).amax()
    if radius > CLOSE:
        return None
    rough, slack = rough_scores(bank, latents, x[:1])
    near = rough <= rough.amin(2, keepdim=True) + 2 * (radius + slack[..., None])
    return near.flatten(0, 1).any(0).nonzero()[:, 0]
