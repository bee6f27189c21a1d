"""Small ReLU networks: the minimal distance to a percent, by branch and bound (docs/bounds.md)."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.evaluation.bounds.branching import bracket
from arena.evaluation.bounds.relaxation.activations import LeakyReLU
from arena.evaluation.bounds.relaxation.reading import read, refusal
from arena.toolbox import Norm

NEURONS = 2000  # ReLUs at most: of more the search is not worth starting


class Exact(arena.Bound):
    """Is any adversarial closer than the closest that two attacks find, FAB-T and Brendel-Bethge? Branch and bound over
    the ReLUs whose sign linear relaxation leaves open, each part bounded as by beta-CROWN (Wang et al. 2021).

    Proven as linear-relaxation is. Where the time ends first, it says what is proven by then, which depends on the
    machine.
    """

    name, norms, kind = "exact", ("l1", "l2", "linf"), "certificate"

    class Settings(arena.Settings):
        seconds: float = Field(60.0, gt=0, description="for the search of one sample")
        gap: float = Field(0.01, gt=0, lt=1, description="share of the distance that may stay open")

    def refusal(self, defense: arena.Defense, shape: tuple[int, int, int]) -> str | None:
        if (reason := refusal(defense, shape)) is not None:
            return reason
        graph = read(defense, shape)
        others = {type(piece).__name__ for piece, _ in graph.nonlinear.values() if not isinstance(piece, LeakyReLU)}
        if others:
            return f"it is no ReLU network: it has {', '.join(sorted(others))}"
        neurons = sum(math.prod(graph.nodes[number].shape) for number in graph.nonlinear)
        return f"it has {neurons} ReLUs, more than {NEURONS}" if neurons > NEURONS else None

    def run(self, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        graph = read(defense, tuple(x.shape[1:]))
        attacked = torch.full((len(x),), math.inf)
        for name in (f"fab-t-{norm}", f"brendel-bethge-{norm}"):
            records = arena.play(defense, arena.load_attack(name), x, y, seed=rng.initial_seed())
            found = [math.inf if record.distance is None else record.distance for record in records]
            attacked = attacked.minimum(torch.tensor(found))
        alone = zip(x.split(1), y.split(1), attacked.tolist(), strict=True)
        settings = self.settings.model_dump()
        low = [bracket(graph, image, label, norm, known, **settings).low for image, label, known in alone]
        return torch.tensor(low, dtype=torch.float64)
