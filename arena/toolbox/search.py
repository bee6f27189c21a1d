"""The smallest epsilon that fools, per sample: what turns an attack of a given strength into a minimal one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arena.errors import BudgetExhausted
from arena.geometry.distances import per_row
from arena.target.images import hair_beyond
from arena.target.target import Target

Attempt = Callable[[Tensor, Tensor], Tensor]  # epsilon [n], index [n] of the samples -> bool [n], whether it fooled

WALK_BACK = 10  # bisections: to a thousandth of the distance


def epsilon_grid(end: float, number: int, device: torch.device) -> Tensor:
    """Epsilons [number], evenly spaced, the last one `end`; without 0."""
    return torch.linspace(0, end, number + 1, device=device)[1:]


def smallest_epsilon(attempt: Attempt, epsilons: Tensor, samples: int, bisections: int) -> Tensor:
    """Smallest epsilon [samples] that was seen to fool, infinity where none did.

    The grid `epsilons` upward to the first success (an attack need not succeed at all larger epsilons), then
    bisection between it and the last failure. Finished samples are not attempted again; those whose budgets are spent
    end with what they have, the others go on.
    """
    low = epsilons.new_zeros(samples)
    high = torch.full_like(low, torch.inf)
    index = torch.arange(samples, device=epsilons.device)
    for epsilon in epsilons:
        try:
            success = attempt(epsilon.expand(len(index)), index)
        except BudgetExhausted:
            break
        high[index[success]] = epsilon
        index = index[~success]
        low[index] = epsilon
        if not len(index):
            break
    return bisect(attempt, low, high, bisections)


def bisect(attempt: Attempt, low: Tensor, high: Tensor, bisections: int) -> Tensor:
    """Smallest epsilon [B] seen to fool, from `low`, which fails, to `high`, which fools (infinite: not searched). Ends
    where all budgets are spent."""
    low, high = low.clone(), high.clone()
    index = high.isfinite().nonzero().flatten()
    for _ in range(bisections if len(index) else 0):
        middle = (low[index] + high[index]) / 2
        try:
            success = attempt(middle, index)
        except BudgetExhausted:
            break
        high[index] = torch.where(success, middle, high[index])
        low[index] = torch.where(success, low[index], middle)
    return high


def bisect_between(target: Target, near: Tensor, far: Tensor, y: Tensor, fooled: Tensor, bisections: int) -> Tensor:
    """Ask the target about images between `near`, which do not fool, and `far` (both [B, ...]), where those do [B].

    The nearest [B, ...] that were seen to fool; `near` itself where `far` does not."""

    def attempt(share: Tensor, index: Tensor) -> Tensor:
        images = torch.lerp(near[index], far[index], per_row(share, near))
        return target.labels(images.clamp(0, 1), index) != y[index]

    high = torch.where(fooled, 1.0, torch.inf)
    share = bisect(attempt, torch.zeros_like(high), high, bisections)
    return torch.lerp(near, far, per_row(torch.where(fooled, share, 0), near)).clamp(0, 1)


def walk_back(target: Target, x: Tensor, y: Tensor) -> Tensor:
    """Bisect between each clean image x and the closest adversarial seen for it; the candidates [B, ...] after that."""
    bisect_between(target, x, target.best, y, target.best_distance.isfinite(), WALK_BACK)
    return candidates(target, x)


def candidates(target: Target, x: Tensor) -> Tensor:
    """Images [B, ...] a hair beyond the closest adversarials seen; the clean image x where there is none.

    The referee tries them itself where rounding undoes the closest, so `return target.best` loses nothing."""
    return hair_beyond(x, target.best)
