"""Transfer attacks (paper section 5): directions from a substitute network, their lengths from the defense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

import arena
from arena.data import DEFAULT
from arena.models.substitute import check_takes, load_substitute
from arena.models.weights import shipped
from arena.plugins.attacks.gradient_descent import BIM
from arena.toolbox import (
    candidates,
    epsilon_grid,
    margin,
    per_row,
    project,
    resolve,
    smallest_epsilon,
    spec_of,
    steepest,
    substitute_target,
    unit,
)

SUBSTITUTE = (
    "a network trained on the data at hand: weights that `arena train substitute` wrote, or a function that makes a"
    ' torch module, "file.py:name" or "package.module:name"; none: the one that ships, for MNIST'
)
BALLS = "radii around the clean image that BIM stays in, in the attack's norm"


def substitute_network(name: str | None) -> nn.Module:
    """The network that the setting `substitute` names; raises UserError if there is none."""
    if name is not None and ":" in name:
        network = resolve(name)()
        if not isinstance(network, nn.Module):
            raise arena.UserError(f"substitute {name} makes {type(network).__name__}: return a torch module")
        return network
    return load_substitute(name or shipped("substitute"))


class Transfer(arena.Attack):
    """Searches for the smallest adversarial along perturbations of the substitute: the single gradient step of FGM or
    FGSM, and where BIM ends inside balls of several sizes. The smallest perturbation that fools the substitute is no
    good direction for a robust target, larger ones are.
    """

    access = "decision"

    class Settings(arena.Settings):
        substitute: str | None = Field(None, description=SUBSTITUTE)
        max_epsilon: float = Field(1.0, gt=0, description="length of the longest perturbation, before clipping")
        epsilons: int = Field(100, gt=0, description="lengths tried along a direction, evenly spaced")
        bisections: int = Field(
            10, ge=0, description="refinements between the first length that fools and the one before"
        )
        balls: tuple[PositiveFloat, ...] = Field((0.05, 0.1, 0.2, 0.3, 0.5), description=BALLS)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.network = substitute_network(self.settings.substitute).eval().requires_grad_(False)

    @classmethod
    def settings_for(cls, data: arena.Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
        if given.get("substitute") is None and data.name != DEFAULT.name:
            train = f"`arena train substitute --dataset {data.name}`"
            raise arena.NotApplicable(
                f"attack {cls.name} has no substitute for {data.name}: {train} makes one, set substitute"
            )
        return super().settings_for(data, given)

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        remedy = 'set substitute = "file.py:name" to a function that makes a network for this data, or leave it out'
        check_takes(f"attack {self.name}", self.network, tuple(x.shape[1:]), remedy)
        substitute = substitute_target(self.network, x, y, self.norm)
        self._search(target, x, y, steepest(self.norm, substitute.gradient(x, margin)))
        for radius in self.settings.balls:
            self._search(target, x, y, self._climb(substitute, x, radius) - x)
        return candidates(target, x)

    def _climb(self, substitute: arena.Target, x: Tensor, radius: float) -> Tensor:
        """Where BIM ends with its own settings, whether the substitute errs on the way or not."""
        walk = BIM.Settings()
        image, ball = x, x.new_full((len(x),), radius)
        for _ in range(walk.steps):
            step = walk.step_size * radius * steepest(self.norm, substitute.gradient(image, margin))
            image = project(self.norm, image + step, x, ball).clamp(0, 1)
        return image

    def _search(self, target: arena.Target, x: Tensor, y: Tensor, perturbation: Tensor) -> None:
        """Ask the target about images at growing distances from x [B, ...] along perturbations [B, ...]."""
        s = self.settings
        grid = epsilon_grid(s.max_epsilon, s.epsilons, x.device)
        direction = unit(perturbation, spec_of(self.norm).order)

        def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
            images = x[index] + per_row(epsilon, x) * direction[index]
            return target.labels(images.clamp(0, 1), index) != y[index]

        smallest_epsilon(attempt, grid, len(x), s.bisections)


class L2Transfer(Transfer):
    """The L2 row "Transfer Attacks" of Table 1."""

    name = "transfer-l2"
    norm = "l2"

    class Settings(Transfer.Settings):
        max_epsilon: float = Field(20.0, gt=0, description="the same, in L2")
        balls: tuple[PositiveFloat, ...] = Field((1.0, 2.0, 3.0, 5.0, 8.0), description=BALLS)


class LinfTransfer(Transfer):
    """The Linf row."""

    name = "transfer-linf"
    norm = "linf"
