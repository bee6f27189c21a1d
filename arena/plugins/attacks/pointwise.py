"""The Pointwise attack (paper section 5): from salt-and-pepper noise back to the clean image, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from arena.interface import settings
from arena.interface.contracts import Attack
from arena.plugins.attacks.noise import salt_and_pepper
from arena.target.target import Target
from arena.toolbox.search import bisect, epsilon_grid, smallest_epsilon
from arena.toolbox.starts import nearest_other


class Pointwise(Attack):
    """Resets perturbed pixels in random order as long as the image stays adversarial, until none can be reset.

    Beyond the paper: what survives of two restarts, taken together, is again a starting point, one with few pixels
    besides those that matter. `crossovers = 0` is the paper's attack.
    """

    access = "decision"

    class Settings(settings.Settings):
        """restarts: noises to start from; epsilons: amounts of noise tried for each; crossovers: how often each
        restart is joined with another and reset again."""

        restarts: int = Field(10, gt=0)
        epsilons: int = Field(100, gt=0)
        crossovers: int = Field(10, ge=0)

    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        walk = Walk(target, x, y, self.settings.restarts, rng)
        walk.start(x, y, self.settings.epsilons)
        walk.reset()
        for _ in range(self.settings.crossovers):
            walk.cross()
        self.finish(walk)
        return target.best

    def finish(self, walk: Walk) -> None:
        """What is done with the pixels that cannot be reset: nothing."""


class PointwiseL0(Pointwise):
    """The paper's row "Pointwise Attack 10x"."""

    name = "pointwise-l0"
    norm = "l0"


class PointwiseL2(Pointwise):
    """Then moves each pixel that cannot be reset as far towards its clean value as it may go."""

    name = "pointwise-l2"
    norm = "l2"

    class Settings(Pointwise.Settings):
        """bisections: of each pixel, between its value and the clean one."""

        bisections: int = Field(10, gt=0)

    def finish(self, walk: Walk) -> None:
        walk.approach(self.settings.bisections)


class Walk:
    """The images of all restarts of all samples, one a row, on their way back to the clean ones."""

    def __init__(self, target: Target, x: Tensor, y: Tensor, restarts: int, rng: torch.Generator) -> None:
        self.target, self.rng, self.shape, self.restarts = target, rng, x.shape[1:], restarts
        self.index = torch.arange(len(x), device=x.device).repeat(restarts)  # the sample of each row
        self.y = y[self.index]
        self.clean = x.flatten(1)[self.index]  # [rows, pixels]
        self.image = self.clean.clone()

    def start(self, x: Tensor, y: Tensor, epsilons: int) -> None:
        """Salt-and-pepper noise, as little as fools; where none does, the nearest sample of another class."""

        def attempt(epsilon: Tensor, rows: Tensor) -> Tensor:
            return self._take(rows, salt_and_pepper(self.clean[rows], epsilon, self.rng))

        grid = epsilon_grid(1, epsilons, x.device)
        found = smallest_epsilon(attempt, grid, len(self.index), bisections=0).isfinite()
        self.image = torch.where(found[:, None], self.image, nearest_other(x, y).flatten(1)[self.index])

    def perturbed(self) -> Tensor:
        """Which pixels [rows, pixels] differ from the clean image."""
        return self.image != self.clean

    def reset(self, rows: Tensor | None = None) -> None:
        """Passes over the perturbed pixels of `rows` (default: all), until one pass resets none of a row."""
        rows = self._perturbed_rows() if rows is None else rows
        while len(rows):
            improved = torch.zeros_like(self.index, dtype=torch.bool)
            for at, pixel in self._in_random_order(rows):
                improved[at] |= self._set(at, pixel, self.clean[at].gather(1, pixel))
            rows = rows[improved[rows]]

    def cross(self) -> None:
        """Join each row with another restart of its sample and reset; the closer of before and after stays."""
        before, perturbed = self.image.clone(), self.perturbed()
        shift = int(torch.randint(1, max(2, self.restarts), (), generator=self.rng))
        other = before.roll(shift * (len(before) // self.restarts), 0)
        rows = ((other != self.clean) & ~perturbed).any(1).nonzero().flatten()
        if not len(rows):
            return
        joined = torch.where(perturbed, before, other)[rows]
        self.reset(rows[self._take(rows, joined)])
        farther = self.perturbed().sum(1) > perturbed.sum(1)
        self.image[farther] = before[farther]

    def approach(self, bisections: int) -> None:
        """Move each perturbed pixel in turn towards its clean value, as far as the image stays adversarial."""
        for at, pixel in self._in_random_order(self._perturbed_rows()):
            far, clean = self.image[at].gather(1, pixel), self.clean[at].gather(1, pixel)
            attempt = partial(self._set_between, at, pixel, clean, far)
            bisect(attempt, torch.zeros_like(far[:, 0]), torch.ones_like(far[:, 0]), bisections)

    def _perturbed_rows(self) -> Tensor:
        return self.perturbed().any(1).nonzero().flatten()

    def _in_random_order(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The perturbed pixels of `rows`, one a row at a time: which rows [n] have one left, and the pixel [n, 1]."""
        perturbed = self.perturbed()[rows]
        draw = torch.rand(perturbed.shape, generator=self.rng).to(perturbed.device)
        order = torch.where(perturbed, draw, torch.inf).argsort(1)
        count = perturbed.sum(1)
        for position in range(int(count.max()) if len(count) else 0):
            left = (count > position).nonzero().flatten()
            yield rows[left], order[left, position, None]

    def _set(self, rows: Tensor, pixel: Tensor, value: Tensor) -> Tensor:
        """Set one pixel [n, 1] of each row to value [n, 1] where it stays misclassified; returns where [n]."""
        return self._take(rows, self.image[rows].scatter(1, pixel, value))

    def _set_between(
        self, rows: Tensor, pixel: Tensor, clean: Tensor, far: Tensor, share: Tensor, part: Tensor
    ) -> Tensor:
        """The same for a `part` [m] of the rows, with values that are a share [m] of the way from clean to far."""
        value = torch.lerp(clean[part], far[part], share[:, None])
        return self._set(rows[part], pixel[part], value)

    def _take(self, rows: Tensor, image: Tensor) -> Tensor:
        """Set `rows` [n] to those of the images [n, pixels] that are misclassified; returns which [n] are."""
        success = self.target.labels(image.view(-1, *self.shape), self.index[rows]) != self.y[rows]
        self.image[rows[success]] = image[success]
        return success


def reset_best(target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """The closest adversarials [B, ...] after resetting what pixels can be reset of those seen so far."""
    walk = Walk(target, x, y, 1, rng)
    walk.image = target.best.flatten(1)
    walk.reset()
    return target.best
