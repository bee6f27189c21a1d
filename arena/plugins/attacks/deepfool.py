"""DeepFool (Moosavi-Dezfooli et al. 2016): steps to the nearest boundary of the linearised classifier."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import boundaries, movable, per_row, runners_up, slope, steepest, walk_back

LEAST_STEP = 0.01  # so that it does not stall where the gap is small but scores change in jumps: binarised input


class DeepFool(arena.Attack):
    """Foolbox's version keeps on querying finished samples and repeats the forward pass for every class. This one also
    leaves out the pixels that clipping would stop, which on MNIST takes a quarter of the linearisations.
    """

    access = "gradient"

    class Settings(arena.Settings):
        steps: int = Field(50, gt=0, description="linearisations at most (the publication's max_iter)")
        candidates: int = Field(
            10, gt=1, description="classes considered: the label and the likeliest others of the clean image"
        )
        overshoot: float = Field(
            0.02, ge=0, description="how far beyond the boundary, relative to the perturbation (the publication's eta)"
        )

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        others = runners_up(target.scores(x), y, self.settings.candidates - 1)
        index, image, total = torch.arange(len(x), device=x.device), x, torch.zeros_like(x)
        for _ in range(self.settings.steps):
            step, moves = self._step(target, image, y[index], others[index], index)
            index, total = index[moves], (total + step)[moves]
            if not len(index):
                break
            image = (x[index] + (1 + self.settings.overshoot) * total).clamp(0, 1)
            correct = target.labels(image, index) == y[index]
            index, total, image = index[correct], total[correct], image[correct]
            if not len(index):
                break
        return walk_back(target, x, y)

    def _step(
        self, target: arena.Target, image: Tensor, y: Tensor, others: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The smallest step [n, ...] onto a linearised boundary with `others` [n, k], and whether [n] there is one."""
        gaps, normals = boundaries(target, image, y, others, index)
        normals = movable(image[:, None], normals)
        slopes = slope(self.norm, normals.flatten(0, 1)).view_as(gaps)
        lengths = torch.where(slopes > 0, gaps / slopes, torch.inf)
        nearest = lengths.argmin(1)
        rows = torch.arange(len(index), device=index.device)
        length, normal = lengths[rows, nearest], normals[rows, nearest]
        moves = length.isfinite()
        length = torch.where(moves, length + LEAST_STEP, 0.0)
        return per_row(length, image) * steepest(self.norm, normal), moves


class L2DeepFool(DeepFool):
    """DeepFool for L2 (Algorithm 2 of the publication)."""

    name = "deepfool-l2"
    norm = "l2"


class LinfDeepFool(DeepFool):
    """DeepFool for Linf (its section 3.3, p = infinity)."""

    name = "deepfool-linf"
    norm = "linf"
