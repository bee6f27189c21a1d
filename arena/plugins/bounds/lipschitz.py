"""The product of the layers' operator norms (Tsuzuku, Sato and Sugiyama 2018, "Lipschitz-Margin Training")."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

import arena
from arena.evaluation.bounds.lipschitz import LENGTHS, Speed
from arena.toolbox import Norm


class Lipschitz(arena.Bound):
    """How far is the margin from zero, if it falls as fast as no network with these layers could?

    Cheap, and loose: each layer is taken at its worst.
    """

    name, norms, kind, cheap = "lipschitz", LENGTHS, "certificate", True

    def refusal(self, defense: arena.Defense, shape: tuple[int, int, int]) -> str | None:
        try:
            _speed(defense, shape)
        except arena.UserError as failure:
            return str(failure)
        return None

    def run(self, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        return _speed(defense, tuple(x.shape[1:])).distances(x, y, norm)


@cache
def _speed(defense: arena.Defense, shape: tuple[int, ...]) -> Speed:
    """Reading a network takes longer than asking it."""
    return Speed(defense, shape)
