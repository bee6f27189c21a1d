"""Randomized smoothing's radius (Cohen, Rosenfeld and Kolter 2019, theorem 1 and "Certify")."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import Tensor

import arena
from arena.toolbox import Norm

_BATCH = 256  # noisy copies asked about at once


class Smoothing(arena.Bound):
    """sigma * Phi^-1(p), where p bounds from below how often the base classifier says the label under the noise.

    p is the lower end of a one-sided Clopper-Pearson interval: of so many bounds a share of at most `alpha` is too
    high. It speaks of the classifier that votes without end, of which the defense is a sample.
    """

    name, norms, kind, cheap = "smoothing", ("l2",), "statistical", True

    class Settings(arena.Settings):
        draws: int = Field(1000, ge=1, description="noisy copies of an image, others than the defense's")
        alpha: float = Field(0.001, gt=0, lt=1, description="probability that a value is too high")

    def refusal(self, defense: arena.Defense, shape: tuple[int, int, int]) -> str | None:
        return None if isinstance(defense, arena.Votes) else "it does not vote under Gaussian noise"

    @torch.no_grad()
    def run(self, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        assert isinstance(defense, arena.Votes)  # `refusal` has asked
        hits = np.zeros(len(x))
        draws, alpha = self.settings.draws, self.settings.alpha
        for done in range(0, draws, _BATCH):
            copies = min(_BATCH, draws - done), *x.shape[1:]
            noise = defense.sigma * torch.randn(copies, generator=rng).to(x)
            for row, (image, label) in enumerate(zip(x, y, strict=True)):
                hits[row] += int((defense.base_scores(image + noise).argmax(1) == label).sum())
        least = np.nan_to_num(stats.beta.ppf(alpha, hits, draws - hits + 1))  # 0 where none hits
        return torch.from_numpy(defense.sigma * stats.norm.ppf(least)).clamp_min(0)
