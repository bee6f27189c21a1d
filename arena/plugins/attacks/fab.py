"""FAB (Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack")."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import (
    across_the_box,
    balanced,
    boundaries,
    distance,
    per_row,
    project_on_halfspace,
    runners_up,
    slope,
    times_power,
    walk_back,
)

MOST_BIAS = 0.1  # of a step towards the clean image's projection (alpha_max; these three as published)
OVERSHOOT = 1.05  # how far a step goes, in distances to the boundary (eta)
BACK = 0.9  # share of its perturbation that an adversarial keeps before the next step (beta)
TINY = 1e-12


class FAB(arena.Attack):
    """Steps onto the nearest linearised boundary inside the box, biased towards the projection of the clean image onto
    it (Algorithm 1), so that the walk stays close to the clean image; from an adversarial a part of the way back."""

    access = "gradient"
    targeted: ClassVar[bool] = False  # whether each class has a walk of its own

    class Settings(arena.Settings):
        steps: int = Field(100, gt=0, description="of each walk: two queries, and a gradient for each class considered")
        restarts: int = Field(
            1, gt=0, description="walks, the first from the clean image, others from noise half as far as the best"
        )
        candidates: int = Field(
            10, gt=1, description="classes considered: the label and the likeliest others of the clean image"
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        others = runners_up(target.scores(x), y, s.candidates - 1)
        for restart in range(s.restarts):
            for classes in others.split(1, 1) if self.targeted else [others]:
                self._walk(target, x, self._noisy(target, x, rng) if restart else x, y, classes)
        return walk_back(target, x, y)

    def _noisy(self, target: arena.Target, x: Tensor, rng: torch.Generator) -> Tensor:
        reach = target.best_distance.clamp_max(across_the_box(self.norm, x)) / 2
        noise = torch.randn(x.shape, generator=rng).to(x.device)
        size = distance(self.norm, noise, torch.zeros_like(noise))
        return (x + per_row(reach / size, x) * noise).clamp(0, 1)

    def _walk(self, target: arena.Target, x: Tensor, image: Tensor, y: Tensor, others: Tensor) -> None:
        """From `image` [B, ...], where of the classes `others` [B, k] the nearest may change at each step."""
        for _ in range(self.settings.steps):
            gap, normal = self._nearest(*boundaries(target, image, y, others))
            ahead = gap + (normal * (image - x).flatten(1)).sum(1)  # of the clean image, were the scores linear
            step, way = self._onto(image, normal, gap), self._onto(x, normal, ahead)
            length, width = (distance(self.norm, move, torch.zeros_like(x)) for move in (step, way))
            bias = (length / (length + width).clamp_min(TINY)).clamp_max(MOST_BIAS)
            image = torch.lerp(image + OVERSHOOT * step, x + OVERSHOOT * way, per_row(bias, x)).clamp(0, 1)
            wrong = target.labels(image) != y
            image = torch.where(per_row(wrong, x), torch.lerp(x, image, BACK), image)

    def _nearest(self, gaps: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
        """Gap [B] and normal [B, P] of the nearest of k boundaries, scaled so that squares of the normal are safe."""
        steep = slope(self.norm, normals.flatten(0, 1)).view_as(gaps)
        nearest = (gaps.abs() / steep).argmin(1)
        rows = torch.arange(len(gaps), device=gaps.device)
        normal, exponent = balanced(normals[rows, nearest].flatten(1))
        return times_power(gaps[rows, nearest], -exponent[:, 0]), normal

    def _onto(self, image: Tensor, normal: Tensor, gap: Tensor) -> Tensor:
        """The smallest move [B, ...] of `image` in the box onto the boundary, from either side."""
        outward = gap.sign()[:, None] * normal
        across = project_on_halfspace(self.norm, image.flatten(1), outward, gap.abs(), image.shape[1])
        return across.move.view_as(image)


class L2FAB(FAB):
    """FAB for L2."""

    name = "fab-l2"
    norm = "l2"


class LinfFAB(FAB):
    """FAB for Linf."""

    name = "fab-linf"
    norm = "linf"


class L1FAB(FAB):
    """FAB for L1."""

    name = "fab-l1"
    norm = "l1"


class TargetedL2FAB(L2FAB):
    """A walk for each class (FAB-T of AutoAttack): a gradient a step, not one a class."""

    name = "fab-t-l2"
    targeted = True


class TargetedLinfFAB(LinfFAB):
    """A walk for each class."""

    name = "fab-t-linf"
    targeted = True


class TargetedL1FAB(L1FAB):
    """A walk for each class."""

    name = "fab-t-l1"
    targeted = True
