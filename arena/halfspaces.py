"""The smallest perturbation that crosses one half-space, inside the box [0, 1]: closed forms.

Minimise ||d||_p subject to slope . d >= gap and x + d in the box. A pixel can move by its room, to the side where the
box ends that lies downhill of the half-space: each norm then says which pixels move first, and sorting finds how far.
Distances are differentiable with respect to slope and gap. Leading dimensions broadcast; P is the number of pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from arena.record import Norm

_TINY = 1e-12  # instead of zero in a denominator


class Crossing(NamedTuple):
    """The shortest way into a half-space: its length, infinity where the box keeps every way out, and the way itself
    (there as far as the box allows)."""

    distance: Tensor  # [...]
    move: Tensor  # [..., P]


def cross(norm: Norm, x: Tensor, slope: Tensor, gap: Tensor) -> Crossing:
    """The smallest d with slope . d >= gap and x + d in [0, 1].

    x: pixels [..., P] in [0, 1]; slope [..., P]; gap [...] (nothing needs to move where it is not positive).
    L2: d_i = clip(t slope_i, box); Linf: d_i = clip(t sign(slope_i), box), t as small as the gap allows.
    L0 is counted in fractions of a pixel's room, the largest gains first: its ceiling counts whole pixels, exactly.
    """
    gap = gap.clamp_min(0)
    room = torch.where(slope > 0, 1 - x, x)
    steep = slope.abs().clamp_min(_TINY)
    if norm == "l0":
        gain = steep * room
        share = knapsack(torch.ones_like(gain), gain, gap)
        return Crossing(_or_infinity(share.sum(-1), gain, gap), slope.sign() * share * room)
    if norm == "linf":
        level = water_level(steep, room, gap)
        return Crossing(level, slope.sign() * torch.minimum(level[..., None], room))
    multiplier = water_level(steep.square(), room / steep, gap)
    length = torch.minimum(multiplier[..., None] * steep, room)
    distance = torch.linalg.vector_norm(length, dim=-1)
    return Crossing(torch.where(multiplier.isinf(), torch.inf, distance), slope.sign() * length)


def cross_unboxed(norm: Norm, slope: Tensor, gap: Tensor) -> Tensor:
    """The smallest ||d|| [...] with slope . d >= gap, L2 or Linf, no box: gap / ||slope||_q with 1/p + 1/q = 1."""
    if norm == "l0":
        raise ValueError("without a box one pixel crosses any half-space")
    dual = torch.linalg.vector_norm(slope, ord=2 if norm == "l2" else 1, dim=-1)
    return gap.clamp_min(0) / dual.clamp_min(_TINY)


def cross_by_flips(
    norm: Norm, x: Tensor, slope: Tensor, gap: Tensor, threshold: float, relaxed: bool = False
) -> Crossing:
    """The same for a model that sees x >= threshold alone; slope, gap and the move are those of what it sees.

    Only flips count: each costs one pixel (L0) or |x_i - threshold|. The distance is exact in L0 (its ceiling) and
    Linf; in L2, where the exact problem is a knapsack, it is the fractional lower bound (at most one flip short).
    relaxed: in Linf, count a pixel that went part of its way as flipped in part: a lower bound, without steps.
    """
    gap = gap.clamp_min(0)
    bright = x >= threshold
    side = torch.where(bright, -1.0, 1.0).to(slope.dtype)
    gain = (side * slope).clamp_min(0)
    cost = (x - threshold).abs().expand_as(gain)
    if norm != "linf":
        price = torch.ones_like(gain) if norm == "l0" else cost.square()
        share = knapsack(price, gain, gap)
        spent = _or_infinity((share * price).sum(-1), gain, gap)
        return Crossing(spent if norm == "l0" else spent.clamp_min(_TINY**2).sqrt(), side * share)
    if relaxed:
        cost = cost.clamp_min(_TINY)
        level = water_level(gain / cost, cost, gap)
        return Crossing(level, side * (level[..., None] / cost).clamp_max(1) * (gain > 0))
    ranked, order = cost.sort(dim=-1)
    level = _first(gain.gather(-1, order).cumsum(-1) >= gap[..., None], ranked)
    level = torch.where(gap > 0, level, 0.0)
    return Crossing(level, side * ((cost <= level[..., None]) & (gain > 0) & (gap > 0)[..., None]))


def water_level(rate: Tensor, limit: Tensor, gap: Tensor) -> Tensor:
    """The smallest t [...] with sum_i rate_i min(t, limit_i) >= gap [...], for rate and limit [..., P]; or infinity."""
    limit, order = limit.sort(dim=-1)
    rate = rate.gather(-1, order)
    full = (rate * limit).cumsum(-1) - rate * limit  # what the items before this one give, all at their limits
    rising = rate.flip(-1).cumsum(-1).flip(-1)  # the rate of this item and those after it
    level = (gap[..., None] - full) / rising.clamp_min(_TINY**2)  # where the gap closes if just those are full
    return _first(level <= limit, level)


def knapsack(cost: Tensor, gain: Tensor, gap: Tensor) -> Tensor:
    """The share [..., P] of each item, in [0, 1], that gains at least gap [...] at the least cost: the best items
    whole, one in part; all of them where that is not enough. cost and gain: [..., P], not negative."""
    order = (gain / cost.clamp_min(_TINY)).argsort(dim=-1, descending=True)
    ranked = gain.gather(-1, order)
    before = ranked.cumsum(-1) - ranked
    share = ((gap[..., None] - before) / ranked.clamp_min(_TINY)).clamp(0, 1)
    return torch.zeros_like(share).scatter(-1, order, share)


def _or_infinity(distance: Tensor, gain: Tensor, gap: Tensor) -> Tensor:
    return torch.where(gain.sum(-1) >= gap, distance, torch.inf)


def _first(reached: Tensor, values: Tensor) -> Tensor:
    """values [..., P] at the first True of reached [..., P]; infinity where there is none."""
    first = reached.to(torch.uint8).argmax(-1, keepdim=True)
    return torch.where(reached.any(-1), values.gather(-1, first)[..., 0], torch.inf)
