"""Steps along the normalised gradient inside a ball of radius epsilon, the smallest epsilon searched per sample."""

from __future__ import annotations

from contextlib import suppress

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import (
    across_the_box,
    epsilon_grid,
    margin,
    per_row,
    project,
    smallest_epsilon,
    steepest,
    unit,
    walk_back,
)

STEPS = "gradient steps at each epsilon"
STEP_SIZE = "length of a step, in epsilons"
MOMENTUM = "share of the last direction kept"
MAX_EPSILON = "last epsilon of the grid, in the attack's norm; none: what spans the box, 1 (Linf) or its diagonal (L2)"
EPSILONS = "number of epsilons on the grid, evenly spaced"
BISECTIONS = "refinements between the first epsilon of the grid that fools and the one before"


class GradientDescent(arena.Attack):
    """The loop that FGM, FGSM, BIM and MIM configure. Foolbox's takes one epsilon for the whole batch."""

    access = "gradient"

    # The loss is the margin: unlike the cross entropy it does not saturate in float32 and does not depend on the scale
    # of the logits. Measured: as good on the paper's CNNs, and a quarter closer on the nearest neighbor, whose logits
    # (distances) are all alike.

    class Settings(arena.Settings):
        """A single step needs no bisections: those between the adversarial and the clean image come to the same."""

        steps: int = Field(1, gt=0, description=STEPS)
        step_size: float = Field(1.0, gt=0, description=STEP_SIZE)
        momentum: float = Field(0.0, ge=0, description=MOMENTUM)
        max_epsilon: float | None = Field(None, gt=0, description=MAX_EPSILON)
        epsilons: int = Field(1000, gt=0, description=EPSILONS)
        bisections: int = Field(0, ge=0, description=BISECTIONS)

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        clean_gradient = target.gradient(x, margin)  # the first step's at every epsilon
        grid = epsilon_grid(s.max_epsilon or across_the_box(self.norm, x), s.epsilons, x.device)

        def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
            return self._descend(target, x[index], y[index], clean_gradient[index], epsilon, index)

        smallest_epsilon(attempt, grid, len(x), s.bisections)
        return walk_back(target, x, y)

    def _descend(
        self, target: arena.Target, clean: Tensor, y: Tensor, gradient: Tensor, epsilon: Tensor, index: Tensor
    ) -> Tensor:
        """Whether [n] the walk from `clean` [n, ...] within `epsilon` [n] met an adversarial; there it ends."""
        fooled = torch.zeros_like(index, dtype=torch.bool)
        rows = gradient.flatten(1).any(1).nonzero().flatten()  # a flat start leads nowhere
        x, direction = clean[rows], torch.zeros_like(clean[rows])
        with suppress(arena.BudgetExhausted):  # of the rows that are left
            for step in range(self.settings.steps if len(rows) else 0):
                gradient = gradient[rows] if step == 0 else target.gradient(x, margin, index[rows])
                direction = self.settings.momentum * direction + unit(gradient, order=1)
                length = per_row(self.settings.step_size * epsilon[rows], x)
                x = x + length * steepest(self.norm, direction)
                x = project(self.norm, x, clean[rows], epsilon[rows]).clamp(0, 1)
                wrong = target.labels(x, index[rows]) != y[rows]
                fooled[rows[wrong]] = True
                rows, x, direction = rows[~wrong], x[~wrong], direction[~wrong]
                if not len(rows):
                    break
        return fooled


class FGM(GradientDescent):
    """Fast Gradient Method, the L2 form of FGSM: one step, a fine line search."""

    name = "fgm"
    norm = "l2"


class FGSM(GradientDescent):
    """Fast Gradient Sign Method (Goodfellow et al. 2015): one step, a fine line search."""

    name = "fgsm"
    norm = "linf"


class Iterative(GradientDescent):
    """Basic Iterative Method (Kurakin et al. 2017): short steps, a coarse grid. Epsilon and step size are searched
    together, at a constant ratio, as Foolbox 1.3 did for the paper (at a ratio of 1/6, by bisection alone)."""

    class Settings(GradientDescent.Settings):
        steps: int = Field(10, gt=0, description=STEPS)
        step_size: float = Field(0.2, gt=0, description=STEP_SIZE)
        epsilons: int = Field(10, gt=0, description=EPSILONS)
        bisections: int = Field(10, ge=0, description=BISECTIONS)


class BIM(Iterative):
    """Basic Iterative Method in its original norm."""

    name = "bim-linf"
    norm = "linf"


class L2BIM(Iterative):
    """Basic Iterative Method, L2 form."""

    name = "bim-l2"
    norm = "l2"

    class Settings(Iterative.Settings):
        epsilons: int = Field(28, gt=0, description=EPSILONS)


class MIM(BIM):
    """Momentum Iterative Method (Dong et al. 2018), which adds up gradients of unit L1 norm; foolbox's adds signs."""

    name = "mim"

    class Settings(BIM.Settings):
        momentum: float = Field(1.0, ge=0, description=MOMENTUM)
