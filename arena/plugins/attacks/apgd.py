"""APGD (Croce & Hein 2020): projected gradient steps that find their own size, the smallest epsilon searched."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.plugins.attacks.ascent import Ascent, L1Ascent
from arena.toolbox import cross_entropy, dlr, epsilon_grid, scores_and_gradient, smallest_epsilon, walk_back

MOMENTUM = 0.25  # share of the last step kept (1 - alpha of the publication)


class APGD(arena.Attack):
    """Auto-PGD (Algorithm 1), from noise in the ball; done with an epsilon where it fools."""

    access = "gradient"
    ascent: ClassVar[type[Ascent]] = Ascent
    loss: Callable[[Tensor, Tensor], Tensor]

    class Settings(arena.Settings):
        steps: int = Field(
            50, gt=0, description="at each epsilon, one query and gradient each (the publication takes 100)"
        )
        restarts: int = Field(1, gt=0, description="from new noise, of the samples that were not fooled")
        max_epsilon: float = Field(1.0, gt=0, description="last epsilon of the grid, in Linf")
        epsilons: int = Field(10, gt=0, description="number of epsilons on the grid, evenly spaced")
        bisections: int = Field(
            8, ge=0, description="refinements between the first epsilon of the grid that fools and the one before"
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        grid = epsilon_grid(s.max_epsilon, s.epsilons, x.device)

        def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
            fooled = torch.zeros_like(index, dtype=torch.bool)
            for _ in range(s.restarts):
                rows = (~fooled).nonzero().flatten()
                if not len(rows):
                    break
                radius, clean = epsilon[rows], x[index[rows]]
                ascent = self.ascent.from_noise(self.norm, clean, radius, rng)
                fooled[rows] = self._climb(target, ascent, y[index[rows]], index[rows])
            return fooled

        smallest_epsilon(attempt, grid, len(x), s.bisections)
        return walk_back(target, x, y)

    def _climb(self, target: arena.Target, ascent: Ascent, y: Tensor, index: Tensor) -> Tensor:
        """Whether [n] the ascent met an adversarial; there it ends."""
        fooled = torch.zeros_like(index, dtype=torch.bool)
        rows, last = torch.arange(len(index), device=index.device), 0
        ends = ascent.checkpoints(self.settings.steps)
        for step in range(self.settings.steps):
            scores, gradient = scores_and_gradient(target, ascent.at.image, y[rows], self.loss, index[rows])
            wrong = scores.argmax(1) != y[rows]
            fooled[rows[wrong]] = True
            rows, ascent = rows[~wrong], ascent[~wrong]
            if not len(rows):
                break
            ascent.note(self.loss(scores[~wrong], y[rows]), gradient[~wrong])
            if step in ends:
                ascent.adapt(step - last)
                last = step
            ascent.move(MOMENTUM if step else 0)
        return fooled


class LinfCrossEntropyAPGD(APGD):
    """Climbs the cross entropy of normalized logits: that of the logits themselves, as published, depends on their
    scale and has no gradient where their softmax is exactly 0 or 1."""

    name = "apgd-ce-linf"
    norm = "linf"
    loss = staticmethod(cross_entropy)


class LinfDLRAPGD(APGD):
    """Climbs the difference of logits ratio."""

    name = "apgd-dlr-linf"
    norm = "linf"
    loss = staticmethod(dlr)


class L2APGD(APGD):
    """The L2 form."""

    norm = "l2"

    class Settings(APGD.Settings):
        max_epsilon: float = Field(10.0, gt=0, description="last epsilon of the grid, in L2")


class L2CrossEntropyAPGD(L2APGD):
    """Climbs the cross entropy."""

    name = "apgd-ce-l2"
    loss = staticmethod(cross_entropy)


class L2DLRAPGD(L2APGD):
    """Climbs the difference of logits ratio."""

    name = "apgd-dlr-l2"
    loss = staticmethod(dlr)


class L1APGD(APGD):
    """The L1 form (Croce & Hein 2021, "Mind the box"): sparse steps, inside the intersection of ball and box."""

    norm = "l1"
    ascent = L1Ascent

    class Settings(APGD.Settings):
        max_epsilon: float = Field(100.0, gt=0, description="last epsilon of the grid, in L1")


class L1CrossEntropyAPGD(L1APGD):
    """Climbs the cross entropy."""

    name = "apgd-ce-l1"
    loss = staticmethod(cross_entropy)


class L1DLRAPGD(L1APGD):
    """Climbs the difference of logits ratio."""

    name = "apgd-dlr-l1"
    loss = staticmethod(dlr)
