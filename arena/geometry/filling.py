"""How much of which items reaches a total at the least cost, by sorting: the solvers behind the closed forms."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12  # instead of zero in a denominator


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
        level = torch.where(offset > 0, first(level <= ranked, level), 0)
        rising = torch.where(limit >= level[..., None], rate, 0).sum(-1).clamp_min(TINY)
    # A Newton step from the solution stays there, but gives it a gradient (implicit function theorem).
    given = (rate * torch.minimum(level[..., None], limit)).sum(-1)
    return torch.where(level.isinf(), level, level + (offset - given) / rising)


def knapsack(cost: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """The share [..., P] of each item, in [0, 1], that gains at least offset [...] at the least cost: the best items
    whole, one in part; all of them where that is not enough. cost and gain: [..., P], not negative."""
    order = (gain / cost.clamp_min(TINY)).argsort(dim=-1, descending=True)
    ranked = gain.gather(-1, order)
    before = ranked.cumsum(-1) - ranked
    share = ((offset[..., None] - before) / ranked.clamp_min(TINY)).clamp(0, 1)
    return torch.zeros_like(share).scatter(-1, order, share)


def first(reached: Tensor, values: Tensor) -> Tensor:
    """values [..., P] at the first True of reached [..., P]; infinity where there is none."""
    first = reached.to(torch.uint8).argmax(-1, keepdim=True)
    return torch.where(reached.any(-1), values.gather(-1, first)[..., 0], torch.inf)
