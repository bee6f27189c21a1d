"""Linear defenses that offer what few do: an exact gradient, reconstructions by each class, votes under noise."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from arena.interface.contracts import Gradient
from arena.interface.prototypes import FiniteSet
from arena.testing.linear import LinearDefense


class ExactLinearDefense(LinearDefense):
    """Knows its gradient; autograd does not."""

    name = "exact-linear"
    gradient: ClassVar[Gradient] = "exact"

    def scores(self, x: Tensor) -> Tensor:
        return super().scores(x.detach())

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x), self.matrix.view(1, -1, *x.shape[1:]).expand(len(x), -1, -1, -1, -1)


class VotingLinear(LinearDefense):
    """What the votes of a linear classifier under Gaussian noise come to: of two classes the same plane."""

    name = "voting-linear"
    sigma = 0.25

    def base_scores(self, x: Tensor) -> Tensor:
        return self.scores(x)


class LinearPrototypes(LinearDefense):
    """Takes every image for one of its own, the weights: all of one length, so that the linear score is highest for
    the nearest."""

    name = "linear-prototypes"

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        images = (0.5 + self.matrix).clamp(0, 1)
        lengths = images.norm(dim=1, keepdim=True)
        self.matrix = images * lengths.min() / lengths

    @cached_property
    def prototypes(self) -> FiniteSet:
        """One a class: the nearest decides, as the highest linear score does."""
        return FiniteSet(self.matrix.split(1))

    def reconstructions(self, x: Tensor) -> Tensor:
        """The image that each class takes x [B, C, H, W] for, [B, classes, C, H, W]."""
        return self.matrix.view(1, -1, *x.shape[1:]).expand(len(x), -1, -1, -1, -1)

    def sample_images(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] in [0, 1], four parts a prototype and one part noise, and their labels [n]."""
        rng = torch.Generator().manual_seed(seed)
        own = self.matrix[torch.randint(self.settings.classes, (n,), generator=rng)].view(n, *self.settings.shape)
        x = own.lerp(torch.rand(own.shape, generator=rng).to(own.device), 0.2)
        return x, self.scores(x).argmax(1)
