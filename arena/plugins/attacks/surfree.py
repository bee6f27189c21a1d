"""SurFree (Maho, Furon, Le Merrer 2021): walks around the clean image in random planes, and estimates no gradient."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import bisect, bisect_between, candidates, on_the_boundary, per_row, slices, unit

LARGEST_ANGLE = math.pi / 6  # tried first (section 4.4)
DECAY = 0.98  # of the largest angle after a direction without success; its inverse after one with
DECISIONS = 7  # bisections of an angle, and of the way back to the boundary


class SurFree(arena.Attack):
    """Algorithm 1. Were the boundary a plane through the closest adversarial, a direction v orthogonal to the offset u
    would lead, at the angle t, to an adversarial on the circle x + d cos t (u cos t + v sin t), closer than d.

    Directions are drawn among low frequencies, each orthogonal to those before it. As many samples are played at once
    as their directions fit 256 MiB, or one.
    """

    name = "surfree"
    norm = "l2"
    access = "decision"

    class Settings(arena.Settings):
        steps: int = Field(300, gt=0, description="directions tried")
        angles: int = Field(3, gt=0, description="angles tried of each sign in a direction, largest first")
        frequencies: float = Field(
            0.5,
            gt=0,
            le=1,
            description="share of the cosine frequencies, along each axis, of which directions are made",
        )
        memory: int = Field(100, gt=0, description="earlier directions to which each is orthogonal")
        draws: int = Field(100, gt=0, description="noises tried as starting points, one query each")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        size = self.settings.memory * x[0].numel() * x.element_size()
        for part in slices(len(x), size):
            samples = torch.arange(len(x), device=x.device)[part]
            self._walk(target.subset(samples), x[part], y[part], rng)
        return candidates(target, x)

    def _walk(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        index = on_the_boundary(target, x, y, self.settings.draws, rng)
        waves = [low_frequencies(pixels, self.settings.frequencies).to(x.device) for pixels in x.shape[2:]]
        free = x.shape[1] * math.prod(len(wave) for wave in waves)
        memory = min(self.settings.memory, free // 2)  # else nothing would be left to draw
        largest = torch.full_like(target.best_distance, LARGEST_ANGLE)
        earlier = x.new_zeros(len(x), memory, x[0].numel())
        for step in range(self.settings.steps if len(index) else 0):
            noise = torch.randn(len(x), x.shape[1], *map(len, waves), generator=rng).to(x.device)
            offset = unit((target.best - x).flatten(1))
            direction = orthogonal((waves[0].T @ noise @ waves[1]).flatten(1), offset, earlier)
            if memory:
                earlier[:, step % memory] = direction
            self._turn(target, x, y, index, offset.view_as(x), direction.view_as(x), largest)

    def _turn(
        self, target: arena.Target, x: Tensor, y: Tensor, index: Tensor, u: Tensor, v: Tensor, largest: Tensor
    ) -> None:
        """Turn the closest adversarials of the samples `index` from u towards v (both [B, ...]), by up to `largest`
        [B], which is updated; then go back to the boundary."""
        radius, best = target.best_distance, torch.zeros_like(largest)

        def fools(angle: Tensor, index: Tensor) -> Tensor:
            turned = per_row(angle.cos(), x) * u[index] + per_row(angle.sin(), x) * v[index]
            images = x[index] + per_row(radius[index] * angle.cos(), x) * turned
            return target.labels(images.clamp(0, 1), index) != y[index]

        # The least cosine is the closest image: bisection between the first that fooled and the one before it.
        failed, fooled = torch.zeros_like(best), torch.full_like(best, torch.inf)
        waiting = index
        for rank in range(self.settings.angles, 0, -1):
            for sign in (1, -1):
                angle = sign * largest[waiting] * rank / self.settings.angles
                success = fools(angle, waiting)
                turned = waiting[success]
                best[turned], fooled[turned] = angle[success], angle[success].cos()
                larger = largest[turned] * min(rank + 1, self.settings.angles) / self.settings.angles
                failed[turned] = larger.cos()
                waiting = waiting[~success]
                if not len(waiting):
                    break
            if not len(waiting):
                break
        largest[index] *= torch.where(best[index] != 0, 1 / DECAY, DECAY)
        bisect(lambda cosine, index: fools(best.sign()[index] * cosine.acos(), index), failed, fooled, DECISIONS)
        bisect_between(target, x, target.best, y, best != 0, DECISIONS)


def low_frequencies(pixels: int, share: float) -> Tensor:
    """The orthonormal cosines (DCT-II) of the lowest frequencies over so many pixels [ceil(share * pixels), pixels]."""
    frequency = torch.arange(math.ceil(share * pixels), dtype=torch.float64)
    waves = torch.cos(math.pi / pixels * frequency[:, None] * (torch.arange(pixels) + 0.5))
    return unit(waves).float()


def orthogonal(direction: Tensor, offset: Tensor, earlier: Tensor) -> Tensor:
    """The directions [B, D] of length one without what they share with the offsets [B, D] and with the earlier ones
    [B, M, D], which are of length one and orthogonal, or zero."""
    shared = torch.einsum("bmd,bd->bm", earlier, direction)
    direction = direction - torch.einsum("bmd,bm->bd", earlier, shared)
    return unit(direction - (direction * offset).sum(1, keepdim=True) * offset)
