"""SimBA (Guo et al. 2019, "Simple black-box adversarial attacks"): steps along one pixel after the other, by scores."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import margin, smallest_epsilon, walk_back


class SimBA(arena.Attack):
    """Moves one value of the image after the other up, or else down, in random order, and keeps what raises the margin
    (Algorithm 1 in the pixel basis; the publication lowers the label's probability, which saturates).

    The publication's step is fixed, 0.2, and stops where it fools. Here the smallest step that fools is searched: the
    shorter the steps, the more values share the way.
    """

    name = "simba"
    norm = "l2"
    access = "score"

    class Settings(arena.Settings):
        max_step: float = Field(0.5, gt=0, le=1, description="by which a value moves at most, in pixel units")
        sizes: int = Field(6, gt=0, description="of steps tried until one fools, each twice the last, up to max_step")
        bisections: int = Field(3, ge=0, description="refinements of the smallest size that fools")
        steps: int | None = Field(
            None, gt=0, description="values moved at each size, two queries at most each; none: all of the image, once"
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        s = self.settings
        sizes = s.max_step / 2 ** torch.arange(s.sizes - 1, -1, -1, device=x.device)

        def attempt(size: Tensor, index: Tensor) -> Tensor:
            order = torch.rand(len(index), x[0].numel(), generator=rng).argsort(1).to(x.device)
            return self._climb(target, x[index], y[index], size, index, order[:, : s.steps])

        smallest_epsilon(attempt, sizes, len(x), s.bisections)
        return walk_back(target, x, y)

    def _climb(self, target: arena.Target, x: Tensor, y: Tensor, size: Tensor, index: Tensor, order: Tensor) -> Tensor:
        """Whether [n] the walk from x [n, ...] met an adversarial, there it ends; by steps of `size` [n] along the
        values `order` [n, steps]."""
        image, best = x.flatten(1).clone(), margin(target.scores(x, index), y)
        for value in order.split(1, 1):
            rows = (best <= 0).nonzero().flatten()
            for step in (size, -size):
                moved = image[rows].scatter_add(1, value[rows], step[rows, None]).clamp(0, 1)
                inside = (moved != image[rows]).any(1)
                rows, moved = rows[inside], moved[inside]
                if not len(rows):
                    break
                gap = margin(target.scores(moved.view(-1, *x.shape[1:]), index[rows]), y[rows])
                better = gap > best[rows]
                image[rows[better]], best[rows[better]] = moved[better], gap[better]
                rows = rows[~better]
        return best > 0
