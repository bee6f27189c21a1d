"""Random noise of increasing strength: the baselines of the paper's section 5, "Decision-based attacks"."""

from __future__ import annotations

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor

import arena
from arena.toolbox import epsilon_grid, per_row, smallest_epsilon

MARGIN = 1.2  # a restart searches up to that multiple of the best epsilon so far: noise is not monotone in it


class Noise(arena.Attack):
    """Draws noise at rising epsilons until it fools; each restart searches below the last one's success."""

    access = "decision"

    class Settings(arena.Settings):
        epsilons: int = Field(100, gt=0, description="strengths tried by a restart, one draw and query each")
        restarts: int = Field(10, gt=0, description="searches, each below 1.2 times the best strength so far")

    @abstractmethod
    def noisy(self, x: Tensor, epsilon: Tensor, rng: torch.Generator) -> Tensor:
        """The images x [n, ...] under a fresh draw of noise of strength epsilon [n], in (0, 1]."""

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        grid = epsilon_grid(1, self.settings.epsilons, x.device)
        limit = torch.ones(len(x), device=x.device)

        def attempt(share: Tensor, index: Tensor) -> Tensor:
            return target.labels(self.noisy(x[index], share * limit[index], rng), index) != y[index]

        for _ in range(self.settings.restarts):
            found = smallest_epsilon(attempt, grid, len(x), bisections=0)
            limit = limit * (MARGIN * found).clamp(max=1)
        return target.best


class GaussianNoise(Noise):
    """Normal noise of standard deviation epsilon."""

    name = "gaussian-noise"
    norm = "l2"

    def noisy(self, x: Tensor, epsilon: Tensor, rng: torch.Generator) -> Tensor:
        return (x + per_row(epsilon, x) * torch.randn(x.shape, generator=rng).to(x.device)).clamp(0, 1)


class SaltAndPepper(Noise):
    """Sets each channel of a share epsilon of the pixels to 0 or 1. Foolbox's ranks what it finds by L2; here L0
    counts."""

    name = "salt-and-pepper"
    norm = "l0"

    def noisy(self, x: Tensor, epsilon: Tensor, rng: torch.Generator) -> Tensor:
        return salt_and_pepper(x, epsilon, rng)


def salt_and_pepper(x: Tensor, share: Tensor, rng: torch.Generator) -> Tensor:
    """The images x [n, C, ...] with that share [n] of the pixels, drawn at random, set to 0 or 1 in each channel."""
    draw = torch.rand(x.shape, generator=rng).to(x.device)
    half, pixel = per_row(share / 2, x), draw[:, :1]
    return torch.where((pixel < half) | (pixel >= 1 - half), (draw >= 0.5).to(x.dtype), x)
