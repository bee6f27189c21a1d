"""HopSkipJump (Chen et al. 2020): estimates the boundary's normal from decisions alone, and jumps along it."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import bisect, candidates, distance, on_the_boundary, per_row, project, slices, steepest, unit

FIRST_RADIUS = 0.1  # of the first probes; later ones lie at the distance from the clean image / number of pixels
BISECTIONS = 14  # after a jump: finer than the radius of the probes
HALVINGS = 10  # of a jump that leaves the adversarial region


class HopSkipJump(arena.Attack):
    """Algorithm 2. Foolbox 3.3.4 normalises the estimates over the whole batch, so that a sample's jumps depend on the
    others', and gives the batch up if one start fails. In Linf, too, probes lie in an L2 distance.
    """

    access = "decision"

    class Settings(arena.Settings):
        steps: int = Field(30, gt=0, description="jumps")
        probes: int = Field(
            100,
            gt=0,
            description="queries for the first normal; they grow with the square root of the step (theorem 2)",
        )
        draws: int = Field(100, gt=0, description="noises tried as starting points, one query each")

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        index = on_the_boundary(target, x, y, self.settings.draws, rng)
        for step in range(1, self.settings.steps + 1 if len(index) else 0):
            length = target.best_distance[index]
            reach = distance("l2", target.best, x)[index]
            radius = reach / x[0].numel() if step > 1 else torch.full_like(length, FIRST_RADIUS)
            probes = round(self.settings.probes * math.sqrt(step))
            normal = estimated_normal(target, target.best[index], y[index], index, radius, probes, rng)
            self._jump(target, x, y, index, per_row(length / math.sqrt(step), x) * steepest(self.norm, normal))
        return candidates(target, x)

    def _jump(self, target: arena.Target, x: Tensor, y: Tensor, index: Tensor, jump: Tensor) -> None:
        """From the closest adversarials of the samples `index` by `jump` [n, ...], halved until it fools, then back to
        the boundary."""
        start, landed = target.best, target.best
        fooled = torch.zeros_like(y, dtype=torch.bool)
        for _ in range(HALVINGS):
            images = (start[index] + jump).clamp(0, 1)
            success = target.labels(images, index) != y[index]
            landed[index[success]], fooled[index[success]] = images[success], True
            index, jump = index[~success], jump[~success] / 2
            if not len(index):
                break
        self._back(target, x, landed, y, fooled)

    def _back(self, target: arena.Target, x: Tensor, far: Tensor, y: Tensor, fooled: Tensor) -> None:
        """The smallest ball around each image x into which the image `far` [B, ...] can be projected and still fool,
        where it does [B]."""
        reach = distance(self.norm, far, x)

        def attempt(share: Tensor, index: Tensor) -> Tensor:
            images = project(self.norm, far[index], x[index], share * reach[index]).clamp(0, 1)
            return target.labels(images, index) != y[index]

        high = torch.where(fooled, 1.0, torch.inf)
        bisect(attempt, torch.zeros_like(high), high, BISECTIONS)


class L2HopSkipJump(HopSkipJump):
    """The L2 form: jumps along the normal."""

    name = "hop-skip-jump"
    norm = "l2"


class LinfHopSkipJump(HopSkipJump):
    """The Linf form: jumps along the signs of the normal."""

    name = "hop-skip-jump-linf"
    norm = "linf"


def estimated_normal(
    target: arena.Target, image: Tensor, y: Tensor, index: Tensor, radius: Tensor, probes: int, rng: torch.Generator
) -> Tensor:
    """Unit directions [n, ...] into the adversarial region, from decisions at `probes` images in a distance of
    radius [n] around each image [n, ...] (equation 16: their mean is subtracted, which lowers the variance).

    Asked about as many images at once as 256 MiB hold, or about one and its probes.
    """
    size = probes * image[0].numel() * image.element_size()
    parts = [
        _normal(target, image[part], y[part], index[part], radius[part], probes, rng)
        for part in slices(len(image), size)
    ]
    return torch.cat(parts)


def _normal(
    target: arena.Target, image: Tensor, y: Tensor, index: Tensor, radius: Tensor, probes: int, rng: torch.Generator
) -> Tensor:
    noise = torch.randn(len(image) * probes, *image.shape[1:], generator=rng).to(image.device)
    centre, radius = image.repeat_interleave(probes, 0), per_row(radius.repeat_interleave(probes), image)
    images = (centre + radius * unit(noise)).clamp(0, 1)
    wrong = target.labels(images, index.repeat_interleave(probes)) != y.repeat_interleave(probes)
    sign = wrong.view(-1, probes).to(image.dtype) * 2 - 1
    mean = sign.mean(1, keepdim=True)
    weight = torch.where(mean.abs() == 1, sign, sign - mean)
    offsets = ((images - centre) / radius).view(-1, probes, *image.shape[1:])
    return unit(torch.einsum("np,np...->n...", weight, offsets))
