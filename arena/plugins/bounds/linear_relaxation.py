"""Ordinary networks: each layer between two linear functions (docs/bounds.md)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.evaluation.bounds.relaxation.certificate import certified
from arena.evaluation.bounds.relaxation.reading import read, refusal
from arena.toolbox import Norm


class LinearRelaxation(arena.Bound):
    """A radius within which no image is of another class, proven by backward linear relaxation: CROWN (Zhang et al.
    2018), which on ReLUs is DeepPoly (Singh et al. 2019), the slopes of the last substitution optimised (Xu et al.
    2021), in the box.

    It reads the network by torch.fx, and refuses one with a layer that it has no lines for. Proven is the network in
    real arithmetic, with 1e-4 of its largest logit to spare for the float32 that the defense computes in.
    """

    name, norms, kind = "linear-relaxation", ("l1", "l2", "linf"), "certificate"

    class Settings(arena.Settings):
        steps: int = Field(10, ge=0, description="of the search for the best lines of the last substitution")
        tolerance: float = Field(0.02, gt=0, lt=1, description="share to which the largest radius is searched")

    def refusal(self, defense: arena.Defense, shape: tuple[int, int, int]) -> str | None:
        return refusal(defense, shape)

    def run(self, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        graph = read(defense, tuple(x.shape[1:]))
        alone = zip(x.split(1), y.split(1), strict=True)  # memory is bounded, and no row depends on another
        steps, tolerance = self.settings.steps, self.settings.tolerance
        return torch.cat([certified(graph, *pair, norm, steps=steps, tolerance=tolerance) for pair in alone])
