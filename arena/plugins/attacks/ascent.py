"""The walks of APGD: how steps find their own size, and in L1 how many pixels they move."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from arena.toolbox import Norm, per_row, project_in_box, steepest, unit

CLIMBS = 0.75  # the share of steps that must climb, or the next ones are half as long (its rho)
FIRST_SHARE = 0.2  # of the pixels, that the first steps in L1 move (these four as in the authors' code)
SPARSER = 0.95  # support of the best image, relative to the last checkpoint's, that counts as sparser
SHRINKAGE = 1.5  # factor by which steps get shorter, and by which they move fewer pixels than are perturbed
MOST_SHRINKAGE = 10.0


@dataclass
class Point:
    """Where n walks are: images [n, ...], and the gradient [n, ...] and value [n] of the loss there."""

    image: Tensor
    gradient: Tensor
    value: Tensor

    def __getitem__(self, rows: Tensor) -> Point:
        return Point(self.image[rows], self.gradient[rows], self.value[rows])

    def where(self, condition: Tensor, other: Point) -> Point:
        """These where the condition [n] holds, those of `other` elsewhere."""
        rows = per_row(condition, self.image)
        return Point(
            torch.where(rows, self.image, other.image),
            torch.where(rows, self.gradient, other.gradient),
            torch.where(condition, self.value, other.value),
        )


@dataclass
class Ascent:
    """The walks of n samples in L2 or Linf (Croce & Hein 2020, Algorithm 1); each field but the norm has n rows."""

    norm: Norm
    clean: Tensor
    epsilon: Tensor
    length: Tensor  # of the next step
    at: Point
    best: Point
    before: Tensor  # the image before the last step
    checked: Tensor  # the best value at the last checkpoint
    halved: Tensor  # whether the steps were halved there
    climbs: Tensor  # steps since then that climbed

    @classmethod
    def from_noise(cls, norm: Norm, clean: Tensor, epsilon: Tensor, rng: torch.Generator) -> Ascent:
        """About to take steps of two epsilons [n] from noise at the edge of the ball around `clean` [n, ...]."""
        noise = steepest(norm, torch.randn(clean.shape, generator=rng).to(clean.device))
        return cls.start(norm, clean, epsilon, 2 * epsilon, (clean + per_row(epsilon, clean) * noise).clamp(0, 1))

    @classmethod
    def start(cls, norm: Norm, clean: Tensor, epsilon: Tensor, length: Tensor, image: Tensor, **more: Tensor) -> Ascent:
        """At `image` [n, ...], of which nothing is known; `more`: fields of a subclass."""
        lowest, never = torch.full_like(epsilon, -torch.inf), torch.zeros_like(epsilon, dtype=torch.bool)
        point = Point(image, torch.zeros_like(image), lowest)
        return cls(norm, clean, epsilon, length, point, point, image, lowest, never, 0 * epsilon, **more)

    @staticmethod
    def checkpoints(steps: int) -> set[int]:
        """The steps at which the step size may change: ever more often (section 3.1)."""
        ends, share, period = set(), 0.22, 0.22
        while share <= 1:
            ends.add(math.ceil(share * steps))
            period = max(period - 0.03, 0.06)
            share += period
        return ends

    def __getitem__(self, rows: Tensor) -> Self:
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "norm"})

    def note(self, value: Tensor, gradient: Tensor) -> None:
        """Take in what the loss is at the images, and its gradient."""
        self.climbs = self.climbs + (value > self.at.value)
        self.at = Point(self.at.image, gradient, value)
        self.best = self.at.where(value > self.best.value, self.best)

    def adapt(self, steps: int) -> None:
        """At a checkpoint, so many steps after the last: halve the steps of walks that stalled, back at their best."""
        stalled = (self.climbs < CLIMBS * steps) | (~self.halved & (self.best.value <= self.checked))
        self.length = torch.where(stalled, self.length / 2, self.length)
        self.at = self.best.where(stalled, self.at)
        self.halved, self.checked, self.climbs = stalled, self.best.value, torch.zeros_like(self.climbs)

    def move(self, momentum: float) -> None:
        """A step along the gradient, inside ball and box, and `momentum` of the last one."""
        image = self.at.image
        ahead = self._inside(image + per_row(self.length, image) * steepest(self.norm, self.at.gradient))
        moved = torch.lerp(ahead, image, momentum) + momentum * (image - self.before)
        self.before, self.at = image, replace(self.at, image=self._inside(moved))

    def _inside(self, image: Tensor) -> Tensor:
        return project_in_box(self.norm, image, self.clean, self.epsilon)


@dataclass
class L1Ascent(Ascent):
    """The walks in L1 (Croce & Hein 2021, Algorithm 1): each step moves the pixels of the steepest slopes alone, two
    thirds as many as the best image perturbs, onto the intersection of ball and box, and has no momentum."""

    share: Tensor  # of all pixels, that the next step moves
    support: Tensor  # pixels perturbed in the best image at the last checkpoint

    @classmethod
    def from_noise(cls, norm: Norm, clean: Tensor, epsilon: Tensor, rng: torch.Generator) -> Ascent:
        """From noise projected onto ball and box, by steps of one epsilon."""
        noise = torch.randn(clean.shape, generator=rng).to(clean.device)
        share, pixels = torch.full_like(epsilon, FIRST_SHARE), torch.full_like(epsilon, clean[0].numel())
        image = project_in_box(norm, clean + noise, clean, epsilon)
        return cls.start(norm, clean, epsilon, epsilon, image, share=share, support=pixels)

    @staticmethod
    def checkpoints(steps: int) -> set[int]:
        """Every 25th part of them."""
        period = max(int(0.04 * steps), 1)
        return set(range(period, steps, period))

    def adapt(self, steps: int) -> None:
        """Where the best image has become sparser, whole steps again, from there; elsewhere shorter ones."""
        support = (self.best.image != self.clean).flatten(1).sum(1).to(self.clean.dtype)
        sparser = support < SPARSER * self.support
        shorter = torch.maximum(self.length / SHRINKAGE, self.epsilon / MOST_SHRINKAGE)
        self.length = torch.where(sparser, self.epsilon, shorter)
        self.at = self.best.where(sparser, self.at)
        self.share, self.support = support / self.clean[0].numel() / SHRINKAGE, support

    def move(self, momentum: float) -> None:
        slopes = self.at.gradient.flatten(1)
        count = (self.share * slopes.shape[1]).long().clamp_min(1)
        least = slopes.abs().sort(1, descending=True).values.gather(1, count[:, None] - 1)
        signs = torch.where(slopes.abs() >= least, slopes.sign(), 0)
        step = (self.length[:, None] * unit(signs, order=1)).view_as(self.clean)
        self.before, self.at = self.at.image, replace(self.at, image=self._inside(self.at.image + step))
