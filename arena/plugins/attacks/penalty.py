"""Attacks that minimise distance plus c times the margin, and search for c: Carlini-Wagner and EAD."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import margin, normalized, normalized_margin, per_row, scores_and_gradient, walk_back


class CarliniWagner(arena.Attack):
    """Carlini & Wagner 2017, as foolbox plays it: Adam in the space of arctanh x, on normalized logits, for c weighs
    them against distances.

    Its early stop looks at the loss of the whole batch, so it is off. Its best image is black until it has found one
    (version 3.3.4): what it returns is not looked at, the target remembers the adversarials.
    """

    name = "carlini-wagner"
    norm = "l2"
    access = "gradient"

    class Settings(arena.Settings):
        searches: int = Field(6, gt=0, description="values of c tried: tenfold until one fools, then by bisection")
        steps: int = Field(100, gt=0, description="of Adam for each c, one query and gradient each")
        step_size: float = Field(0.1, gt=0, description="Adam's learning rate, in the space of arctanh x")
        first_c: float = Field(2.0, gt=0, description="first weight of the margin against the squared L2 distance")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        from foolbox.attacks import L2CarliniWagnerAttack

        s = self.settings
        attack = L2CarliniWagnerAttack(
            binary_search_steps=s.searches,
            steps=s.steps,
            stepsize=s.step_size,
            initial_const=s.first_c,
            abort_early=False,
        )
        attack.run(target.foolbox(normalized), x, y)
        return walk_back(target, x, y)


class EAD(arena.Attack):
    """Elastic-net attack (Chen et al. 2018), by their L1 decision rule: FISTA on the squared L2 distance and c times
    the margin of normalized logits, which sets small changes of pixels to zero (the L1 term).

    Foolbox's version asks about images outside the box; this one clips the extrapolated images too.
    """

    name = "ead"
    norm = "l1"
    access = "gradient"

    class Settings(arena.Settings):
        searches: int = Field(6, gt=0, description="values of c tried: tenfold until one fools, then by bisection")
        steps: int = Field(100, gt=0, description="of FISTA for each c, one query and gradient each")
        step_size: float = Field(
            0.05,
            gt=0,
            description="factor of the gradient in the first step; it falls with the square root of the steps left",
        )
        first_c: float = Field(1.0, gt=0, description="first weight of the margin against the squared L2 distance")
        threshold: float = Field(
            5e-2,
            ge=0,
            description="pixel changes below it are set to 0 at each step (beta; the largest published: fewest pixels)",
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        c = torch.full_like(x[:, 0, 0, 0], self.settings.first_c)
        low, high = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(self.settings.searches):
            fooled = self._descend(target, x, y, c)
            low, high = torch.where(fooled, low, c), torch.where(fooled, c, high)
            c = torch.where(high.isfinite(), (low + high) / 2, 10 * c)
        return walk_back(target, x, y)

    def _descend(self, target: arena.Target, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """Whether [B] the descent with the weights c [B] met an adversarial."""
        s = self.settings
        fooled = torch.zeros_like(y, dtype=torch.bool)
        image = ahead = x
        for step in range(s.steps):
            scores, gradient = scores_and_gradient(target, ahead, y, normalized_margin)
            gap = margin(scores, y)
            fooled |= gap > 0
            slope = 2 * (ahead - x) - per_row(c * (gap <= 0), x) * gradient
            moved = ahead - s.step_size * (1 - step / s.steps) ** 0.5 * slope
            before, image = image, x + torch.nn.functional.softshrink(moved.clamp(0, 1) - x, s.threshold)
            ahead = (image + step / (step + 3) * (image - before)).clamp(0, 1)
        return fooled
