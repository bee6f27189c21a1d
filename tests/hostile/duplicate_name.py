"""A package that claims the name of a built-in attack."""

from collections.abc import Callable

import torch
from torch import Tensor

import arena


class Impostor(arena.Attack):
    name, norm, access = "boundary", "l2", "decision"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        return 1 - x


@arena.hookimpl
def register_attacks(register: Callable[[type[arena.Attack]], None]) -> None:
    register(Impostor)
