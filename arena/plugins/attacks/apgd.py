"""APGD (Croce & Hein 2020): projected gradient steps that find their own size, the smallest epsilon searched."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.plugins.attacks.ascent import Ascent, L1Ascent
from arena.toolbox import (
    Loss,
    cross_entropy,
    dlr,
    epsilon_grid,
    runners_up,
    scores_and_gradient,
    smallest_epsilon,
    targeted_dlr,
    walk_back,
)

MOMENTUM = 0.25  # share of the last step kept (1 - alpha of the publication)


class APGD(arena.Attack):
    """Auto-PGD (Algorithm 1), from noise in the ball; done with an epsilon where it fools."""

    access = "gradient"
    ascent: ClassVar[type[Ascent]] = Ascent
    loss: Loss

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
        aims = self.aims(target, x, y)

        def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
            fooled = torch.zeros_like(index, dtype=torch.bool)
            for aim in s.restarts * aims.unbind(1):
                rows = (~fooled).nonzero().flatten()
                if not len(rows):
                    break
                at, radius = index[rows], epsilon[rows]
                ascent = self.ascent.from_noise(self.norm, x[at], radius, rng)
                fooled[rows] = self._climb(target, ascent, y[at], aim[at], at)
            return fooled

        smallest_epsilon(attempt, grid, len(x), s.bisections)
        return walk_back(target, x, y)

    def aims(self, target: arena.Target, x: Tensor, y: Tensor) -> Tensor:
        """The classes [B, k] that `towards` is to climb to, one after the other; here it climbs away from the label."""
        return y[:, None]

    def towards(self, aim: Tensor) -> Loss:
        """The loss of samples whose aims [n] these are."""
        return self.loss

    def _climb(self, target: arena.Target, ascent: Ascent, y: Tensor, aim: Tensor, index: Tensor) -> Tensor:
        """Whether [n] the ascent met an adversarial; there it ends."""
        fooled = torch.zeros_like(index, dtype=torch.bool)
        rows, last = torch.arange(len(index), device=index.device), 0
        ends = ascent.checkpoints(self.settings.steps)
        for step in range(self.settings.steps):
            loss = self.towards(aim[rows])
            scores, gradient = scores_and_gradient(target, ascent.at.image, y[rows], loss, index[rows])
            value, wrong = loss(scores, y[rows]), scores.argmax(1) != y[rows]
            fooled[rows[wrong]] = True
            rows, ascent = rows[~wrong], ascent[~wrong]
            if not len(rows):
                break
            ascent.note(value[~wrong], gradient[~wrong])
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


class TargetedAPGD(APGD):
    """Climbs the targeted difference of logits ratio, towards one likely class after the other (APGD-T of AutoAttack,
    which takes nine of them)."""

    class Settings(APGD.Settings):
        candidates: int = Field(
            4, gt=1, description="classes considered: the label and the likeliest others of the clean image"
        )

    def aims(self, target: arena.Target, x: Tensor, y: Tensor) -> Tensor:
        return runners_up(target.scores(x), y, self.settings.candidates - 1)

    def towards(self, aim: Tensor) -> Loss:
        return lambda scores, y: targeted_dlr(scores, y, aim)


class LinfTargetedAPGD(TargetedAPGD):
    """The Linf form."""

    name = "apgd-t-linf"
    norm = "linf"


class L2TargetedAPGD(TargetedAPGD):
    """The L2 form."""

    name = "apgd-t-l2"
    norm = "l2"

    class Settings(L2APGD.Settings, TargetedAPGD.Settings):
        """Those of both."""
