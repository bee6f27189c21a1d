"""Gradient steps inside a ball that adapts to the boundary: DDN (Rony et al. 2019), FMN (Pintor et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import (
    Loss,
    distance,
    log_odds,
    margin,
    movable,
    normalized_margin,
    per_row,
    project_in_box,
    reset_best,
    scores_and_gradient,
    slope,
    unit,
    walk_back,
)

Boundary = Callable[[], Tensor]  # the distances [B] at which the linearised margins vanish; only asked where needed

LAST_STEP = 0.01  # of the first; the steps shrink by a cosine
LAST_GAMMA = 0.001
STEP_SIZE = "L2 length of the first step (alpha); they shrink to a hundredth by a cosine"


class MinimumNorm(arena.Attack):
    """Fast Minimum-Norm attack (Algorithm 1 of the publication): after each step the ball shrinks where the image is
    adversarial and grows where it is not. Foolbox 3.3.4 never projects onto the L2 ball and keeps a pixel too many in
    the L0 ball.

    Half of the steps follow the margin, which chases the likeliest other class of the clean image and may be led past
    a nearer one; half the cross entropy, which follows all classes at once.
    """

    access = "gradient"
    first_epsilon: ClassVar[float] = math.inf  # the radius before the first step

    class Settings(arena.Settings):
        steps: int = Field(200, gt=0, description="of both descents together, one query and gradient each")
        step_size: float = Field(1.0, gt=0, description=STEP_SIZE)
        gamma: float = Field(
            0.05,
            gt=0,
            lt=1,
            description="share by which the ball shrinks or grows: FMN's at first, DDN's throughout; 0.05 as published",
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        half = self.settings.steps // 2
        image, epsilon = x, torch.full_like(x[:, 0, 0, 0], self.first_epsilon)
        image, epsilon = self._descend(target, x, y, image, epsilon, normalized_margin, self.settings.steps - half)
        best = target.best_distance  # where there is none, the second descent goes on from the first
        image = torch.where(per_row(best.isfinite(), x), x, image)
        epsilon = torch.where(best.isfinite(), best.clamp_min(self.first_epsilon), epsilon)
        self._descend(target, x, y, image, epsilon, log_odds, half)
        return self.finish(target, x, y, rng)

    def _descend(
        self, target: arena.Target, x: Tensor, y: Tensor, image: Tensor, epsilon: Tensor, loss: Loss, steps: int
    ) -> tuple[Tensor, Tensor]:
        """The images and radii [B] after steps along the gradient of `loss`; in these and in slopes counts only what
        the box would not stop."""
        s = self.settings
        for step in range(steps):
            left = (1 + math.cos(math.pi * step / steps)) / 2
            scores, gradient = scores_and_gradient(target, image, y, loss)
            gradient, fooled = movable(image, gradient), margin(scores, y) > 0
            gamma = LAST_GAMMA + (s.gamma - LAST_GAMMA) * left
            boundary = partial(self._boundary, image, x, y, scores, gradient)
            epsilon = self.resize(epsilon, gamma, fooled, boundary, target, x)
            image = image + s.step_size * (LAST_STEP + (1 - LAST_STEP) * left) * unit(gradient)
            image = self.inside(image, x, epsilon).clamp(0, 1)
        return image, epsilon

    def _boundary(self, image: Tensor, x: Tensor, y: Tensor, scores: Tensor, gradient: Tensor) -> Tensor:
        """The distances [B] from x at which the linearised margins vanish along the gradients [B, ...] at `image`."""
        steep = slope(self.norm, gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
        return distance(self.norm, image, x) + normalized_margin(scores, y).abs() / steep

    def resize(
        self, epsilon: Tensor, gamma: float, fooled: Tensor, boundary: Boundary, target: arena.Target, x: Tensor
    ) -> Tensor:
        """The next radius [B]; fooled: whether the last image did.

        Before the first adversarial is found, the radius is where the linearised margin vanishes, and a little more:
        else the image approaches the boundary from within. Measured: without it, 33 of 40 L2 attacks fail."""
        best = target.best_distance
        found = best.isfinite()
        reach = epsilon if bool(found.all()) else torch.where(found, epsilon, boundary())
        return torch.where(fooled, torch.minimum(epsilon * (1 - gamma), best), reach * (1 + gamma))

    def inside(self, image: Tensor, x: Tensor, epsilon: Tensor) -> Tensor:
        """The images [B, ...] moved into the ball of radius epsilon [B] around x.

        In L1 onto what of it is in the box: what clipping takes from a pixel must be left to the others."""
        return project_in_box(self.norm, image, x, epsilon)

    def finish(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        return walk_back(target, x, y)


class L2FMN(MinimumNorm):
    """FMN for L2."""

    name = "fmn-l2"
    norm = "l2"


class L1FMN(MinimumNorm):
    """FMN for L1."""

    name = "fmn-l1"
    norm = "l1"


class LinfFMN(MinimumNorm):
    """FMN for Linf."""

    name = "fmn-linf"
    norm = "linf"

    class Settings(MinimumNorm.Settings):
        """A step of L2 length one moves the pixels of an image of 28 x 28 by a thirtieth each: Linf takes more."""

        step_size: float = Field(30.0, gt=0, description=STEP_SIZE)


class L0FMN(MinimumNorm):
    """FMN for L0; beyond the publication, what it finds is reset pixel by pixel as long as it stays adversarial."""

    name = "fmn-l0"
    norm = "l0"
    first_epsilon = 1.0

    def resize(
        self, epsilon: Tensor, gamma: float, fooled: Tensor, boundary: Boundary, target: arena.Target, x: Tensor
    ) -> Tensor:
        """A whole number of pixels, and by one at least."""
        fewer = torch.minimum(torch.minimum(epsilon - 1, (epsilon * (1 - gamma)).floor()), target.best_distance)
        more = torch.maximum(epsilon + 1, (epsilon * (1 + gamma)).floor())
        return torch.where(fooled, fewer, more).clamp(1, x[0, 0].numel())

    def inside(self, image: Tensor, x: Tensor, epsilon: Tensor) -> Tensor:
        return x + largest(image - x, epsilon)

    def finish(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        return reset_best(target, x, y, self.norm, rng)


class DDN(MinimumNorm):
    """Decoupled Direction and Norm: the image stays on the sphere, whose radius changes by the same share throughout.

    The publication descends the cross entropy, as foolbox does, whose images turn to NaN where its gradient vanishes.
    """

    name = "ddn"
    norm = "l2"
    first_epsilon = 1.0

    def resize(
        self, epsilon: Tensor, gamma: float, fooled: Tensor, boundary: Boundary, target: arena.Target, x: Tensor
    ) -> Tensor:
        return epsilon * torch.where(fooled, 1 - self.settings.gamma, 1 + self.settings.gamma)

    def inside(self, image: Tensor, x: Tensor, epsilon: Tensor) -> Tensor:
        return x + per_row(epsilon, x) * unit(image - x)


def largest(x: Tensor, count: Tensor) -> Tensor:
    """x [B, C, H, W] with all but its `count` [B] largest pixels set to zero; the largest channel of each counts."""
    size = x.abs().amax(1, keepdim=True)
    rank = size.flatten(1).argsort(1, descending=True).argsort(1)
    return x * (rank < count[:, None]).view_as(size)
