"""The smallest perturbation that crosses one half-space, inside the box [0, 1]: closed forms.

Minimise ||d||_p subject to normal . d >= offset and x + d in the box. A pixel can move by its headroom, to the side
where the box ends that lies downhill of the half-space: each norm (`NormSpec.cross`, `flip`) then says which pixels
move first, and sorting finds how far.
Distances are differentiable with respect to normal and offset. Leading dimensions broadcast; P is the number of values,
those of the first of `channels` first. L0 takes a pixel with all its channels. Unknown norms raise ValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from arena.geometry.filling import TINY
from arena.geometry.norms import Norm, spec_of


class Projection(NamedTuple):
    """The shortest way into a half-space: its length, infinity where the box keeps every way out, and the way itself
    (there as far as the box allows)."""

    distance: Tensor  # [...]
    move: Tensor  # [..., P]


def project(norm: Norm, x: Tensor, normal: Tensor, offset: Tensor, channels: int = 1) -> Projection:
    """The smallest d with normal . d >= offset and x + d in [0, 1].

    x: pixels [..., P] in [0, 1]; normal [..., P]; offset [...] (nothing needs to move where it is not positive).
    L1: the steepest pixels, all their way; L2: d_i = clip(t normal_i, box); Linf: d_i = clip(t sign(normal_i), box), t
    as small as the offset allows.
    L0 is counted in fractions of a pixel's headroom, the largest gains first: its ceiling counts whole pixels, exactly.
    """
    headroom = torch.where(normal > 0, 1 - x, x)
    spec, steep = spec_of(norm), normal.abs().clamp_min(TINY)
    if spec.counts:
        gain = by_pixel(steep * headroom, channels)
        distance, share = spec.cross(gain, torch.ones_like(gain), offset.clamp_min(0))
        return Projection(distance, normal.sign() * by_value(share, channels) * headroom)
    distance, length = spec.cross(steep, headroom, offset.clamp_min(0))
    return Projection(distance, normal.sign() * length)


def project_by_flips(
    norm: Norm,
    x: Tensor,
    normal: Tensor,
    offset: Tensor,
    threshold: float,
    relaxed: bool = False,
    channels: int = 1,
) -> Projection:
    """The same for a model that sees x >= threshold alone; normal, offset and the move are those of what it sees.

    Only flips count: each costs one pixel (L0) or |x_i - threshold|. The distance is exact in L0 (its ceiling) and
    Linf; in L1 and L2, where the exact problem is a knapsack, it is the fractional lower bound, at most one flip short.
    relaxed: in Linf, a pixel that may go the share s < 1 of its way counts as s^12 of a flip: a lower bound that has no
    jumps, for descents (of costs that are at least 0.005).
    """
    side = torch.where(x >= threshold, -1.0, 1.0).to(normal.dtype)
    gain = (side * normal).clamp_min(0)
    cost = (x - threshold).abs().expand_as(gain)
    spec = spec_of(norm)
    if spec.counts and channels > 1:
        gains = by_pixel(gain, channels)
        distance, share = spec.flip(torch.ones_like(gains), gains, offset.clamp_min(0), relaxed)
        return Projection(distance, side * by_value(share, channels) * (gain > 0))
    distance, share = spec.flip(cost, gain, offset.clamp_min(0), relaxed)
    return Projection(distance, side * share)


def at_least(
    norm: Norm, x: Tensor, normal: Tensor, offset: Tensor, threshold: float | None = None, channels: int = 1
) -> Tensor:
    """A lower bound [...] of the distance of `project`, or of `project_by_flips` with a threshold, without sorting.

    L1, L2 and Linf: without the box, offset / ||normal||_q with 1/p + 1/q = 1. L0, and flips: a pixel moved in part
    costs less than its part of the cost, then the same (Cauchy-Schwarz).
    """
    spec = spec_of(norm)
    if threshold is None:
        reach = normal.abs()
        if spec.counts:
            reach = reach * torch.where(normal > 0, 1 - x, x)
    else:
        reach = torch.where(x >= threshold, -normal, normal).clamp_min(0)
        if not spec.counts:
            reach = reach / (x - threshold).abs().clamp_min(TINY)
    if spec.counts:
        reach = by_pixel(reach, channels)
    return spec.at_least(reach, offset.clamp_min(0))


def by_pixel(values: Tensor, channels: int) -> Tensor:
    """Values [..., P] summed over the channels of each pixel, [..., P / channels]."""
    return values.unflatten(-1, (channels, -1)).sum(-2)


def by_value(pixels: Tensor, channels: int) -> Tensor:
    """What holds for pixels [..., P / channels], for each of their values [..., P]."""
    return pixels.unsqueeze(-2).expand(*pixels.shape[:-1], channels, -1).flatten(-2)
