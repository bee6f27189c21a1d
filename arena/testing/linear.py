"""Linear defenses whose minimal adversarial distances are known: what an attack finds is held against the optimum."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from arena.data import DEFAULT
from arena.geometry.halfspaces import project, project_by_flips
from arena.geometry.norms import Norm, spec_of
from arena.interface.contracts import Gradient
from arena.interface.settings import Settings
from arena.testing.known import KnownDefense

INK, CONTRAST = 0.2, 0.1  # share of inked pixels, and how far it leans towards the class: distances as of digits in ink
APART = 2**31  # added to seeds: an attack under the same seed would otherwise draw the weights as its noise


class LinearSettings(Settings):
    classes: int = Field(2, ge=2, description="how many")
    seed: int = Field(0, description="of the weights")
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        DEFAULT.shape, description="channels, height and width of the images"
    )


class LinearDefense(KnownDefense):
    """scores(x) = W x with Gaussian weights W; every distance to the decision boundary is known exactly."""

    name = "linear"
    gradient: ClassVar[Gradient] = "autograd"
    Settings = LinearSettings

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        rng = torch.Generator().manual_seed(APART + self.settings.seed)
        values = math.prod(self.settings.shape)
        self.matrix = 0.25 * torch.randn(self.settings.classes, values, generator=rng).to(self.device)

    def scores(self, x: Tensor) -> Tensor:
        return self._input(x).flatten(1) @ self.matrix.T

    def sample_images(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] in [0, 1], mostly zeros, and the labels [n] that this defense gives them.

        Each image has slightly more ink where a random class has its larger weights. For two classes the minimal
        distances have, for images of the default shape, medians of about 1.4 (L2), 0.08 (Linf) and 13 pixels (L0).
        """
        rng = torch.Generator().manual_seed(APART + seed)
        classes = torch.randint(self.settings.classes, (n,), generator=rng)
        likes = (self.matrix - self.matrix.mean(0)).sign().cpu()[classes]
        inked = torch.rand(likes.shape, generator=rng) < INK + CONTRAST * likes
        x = (inked * torch.rand(likes.shape, generator=rng)).view(n, *self.settings.shape).to(self.device)
        return x, self.scores(x).argmax(1)

    def minimal_distance(self, norm: Norm, x: Tensor) -> Tensor:
        """The minimum over the other classes, each a linear problem (minimise ||d||, w . d >= gap)."""
        input = self._input(x).flatten(1).double()
        matrix = self.matrix.double()
        scores = input @ matrix.T
        label = scores.argmax(1, keepdim=True)
        gap = scores.gather(1, label) - scores  # [B, classes]
        slope = matrix - matrix[label]  # [B, classes, pixels]: how each pixel closes the gap to each class
        distances = self._boundary(norm, x.flatten(1).double()[:, None], slope, gap)
        return distances.scatter(1, label, torch.inf).amin(1)

    def _input(self, x: Tensor) -> Tensor:
        return x

    def _boundary(self, norm: Norm, x: Tensor, slope: Tensor, gap: Tensor) -> Tensor:
        """Minimal distances [B, classes] for pixels x [B, 1, P], slope [B, classes, P] and gap [B, classes]."""
        distance = project(norm, x, slope, gap, self.settings.shape[0]).distance
        return distance.ceil() if spec_of(norm).counts else distance


class BinaryLinearDefense(LinearDefense):
    """The same over pixels binarised at 0.5, with a straight-through gradient.

    Only flips count: each costs one pixel (L0) or |x_i - 0.5|. `minimal_distance` is exact in L0 and Linf; in L1 and
    L2, where the exact problem is a knapsack, it is the fractional lower bound (at most one flip short).
    """

    name = "binary-linear"
    gradient: ClassVar[Gradient] = "straight-through"
    binary_threshold = 0.5

    def _input(self, x: Tensor) -> Tensor:
        return (x >= self.binary_threshold).to(x.dtype) + (x - x.detach())

    def _boundary(self, norm: Norm, x: Tensor, slope: Tensor, gap: Tensor) -> Tensor:
        channels = self.settings.shape[0]
        distance = project_by_flips(norm, x, slope, gap, self.binary_threshold, channels=channels).distance
        return distance.ceil() if spec_of(norm).counts else distance
