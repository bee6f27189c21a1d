"""Scores that are minima over prototypes: label and rival are perturbed by the same d (docs/bounds.md)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

import arena
from arena.evaluation.bounds import Descent, Search, joint
from arena.interface.prototypes import HasPrototypes, prototypes_of
from arena.toolbox import NORMS, Norm


class Joint(arena.Bound):
    """How short can one perturbation be that makes another class explain the image better than its label does?

    A certificate where the prototypes can be listed (nearest neighbour), an estimate where a decoder draws them (ABS):
    there it is as good as the search for the minimum over its latent space.
    """

    name, norms, kind, cheap = "joint", NORMS, "estimate", True
    Settings: ClassVar[type[Descent]] = Search

    def refusal(self, defense: arena.Defense, shape: tuple[int, int, int]) -> str | None:
        return None if isinstance(defense, HasPrototypes) else "its score is no minimum over prototypes"

    def kind_for(self, defense: arena.Defense) -> arena.BoundKind:
        return "certificate" if prototypes_of(defense).finite else "estimate"

    def run(self, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        return joint(defense, x, y, norm, seed=rng.initial_seed(), search=self.settings).value
