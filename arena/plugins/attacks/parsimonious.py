"""A combinatorial search over the corners of the Linf ball (Moon et al. 2019), by scores alone."""

from __future__ import annotations

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

import arena
from arena.toolbox import bisect, candidates, epsilon_grid, margin, slices, smallest_epsilon

GRID = 20  # epsilons, up to 1, for the first corners
BISECTIONS = 15  # between 0 and the last epsilon, for later ones
PROGRESS = 1e-4  # of the margin, or of epsilon: a round that brings less is the last


class Parsimonious(arena.Attack):
    """Every value moves by epsilon, up or down; at first all go down. In each round every block of a channel is tried
    the other way, and as many of the best turn together as raise the margin most; where none does, blocks get smaller.

    The publication turns one block after the other inside a given ball. Here epsilon shrinks after each round to the
    smallest that fools, and the search starts again near its end.
    """

    name = "parsimonious-linf"
    norm = "linf"
    access = "score"

    class Settings(arena.Settings):
        blocks: tuple[PositiveInt, ...] = Field(
            (4, 2, 1), min_length=1, description="sides of the blocks, pixels, one after the other"
        )
        rounds: int = Field(50, gt=0, description="at most, with each size of blocks")
        flips: tuple[PositiveFloat, ...] = Field(
            (0.05, 0.3, 0.05, 0.3),
            description="shares of the values; each restarts from the best corner with so many turned at random",
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        corners = Corners(target, x, y)
        for side in s.blocks:
            corners.climb(side, s.rounds)
        for share in s.flips:
            up, epsilon = corners.up, corners.epsilon
            corners.up = up ^ (torch.rand(up.shape, generator=rng) < share).to(x.device)
            corners.climb(s.blocks[-1], s.rounds)
            corners.up = torch.where((corners.epsilon < epsilon)[:, None], corners.up, up)
        return candidates(target, x)


class Corners:
    """A corner of a ball around each image: the balls' radii epsilon [B] and which values are up, bool [B, values]."""

    def __init__(self, target: arena.Target, x: Tensor, y: Tensor) -> None:
        self.target, self.x, self.y = target, x, y
        self.image_bytes = x[0].numel() * x.element_size()
        self.up = torch.zeros_like(x.flatten(1), dtype=torch.bool)
        grid = epsilon_grid(1, GRID, x.device)
        self.epsilon = smallest_epsilon(self._fools, grid, len(x), bisections=0).clamp(max=1)

    def climb(self, side: int, rounds: int) -> None:
        """Rounds with blocks of `side` x `side` pixels, of each sample until one raises its margin no more."""
        block = blocks(self.x, side)
        index = torch.arange(len(self.x), device=self.x.device)
        for _ in range(rounds):
            index = index[self._turn(block, index)]
            if not len(index):
                break

    def _turn(self, block: Tensor, index: Tensor) -> Tensor:
        """Turn the best blocks of the samples `index` [n]; whether [n] that raised the margin, or shrank the ball if it
        fools."""
        before = self._margins(self.up[index], self.epsilon[index], index)
        gain, rises = self._gains(block, index, before)
        rank = gain.argsort(1, descending=True).argsort(1)
        numbers = 2 ** torch.arange(gain.shape[1].bit_length() + 1, device=gain.device)  # of blocks turned: to all
        turned = (rank[:, None] < numbers[:, None]) & (gain > 0)[:, None]  # [n, numbers, blocks]
        up = torch.where(turned[..., block], rises[:, None, block], self.up[index, None])
        rows = index.repeat_interleave(len(numbers))
        after = self._margins(up.flatten(0, 1), self.epsilon[rows], rows).view(len(index), -1)
        best, number = after.max(1)
        higher = best > before + PROGRESS * before.abs()
        self.up[index[higher]] = up[higher, number[higher]]
        epsilon, fools = self.epsilon[index], higher & (best > 0)
        self._shrink(index[fools])
        return torch.where(fools, self.epsilon[index] < (1 - PROGRESS) * epsilon, higher)

    def _gains(self, block: Tensor, index: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """By how much the margins, `before` [n], rise if one block goes up or down, whichever is better, and whether
        it goes up (both [n, blocks])."""
        up = self.up[index]
        changed = torch.stack([has(block, up), has(block, ~up)], 1)  # [n, 2, blocks]: whether going down, up does
        gain = torch.full(changed.shape, -torch.inf, device=before.device)
        tries = changed.nonzero()
        for part in slices(len(tries), self.image_bytes):
            sample, rising, turned = tries[part].unbind(1)
            tried = torch.where(block == turned[:, None], rising[:, None].bool(), up[sample])
            rows = index[sample]
            gain[sample, rising, turned] = self._margins(tried, self.epsilon[rows], rows) - before[sample]
        best, rises = gain.max(1)
        return best, rises.bool()

    def _shrink(self, index: Tensor) -> None:
        """The balls of the samples `index`, whose corners fool, to the smallest seen to."""
        high = torch.full_like(self.epsilon, torch.inf)
        high[index] = self.epsilon[index]
        shrunk = bisect(self._fools, torch.zeros_like(high), high, BISECTIONS)
        self.epsilon = torch.minimum(self.epsilon, shrunk)

    def _fools(self, epsilon: Tensor, index: Tensor) -> Tensor:
        return self._margins(self.up[index], epsilon, index) > 0

    def _margins(self, up: Tensor, epsilon: Tensor, index: Tensor) -> Tensor:
        """The margins [n] at corners `up` [n, values] of balls of radius epsilon [n] around the samples `index`."""
        parts = [self._at(up[p], epsilon[p], index[p]) for p in slices(len(up), self.image_bytes)]
        return torch.cat(parts)

    def _at(self, up: Tensor, epsilon: Tensor, index: Tensor) -> Tensor:
        offset = torch.where(up, epsilon[:, None], -epsilon[:, None]).view(-1, *self.x.shape[1:])
        return margin(self.target.scores((self.x[index] + offset).clamp(0, 1), index), self.y[index])


def blocks(x: Tensor, side: int) -> Tensor:
    """The number of the block, `side` pixels wide and high in one channel, that each value [values] of the images x
    [B, C, H, W] belongs to."""
    count = [-(-length // side) for length in x.shape[2:]]
    rows, columns = (torch.arange(length, device=x.device) // side for length in x.shape[2:])
    block = rows[:, None] * count[1] + columns
    channels = torch.arange(x.shape[1], device=x.device)[:, None, None]
    return (channels * count[0] * count[1] + block).flatten()


def has(block: Tensor, values: Tensor) -> Tensor:
    """Whether any of the values, bool [n, values], in each block [n, blocks] is true."""
    count = torch.zeros(len(values), int(block[-1]) + 1, device=values.device)
    return count.index_add(1, block, values.to(count.dtype)) > 0
