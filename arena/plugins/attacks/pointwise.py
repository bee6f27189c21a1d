"""The Pointwise attack (paper section 5): from salt-and-pepper noise back to the clean image, pixel by pixel."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.plugins.attacks.noise import salt_and_pepper
from arena.toolbox import Reset, bisect, epsilon_grid, nearest_other, per_row, smallest_epsilon


class Pointwise(arena.Attack):
    """Resets perturbed pixels in random order as long as the image stays adversarial, until none can be reset.

    Beyond the paper: what survives of two restarts, taken together, is again a starting point, one with few pixels
    besides those that matter. `crossovers = 0` is the paper's attack.
    """

    access = "decision"

    class Settings(arena.Settings):
        restarts: int = Field(10, gt=0, description="noises to start from; 10 in the paper")
        epsilons: int = Field(
            100, gt=0, description="amounts of noise tried for each, as shares of the pixels, evenly spaced"
        )
        crossovers: int = Field(
            10, ge=0, description="times that each restart is joined with another and reset again; 0 in the paper"
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        walk = Restarts(target, x, y, self.norm, self.settings.restarts, rng)
        walk.start(x, y, self.settings.epsilons)
        walk.reset()
        for _ in range(self.settings.crossovers):
            walk.cross()
        self.finish(walk)
        return target.best

    def finish(self, walk: Restarts) -> None:
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
        bisections: int = Field(
            10, gt=0, description="of each pixel, between its value and the clean one, one query each"
        )

    def finish(self, walk: Restarts) -> None:
        walk.approach(self.settings.bisections)


class Restarts(Reset):
    """The images of all restarts of all samples, one a row, from noise back to the clean ones."""

    def start(self, x: Tensor, y: Tensor, epsilons: int) -> None:
        """Salt-and-pepper noise, as little as fools; where none does, the nearest sample of another class."""

        def attempt(epsilon: Tensor, rows: Tensor) -> Tensor:
            return self.take(rows, salt_and_pepper(self.clean[rows], epsilon, self.rng))

        grid = epsilon_grid(1, epsilons, x.device)
        found = smallest_epsilon(attempt, grid, len(self.index), bisections=0).isfinite()
        self.image = torch.where(per_row(found, self.image), self.image, self.split(nearest_other(x, y))[self.index])

    def cross(self) -> None:
        """Join each row with another restart of its sample and reset; the closer of before and after stays."""
        before, perturbed = self.image.clone(), self.perturbed()
        shift = int(torch.randint(1, max(2, self.restarts), (), generator=self.rng))
        other = before.roll(shift * (len(before) // self.restarts), 0)
        rows = ((other != self.clean).any(1) & ~perturbed).any(1).nonzero().flatten()
        if not len(rows):
            return
        joined = torch.where(perturbed[:, None], before, other)[rows]
        self.reset(rows[self.take(rows, joined)])
        farther = self.perturbed().sum(1) > perturbed.sum(1)
        self.image[farther] = before[farther]

    def approach(self, bisections: int) -> None:
        """Move each perturbed pixel in turn towards its clean value, as far as the image stays adversarial."""
        for at, pixel in self.in_random_order(self.perturbed_rows()):
            far, clean = self.values(self.image[at], pixel), self.values(self.clean[at], pixel)
            attempt = partial(self._set_between, at, pixel, clean, far)
            bisect(attempt, torch.zeros_like(far[:, 0, 0]), torch.ones_like(far[:, 0, 0]), bisections)

    def _set_between(
        self, rows: Tensor, pixel: Tensor, clean: Tensor, far: Tensor, share: Tensor, part: Tensor
    ) -> Tensor:
        """The same for a `part` [m] of the rows, with values that are a share [m] of the way from clean to far."""
        value = torch.lerp(clean[part], far[part], per_row(share, far))
        return self.set(rows[part], pixel[part], value)
