"""APGD (Croce & Hein 2020): projected gradient steps that find their own size, the smallest epsilon searched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from arena.geometry.distances import per_row, project
from arena.geometry.norms import Norm
from arena.interface import settings
from arena.interface.contracts import Attack
from arena.target.logits import margin
from arena.target.target import Target
from arena.toolbox.directions import scores_and_gradient, steepest
from arena.toolbox.search import epsilon_grid, smallest_epsilon, walk_back

MOMENTUM = 0.25  # share of the last step kept (1 - alpha of the publication)
CLIMBS = 0.75  # the share of steps that must climb, or the next ones are half as long (its rho)


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """-log softmax of the label [n], for logits [n, classes] and labels y, int64 [n]."""
    return functional.cross_entropy(scores, y, reduction="none")


def dlr(scores: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio [n] (its equation 6): the margin, divided by the gap from the first logit to the
    third. It does not depend on the scale of the logits. The plain margin where there are but two."""
    if scores.shape[1] < 3:
        return margin(scores, y)
    ranked = scores.sort(1, descending=True).values
    return margin(scores, y) / (ranked[:, 0] - ranked[:, 2]).clamp_min(1e-12)


class APGD(Attack):
    """Auto-PGD (Algorithm 1), from noise at the edge of the ball; done with an epsilon where it fools."""

    access = "gradient"
    loss: Callable[[Tensor, Tensor], Tensor]

    class Settings(settings.Settings):
        """steps: at each epsilon, one query and gradient each; restarts: from new noise, of what was not fooled;
        max_epsilon, epsilons: end and number of the grid; bisections: refinements after it."""

        steps: int = Field(50, gt=0)
        restarts: int = Field(1, gt=0)
        max_epsilon: float = Field(1.0, gt=0)
        epsilons: int = Field(10, gt=0)
        bisections: int = Field(8, ge=0)

    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        grid = epsilon_grid(s.max_epsilon, s.epsilons, x.device)

        def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
            fooled = torch.zeros_like(index, dtype=torch.bool)
            for _ in range(s.restarts):
                rows = (~fooled).nonzero().flatten()
                if not len(rows):
                    break
                radius, clean = epsilon[rows], x[index[rows]]
                noise = steepest(self.norm, torch.randn(clean.shape, generator=rng).to(x.device))
                ascent = Ascent.start(clean, (clean + per_row(radius, x) * noise).clamp(0, 1), radius)
                fooled[rows] = self._climb(target, ascent, y[index[rows]], index[rows])
            return fooled

        smallest_epsilon(attempt, grid, len(x), s.bisections)
        return walk_back(target, x, y)

    def _climb(self, target: Target, ascent: Ascent, y: Tensor, index: Tensor) -> Tensor:
        """Whether [n] the ascent met an adversarial; there it ends."""
        fooled = torch.zeros_like(index, dtype=torch.bool)
        rows, last = torch.arange(len(index), device=index.device), 0
        ends = checkpoints(self.settings.steps)
        for step in range(self.settings.steps):
            scores, gradient = scores_and_gradient(target, ascent.image, y[rows], self.loss, index[rows])
            wrong = scores.argmax(1) != y[rows]
            fooled[rows[wrong]] = True
            rows, ascent = rows[~wrong], ascent[~wrong]
            if not len(rows):
                break
            ascent.note(self.loss(scores[~wrong], y[rows]), gradient[~wrong])
            if step in ends:
                ascent.adapt(step - last)
                last = step
            ascent.move(self.norm, MOMENTUM if step else 0)
        return fooled


def checkpoints(steps: int) -> set[int]:
    """The steps at which the step size may change: ever more often (section 3.1)."""
    ends, share, period = set(), 0.22, 0.22
    while share <= 1:
        ends.add(math.ceil(share * steps))
        period = max(period - 0.03, 0.06)
        share += period
    return ends


@dataclass
class Ascent:
    """The walks of n samples: each field is a tensor [n] or [n, ...]."""

    clean: Tensor
    epsilon: Tensor
    length: Tensor  # of the next step
    image: Tensor
    before: Tensor  # the image before the last step
    gradient: Tensor
    value: Tensor  # of the loss
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    checked: Tensor  # the best value at the last checkpoint
    halved: Tensor  # whether the steps were halved there
    climbs: Tensor  # steps since then that climbed

    @classmethod
    def start(cls, clean: Tensor, image: Tensor, epsilon: Tensor) -> Ascent:
        """About to take steps of two epsilons [n] from `image`, around `clean` (both [n, ...])."""
        lowest, none = torch.full_like(epsilon, -torch.inf), torch.zeros_like(image)
        at, best = (image, image, none, lowest), (image, none, lowest)
        never = torch.zeros_like(epsilon, dtype=torch.bool)
        return cls(clean, epsilon, 2 * epsilon, *at, *best, checked=lowest, halved=never, climbs=0 * epsilon)

    def __getitem__(self, rows: Tensor) -> Ascent:
        return Ascent(*(getattr(self, field.name)[rows] for field in fields(self)))

    def note(self, value: Tensor, gradient: Tensor) -> None:
        """Take in what the loss is at the images, and its gradient."""
        self.climbs = self.climbs + (value > self.value)
        self.value, self.gradient = value, gradient
        better = value > self.best_value
        self.best_value = torch.where(better, value, self.best_value)
        self.best = torch.where(per_row(better, self.best), self.image, self.best)
        self.best_gradient = torch.where(per_row(better, gradient), gradient, self.best_gradient)

    def adapt(self, steps: int) -> None:
        """At a checkpoint, so many steps after the last: halve the steps of walks that stalled, back at their best."""
        stalled = (self.climbs < CLIMBS * steps) | (~self.halved & (self.best_value <= self.checked))
        rows = per_row(stalled, self.image)
        self.length = torch.where(stalled, self.length / 2, self.length)
        self.image = torch.where(rows, self.best, self.image)
        self.gradient = torch.where(rows, self.best_gradient, self.gradient)
        self.value = torch.where(stalled, self.best_value, self.value)
        self.halved, self.checked, self.climbs = stalled, self.best_value, torch.zeros_like(self.climbs)

    def move(self, norm: Norm, momentum: float) -> None:
        """A step along the gradient, inside ball and box, and `momentum` of the last one."""
        step = per_row(self.length, self.image) * steepest(norm, self.gradient)
        ahead = self._inside(norm, self.image + step)
        moved = torch.lerp(ahead, self.image, momentum) + momentum * (self.image - self.before)
        self.before, self.image = self.image, self._inside(norm, moved)

    def _inside(self, norm: Norm, image: Tensor) -> Tensor:
        return project(norm, image, self.clean, self.epsilon).clamp(0, 1)


class LinfCrossEntropyAPGD(APGD):
    """Climbs the cross entropy, which has no gradient where the softmax is exactly 0 or 1."""

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
        max_epsilon: float = Field(10.0, gt=0)


class L2CrossEntropyAPGD(L2APGD):
    """Climbs the cross entropy."""

    name = "apgd-ce-l2"
    loss = staticmethod(cross_entropy)


class L2DLRAPGD(L2APGD):
    """Climbs the difference of logits ratio."""

    name = "apgd-dlr-l2"
    loss = staticmethod(dlr)
