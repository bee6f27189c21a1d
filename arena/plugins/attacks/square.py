"""Square Attack (Andriushchenko et al. 2020): random search over square windows, by scores alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import across_the_box, margin, per_row, unit, walk_back

SHRINK = 0.97  # of epsilon where it fools
HALVINGS = (
    0.001,
    0.005,
    0.02,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
)  # shares of the steps after which windows have half the area
TILE = 5  # sides of the tiles that the L2 form starts from, pixels
STEPS = "windows drawn, one query each, and one more whenever epsilon shrinks"
EPSILON = "radius of the ball at first, in the attack's norm; none: 1 (Linf), 0.36 of the diagonal of the box (L2)"
SHARE = "share of the image that the first window covers (the publication's p)"


class Square(arena.Attack):
    """Redraws a window of the perturbation and keeps what raises the margin. The publication's epsilon is fixed; here
    it shrinks as soon as it fools, and the search goes on from the perturbation, scaled.
    """

    access = "score"
    span: ClassVar[float]  # the first epsilon, as a share of what spans the box

    class Settings(arena.Settings):
        steps: int = Field(5000, gt=0, description=STEPS)
        epsilon: float | None = Field(None, gt=0, description=EPSILON)
        share: float = Field(0.8, gt=0, le=1, description=SHARE)

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        epsilon = torch.full_like(x[:, 0, 0, 0], s.epsilon or self.span * across_the_box(self.norm, x))
        value = torch.full_like(epsilon, -torch.inf)
        pattern = proposed = self.first(x, rng)
        for step in range(s.steps):
            if step:
                halvings = sum(step >= share * s.steps for share in HALVINGS)
                side = max(1, round((s.share / 2**halvings * x[0, 0].numel()) ** 0.5))
                proposed = self.redrawn(pattern, side, rng)
            images = (x + per_row(epsilon, x) * proposed).clamp(0, 1)
            gap = margin(target.scores(images), y)
            better = gap > value
            value = torch.where(better, gap, value)
            pattern = torch.where(per_row(better, x), self.kept(proposed, (images - x) / per_row(epsilon, x)), pattern)
            index = (value > 0).nonzero().flatten()
            if len(index):
                epsilon[index] *= SHRINK
                images = (x + per_row(epsilon, x) * pattern).clamp(0, 1)[index]
                value[index] = margin(target.scores(images, index), y[index])
        return walk_back(target, x, y)

    @abstractmethod
    def first(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Perturbations [B, ...] of the images x to start from, in epsilons."""

    @abstractmethod
    def redrawn(self, pattern: Tensor, side: int, rng: torch.Generator) -> Tensor:
        """The perturbations [B, ...], in epsilons, each with a window of that side (cut to the image) drawn anew."""

    def kept(self, pattern: Tensor, clipped: Tensor) -> Tensor:
        """What to go on from: the pattern [B, ...] itself, or what the box left of it."""
        return pattern


class LinfSquare(Square):
    """The Linf form (Algorithm 2): every value moves by epsilon, up or down, a window's alike in each channel; vertical
    stripes at first."""

    name = "square-linf"
    norm = "linf"
    span = 1.0

    def first(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return signs(x[:, :, :1], rng).expand_as(x)

    def redrawn(self, pattern: Tensor, side: int, rng: torch.Generator) -> Tensor:
        side = min(side, *pattern.shape[-2:])
        window = placed(torch.ones(side, side, device=pattern.device), corners(pattern, side, rng), pattern)
        return torch.where(window > 0, signs(pattern[:, :, :1, :1], rng), pattern)


class L2Square(Square):
    """The L2 form (Algorithm 3): what two windows hold of the length moves into the first, bumped up and down; tiles of
    such bumps at first."""

    name = "square-l2"
    norm = "l2"
    span = 10 / 28  # 10 on images of 28 x 28 pixels

    class Settings(Square.Settings):
        share: float = Field(0.1, gt=0, le=1, description=SHARE)

    def first(self, x: Tensor, rng: torch.Generator) -> Tensor:
        rows, columns = (-(-length // TILE) for length in x.shape[-2:])
        sign = signs(x[:, :, :rows, :columns], rng).repeat_interleave(TILE, 2).repeat_interleave(TILE, 3)
        pattern = bumps(TILE).to(x.device).repeat(rows, columns) * sign
        return unit(pattern[..., : x.shape[-2], : x.shape[-1]])

    def redrawn(self, pattern: Tensor, side: int, rng: torch.Generator) -> Tensor:
        side = min(max(side, 3), *pattern.shape[-2:])
        ones, bump = torch.ones(side, side, device=pattern.device), bumps(side).to(pattern.device)
        at = corners(pattern, side, rng)
        first, second = placed(ones, at, pattern), placed(ones, corners(pattern, side, rng), pattern)
        both = torch.maximum(first, second)
        sign = signs(pattern[:, :, :1, :1], rng)
        upright = signs(pattern[:, :, :1, :1], rng) > 0
        bumped = sign * torch.where(upright, placed(bump, at, pattern), placed(bump.T, at, pattern))
        spare = 1 - (pattern * (1 - both)).flatten(1).square().sum(1)
        return pattern * (1 - both) + per_row(spare.clamp_min(0).sqrt(), pattern) * unit(bumped + unit(pattern * first))

    def kept(self, pattern: Tensor, clipped: Tensor) -> Tensor:
        return clipped


def signs(like: Tensor, rng: torch.Generator) -> Tensor:
    """-1 or 1 at random, in the shape of `like`."""
    return (torch.randint(0, 2, like.shape, generator=rng) * 2 - 1).to(like)


def corners(images: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """The rows and columns [B, 2] where windows of that side begin, at random."""
    room = [length - side + 1 for length in images.shape[-2:]]
    draw = torch.randint(0, math.lcm(*room), (len(images), 2), generator=rng)  # a multiple of both, so both are fair
    return (draw % torch.tensor(room)).to(images.device)


def placed(window: Tensor, at: Tensor, images: Tensor) -> Tensor:
    """The square `window` [side, side] at the rows and columns `at` [B, 2] of images of zeros [B, 1, height, width]."""
    side = len(window)
    row, column = (torch.arange(images.shape[k - 2], device=at.device) - at[:, k, None] for k in (0, 1))
    padded = torch.nn.functional.pad(window, (1, 1, 1, 1))
    return padded[(row + 1).clamp(0, side + 1)[:, :, None], (column + 1).clamp(0, side + 1)[:, None]][:, None]


def bumps(side: int) -> Tensor:
    """A pyramid and beside it one upside down [side, side], of length one (section 3.4: "eta")."""
    half = side // 2
    pair = torch.cat([pyramid(side, half), -pyramid(side, side - half)], 1)
    return pair / pair.norm()


def pyramid(height: int, width: int) -> Tensor:
    """Rings [height, width] that rise towards the centre by 1 / k^2, k from the outermost's down to 1."""
    middle = height // 2
    rows, columns = torch.arange(height) - middle, torch.arange(width) - width // 2
    ring = middle - torch.maximum(rows.abs()[:, None], columns.abs()[None])
    return (1 / torch.arange(middle + 1, 0, -1).square()).cumsum(0)[ring.clamp_min(0)]
