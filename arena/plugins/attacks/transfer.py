"""Transfer attacks (paper section 5): directions from a substitute network, their lengths from the defense."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from arena import settings
from arena.access import Target, margin
from arena.contracts import Attack, Defense
from arena.distances import per_row
from arena.ledger import Ledger
from arena.models.cnn import CNN
from arena.models.weights import ZOO, load_weights
from arena.plugins.attacks.directions import steepest, unit
from arena.plugins.attacks.gradient_descent import BIM, L2BIM
from arena.plugins.attacks.search import candidates, smallest_epsilon

MAPS = (32, 32, 64, 10)  # of the released substitute


class Substitute(Defense):
    """The network that stands in for the defense."""

    name = "substitute"
    gradient = "autograd"

    def __init__(self, network: nn.Module, device: str) -> None:
        super().__init__(device=device)
        self.network = network.to(self.device)

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)


class Transfer(Attack):
    """Searches for the smallest adversarial along perturbations of the substitute: the single gradient step of FGM or
    FGSM, and what BIM ends with, which is nothing where the substitute errs anyway.
    """

    needs = "decision"
    source: ClassVar[type[Attack]]

    class Settings(settings.Settings):
        """max_epsilon, epsilons: end and number of the grid, before clipping; bisections: refinements after it."""

        max_epsilon: float = Field(1.0, gt=0)
        epsilons: int = Field(100, gt=0)
        bisections: int = Field(10, ge=0)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.network = CNN(MAPS)
        load_weights(self.network, ZOO / "substitute.safetensors")
        self.network.eval().requires_grad_(False)

    def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        substitute = Target(Substitute(self.network, str(x.device)), Ledger(x, y, self.norm), self.source.needs)
        self._search(target, x, y, steepest(self.norm, substitute.gradient(x, margin)))
        adversarial = self.source().run(substitute, x, y, rng)
        self._search(target, x, y, unit(adversarial - x, order=torch.inf if self.norm == "linf" else 2))
        return candidates(target, x)

    def _search(self, target: Target, x: Tensor, y: Tensor, direction: Tensor) -> None:
        """Ask the target about images at growing distances from x [B, ...] along directions [B, ...] of length one."""
        s = self.settings
        grid = torch.linspace(0, s.max_epsilon, s.epsilons + 1, device=x.device)[1:]

        def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
            images = x[index] + per_row(epsilon, x) * direction[index]
            return target.labels(images.clamp(0, 1), index) != y[index]

        smallest_epsilon(attempt, grid, len(x), s.bisections)


class L2Transfer(Transfer):
    """The L2 row "Transfer Attacks" of Table 1."""

    name = "transfer-l2"
    norm = "l2"
    source = L2BIM

    class Settings(Transfer.Settings):
        max_epsilon: float = Field(20.0, gt=0)


class LinfTransfer(Transfer):
    """The Linf row."""

    name = "transfer-linf"
    norm = "linf"
    source = BIM
