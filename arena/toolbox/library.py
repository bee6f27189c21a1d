"""Bases of attacks that wrap a library: what its attacks expect of a model, a seed and an epsilon, sample by sample."""

from __future__ import annotations

import random
from abc import abstractmethod
from contextlib import suppress
from typing import Any

import numpy
import torch
from pydantic import Field
from torch import Tensor, nn

from arena.errors import BudgetExhausted, PluginError
from arena.interface import settings
from arena.interface.contracts import Attack
from arena.target.images import clip_rounding
from arena.target.target import Target
from arena.toolbox.box import across_the_box
from arena.toolbox.search import smallest_epsilon

HALVINGS = 6  # of the largest epsilon, to the first one of the search


class SampleBySample(Attack):
    """An attack that plays a duel on one sample at a time, so that every query is billed to the sample it is about,
    whatever a library does with rows: it may drop finished ones, repeat or reorder them.

    For each sample the global generators of Python, numpy and torch are seeded, from `rng`; a spent budget ends this
    sample alone; and what the library returned is asked about, by one query more than its own, so that it counts even
    if the library never asked. Batches of one take more time than larger ones.
    """

    @abstractmethod
    def duel(self, duel: Duel) -> None:
        """Let the library play against one sample."""

    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """Candidates [B, C, H, W]: what the library returned last; the clean image where the budget ended it before.

        Raises PluginError if the library returned something of another shape.
        """
        found = x.clone()
        for sample, seed in enumerate(torch.randint(2**31, (len(x),), generator=rng).tolist()):
            for seeded in (random.seed, numpy.random.seed, torch.manual_seed):
                seeded(seed)
            with suppress(BudgetExhausted):
                self.duel(Duel(target, x, y, sample, found))
        return found


class PerSampleAttack(SampleBySample):
    """An attack of a library that searches for the closest adversarial, played sample by sample."""

    @abstractmethod
    def strike(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        """The library's answer to one sample: an image [1, C, H, W] in [0, 1], as a tensor or an array; the clean image
        where it has found none.

        model: see `Target.module`; x: the clean image [1, C, H, W]; y: its label, int64 [1]. Both may be modified.
        """

    def duel(self, duel: Duel) -> None:
        """Strike once."""
        duel.fooled(self.strike(duel.model, *duel.clean()))


class FixedEpsilonAttack(SampleBySample):
    """An attack of a library inside a ball of a given radius, played sample by sample: at one `epsilon`, as AutoAttack
    reports robust accuracy, or with the smallest epsilon searched for each sample."""

    class Settings(settings.Settings):
        """epsilon: the radius of the only ball, in the attack's norm; without it the smallest that fools is searched.
        max_epsilon: the end of the search (default: what the box allows); bisections: refinements of the first success.
        """

        epsilon: float | None = Field(None, gt=0)
        max_epsilon: float | None = Field(None, gt=0)
        bisections: int = Field(8, ge=0)

    @property
    def fixed_epsilon(self) -> float | None:
        """That of the settings."""
        epsilon: float | None = self.settings.epsilon
        return epsilon

    @abstractmethod
    def strike(self, model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Any:
        """As that of `PerSampleAttack`: the image that the library found within `epsilon` of x in the attack's norm."""

    def duel(self, duel: Duel) -> None:
        """Strike at the only epsilon; or at ever larger ones until one fools, each twice the last, and by bisection."""

        def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
            fooled = duel.fooled(self.strike(duel.model, *duel.clean(), float(epsilon)))
            return torch.tensor([fooled or duel.distance <= float(epsilon)])

        only, bisections = self.fixed_epsilon, self.settings.bisections
        if only is None:
            end = self.settings.max_epsilon or across_the_box(self.norm, duel.clean()[0])
            smallest_epsilon(attempt, end / 2 ** torch.arange(HALVINGS, -1, -1), 1, bisections)
        else:
            smallest_epsilon(attempt, torch.tensor([only]), 1, bisections=0)


class Duel:
    """One sample of a batch against the library: its clean image, and what is asked about it."""

    def __init__(self, target: Target, x: Tensor, y: Tensor, sample: int, found: Tensor) -> None:
        self._target, self._x, self._y, self._sample, self._found = target, x, y, sample, found
        self.model = target.module(sample)

    def clean(self) -> tuple[Tensor, Tensor]:
        """Copies of the image [1, C, H, W] and of its label [1]."""
        row = slice(self._sample, self._sample + 1)
        return self._x[row].clone(), self._y[row].clone()

    @property
    def distance(self) -> float:
        """Of the closest adversarial that the target has seen of the sample; infinity where there is none."""
        return float(self._target.best_distance[self._sample])

    def fooled(self, answer: Any) -> bool:
        """Note a library's answer as the candidate, and ask the target whether it fools."""
        image = clip_rounding(torch.as_tensor(answer).detach().to(self._x))
        if image.shape != (1, *self._x.shape[1:]):
            raise PluginError(f"strike returned {list(image.shape)} for an image {[1, *self._x.shape[1:]]}")
        self._found[self._sample] = image[0]
        if not bool(((image >= 0) & (image <= 1)).all()):  # the referee rejects it, and this sample alone
            return False
        index = torch.full((1,), self._sample, device=self._x.device)
        return bool(self._target.labels(image, index) != self._y[self._sample])


class Clipped(nn.Module):
    """A model on images clipped to the box [0, 1], for libraries that ask about images outside it.

    A pixel on the border keeps its gradient; `torch.nn.Hardtanh` takes it, and most pixels of a digit are 0.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.clamp(0, 1))
