"""The smallest perturbation that crosses one half-space, inside the box [0, 1]: closed forms.

Minimise ||d||_p subject to normal . d >= offset and x + d in the box. A pixel can move by its headroom, to the side
where the box ends that lies downhill of the half-space: each norm then says which pixels move first, and sorting finds
how far.
Distances are differentiable with respect to normal and offset. Leading dimensions broadcast; P is the number of pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from arena.geometry.norms import Norm

_TINY = 1e-12  # instead of zero in a denominator
_SHARPNESS = 12  # large enough to lead to the minima of the step function, small enough for float32
_HALF = 0.5  # the unit of costs whose powers are taken


class Projection(NamedTuple):
    """The shortest way into a half-space: its length, infinity where the box keeps every way out, and the way itself
    (there as far as the box allows)."""

    distance: Tensor  # [...]
    move: Tensor  # [..., P]


def project(norm: Norm, x: Tensor, normal: Tensor, offset: Tensor) -> Projection:
    """The smallest d with normal . d >= offset and x + d in [0, 1].

    x: pixels [..., P] in [0, 1]; normal [..., P]; offset [...] (nothing needs to move where it is not positive).
    L2: d_i = clip(t normal_i, box); Linf: d_i = clip(t sign(normal_i), box), t as small as the offset allows.
    L0 is counted in fractions of a pixel's headroom, the largest gains first: its ceiling counts whole pixels, exactly.
    """
    offset = offset.clamp_min(0)
    headroom = torch.where(normal > 0, 1 - x, x)
    steep = normal.abs().clamp_min(_TINY)
    if norm == "l0":
        gain = steep * headroom
        share = knapsack(torch.ones_like(gain), gain, offset)
        return Projection(_or_infinity(share.sum(-1), gain, offset), normal.sign() * share * headroom)
    if norm == "linf":
        level = water_level(steep, headroom, offset)
        return Projection(level, normal.sign() * torch.minimum(level[..., None], headroom))
    multiplier = water_level(steep.square(), headroom / steep, offset)
    length = torch.minimum(multiplier[..., None].clamp_max(1 / _TINY) * steep, headroom)
    distance = torch.linalg.vector_norm(length, dim=-1)
    return Projection(torch.where(multiplier.isinf(), torch.inf, distance), normal.sign() * length)


def project_by_flips(
    norm: Norm, x: Tensor, normal: Tensor, offset: Tensor, threshold: float, relaxed: bool = False
) -> Projection:
    """The same for a model that sees x >= threshold alone; normal, offset and the move are those of what it sees.

    Only flips count: each costs one pixel (L0) or |x_i - threshold|. The distance is exact in L0 (its ceiling) and
    Linf; in L2, where the exact problem is a knapsack, it is the fractional lower bound (at most one flip short).
    relaxed: in Linf, a pixel that may go the share s < 1 of its way counts as s^12 of a flip: a lower bound that has no
    jumps, for descents (of costs that are at least 0.005).
    """
    offset = offset.clamp_min(0)
    bright = x >= threshold
    side = torch.where(bright, -1.0, 1.0).to(normal.dtype)
    gain = (side * normal).clamp_min(0)
    cost = (x - threshold).abs().expand_as(gain)
    if norm != "linf":
        price = torch.ones_like(gain) if norm == "l0" else cost.square()
        share = knapsack(price, gain, offset)
        spent = _or_infinity((share * price).sum(-1), gain, offset)
        return Projection(spent if norm == "l0" else spent.clamp_min(_TINY**2).sqrt(), side * share)
    if relaxed:
        steep = (cost / _HALF).clamp_min(1e-2) ** _SHARPNESS
        level = water_level(gain / steep, steep, offset).clamp_min(_TINY**2)
        share = (level[..., None] / steep).clamp_max(1) * (gain > 0)
        return Projection(_HALF * level ** (1 / _SHARPNESS), side * share)
    ranked, order = cost.sort(dim=-1)
    level = _first(gain.gather(-1, order).cumsum(-1) >= offset[..., None], ranked)
    level = torch.where(offset > 0, level, 0.0)
    return Projection(level, side * ((cost <= level[..., None]) & (gain > 0) & (offset > 0)[..., None]))


def at_least(norm: Norm, x: Tensor, normal: Tensor, offset: Tensor, threshold: float | None = None) -> Tensor:
    """A lower bound [...] of the distance of `project`, or of `project_by_flips` with a threshold, without sorting.

    L2 and Linf: without the box, offset / ||normal||_q with 1/p + 1/q = 1. L0, and flips: a pixel moved in part costs
    less than its part of the cost, then the same (Cauchy-Schwarz).
    """
    offset = offset.clamp_min(0)
    if threshold is None:
        steep = normal.abs()
        reach = steep if norm != "l0" else steep * torch.where(normal > 0, 1 - x, x)
    else:
        reach = torch.where(x >= threshold, -normal, normal).clamp_min(0)
        reach = reach if norm == "l0" else reach / (x - threshold).abs().clamp_min(_TINY)
    distance = offset / torch.linalg.vector_norm(reach, ord=1 if norm == "linf" else 2, dim=-1).clamp_min(_TINY)
    return distance.square() if norm == "l0" else distance


def water_level(rate: Tensor, limit: Tensor, offset: Tensor) -> Tensor:
    """The smallest t [...] with sum_i rate_i min(t, limit_i) >= offset [...], for rate and limit [..., P], or infinity.

    The name is that of water filling.
    """
    with torch.no_grad():
        ranked, order = limit.sort(dim=-1)
        rates = rate.gather(-1, order)
        full = (rates * ranked).cumsum(-1) - rates * ranked  # what the items before this one give, all at their limits
        rising = rates.flip(-1).cumsum(-1).flip(-1)  # the rate of this item and those after it
        level = (offset[..., None] - full) / rising  # where the offset closes if just those before are full
        level = torch.where(offset > 0, _first(level <= ranked, level), 0)
        rising = torch.where(limit >= level[..., None], rate, 0).sum(-1).clamp_min(_TINY)
    # A Newton step from the solution stays there, but gives it a gradient (implicit function theorem).
    given = (rate * torch.minimum(level[..., None], limit)).sum(-1)
    return torch.where(level.isinf(), level, level + (offset - given) / rising)


def knapsack(cost: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """The share [..., P] of each item, in [0, 1], that gains at least offset [...] at the least cost: the best items
    whole, one in part; all of them where that is not enough. cost and gain: [..., P], not negative."""
    order = (gain / cost.clamp_min(_TINY)).argsort(dim=-1, descending=True)
    ranked = gain.gather(-1, order)
    before = ranked.cumsum(-1) - ranked
    share = ((offset[..., None] - before) / ranked.clamp_min(_TINY)).clamp(0, 1)
    return torch.zeros_like(share).scatter(-1, order, share)


def _or_infinity(distance: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    return torch.where(gain.sum(-1) >= offset, distance, torch.inf)


def _first(reached: Tensor, values: Tensor) -> Tensor:
    """values [..., P] at the first True of reached [..., P]; infinity where there is none."""
    first = reached.to(torch.uint8).argmax(-1, keepdim=True)
    return torch.where(reached.any(-1), values.gather(-1, first)[..., 0], torch.inf)
