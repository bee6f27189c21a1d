"""Linear defenses whose minimal adversarial distances are known: what an attack finds is held against the optimum."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from arena.contracts import Defense, Gradient
from arena.record import Norm
from arena.settings import Settings

PIXELS = 28 * 28
INK, CONTRAST = 0.2, 0.1  # share of inked pixels, and how far it leans towards the class: distances like MNIST's
APART = 2**31  # added to seeds: an attack under the same seed would otherwise draw the weights as its noise


class LinearSettings(Settings):
    """`classes`: how many; `seed`: of the weights."""

    classes: int = Field(default=2, ge=2)
    seed: int = 0


class LinearDefense(Defense):
    """scores(x) = W x with Gaussian weights W; every distance to the decision boundary is known exactly."""

    name = "linear"
    gradient: ClassVar[Gradient] = "autograd"
    Settings = LinearSettings

    def __init__(self, weights: str | Path | None = None, device: str = "cpu", **settings: Any) -> None:
        super().__init__(weights, device, **settings)
        rng = torch.Generator().manual_seed(APART + self.settings.seed)
        self.matrix = 0.25 * torch.randn(self.settings.classes, PIXELS, generator=rng).to(self.device)

    def scores(self, x: Tensor) -> Tensor:
        return self._seen(x).flatten(1) @ self.matrix.T

    def sample_images(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Images [n, 1, 28, 28] in [0, 1], mostly zeros as MNIST's, and the labels [n] that this defense gives them.

        Each image has slightly more ink where a random class has its larger weights. For two classes the minimal
        distances have medians of about 1.4 (L2), 0.08 (Linf) and 13 pixels (L0).
        """
        rng = torch.Generator().manual_seed(APART + seed)
        classes = torch.randint(self.settings.classes, (n,), generator=rng)
        likes = (self.matrix - self.matrix.mean(0)).sign().cpu()[classes]
        inked = torch.rand(n, PIXELS, generator=rng) < INK + CONTRAST * likes
        x = (inked * torch.rand(n, PIXELS, generator=rng)).view(n, 1, 28, 28).to(self.device)
        return x, self.scores(x).argmax(1)

    def minimal_distance(self, norm: Norm, x: Tensor) -> Tensor:
        """Distance [B], float64, from images x [B, 1, 28, 28] to the nearest image in the box [0, 1] of another class.

        It is an infimum: an image at exactly this distance lies on the boundary. Infinity where no image of the box
        is of another class. Minimum over the other classes, each a linear problem (minimise ||d||, w . d >= gap).
        """
        seen = self._seen(x).flatten(1).double()
        matrix = self.matrix.double()
        scores = seen @ matrix.T
        label = scores.argmax(1, keepdim=True)
        gap = scores.gather(1, label) - scores  # [B, classes]
        slope = matrix - matrix[label]  # [B, classes, pixels]: how each pixel closes the gap to each class
        distances = self._boundary(norm, x.flatten(1).double()[:, None], slope, gap)
        return distances.scatter(1, label, torch.inf).amin(1)

    def _seen(self, x: Tensor) -> Tensor:
        return x

    def _boundary(self, norm: Norm, x: Tensor, slope: Tensor, gap: Tensor) -> Tensor:
        """Minimal distances [B, classes] for pixels x [B, 1, P], slope [B, classes, P] and gap [B, classes]."""
        room = torch.where(slope > 0, 1 - x, x)  # how far each pixel can move before it meets the box
        steep = slope.abs().clamp_min(1e-12)
        if norm == "l0":
            return knapsack(torch.ones_like(steep), steep * room, gap).ceil()
        if norm == "linf":
            return water_level(steep, room, gap)
        multiplier = water_level(steep.square(), room / steep, gap)[..., None]  # d_i = clip(multiplier w_i, box)
        length = torch.minimum(multiplier * steep, room).square().sum(-1).sqrt()
        return torch.where(multiplier[..., 0].isinf(), torch.inf, length)


class BinaryLinearDefense(LinearDefense):
    """The same over pixels binarised at 0.5, with a straight-through gradient.

    Only flips count: each costs one pixel (L0) or |x_i - 0.5|. `minimal_distance` is exact in L0 and Linf; in L2,
    where the exact problem is a knapsack, it is the fractional lower bound (at most one flip short).
    """

    name = "binary-linear"
    gradient: ClassVar[Gradient] = "straight-through"
    binary_threshold = 0.5

    def _seen(self, x: Tensor) -> Tensor:
        return (x >= self.binary_threshold).to(x.dtype) + (x - x.detach())

    def _boundary(self, norm: Norm, x: Tensor, slope: Tensor, gap: Tensor) -> Tensor:
        gain = torch.where(x >= self.binary_threshold, -slope, slope).clamp_min(0)  # of flipping each pixel
        cost = (x - self.binary_threshold).abs().expand_as(gain)
        if norm == "l0":
            return knapsack(torch.ones_like(gain), gain, gap).ceil()
        if norm == "l2":
            return knapsack(cost.square(), gain, gap).sqrt()
        cost, order = cost.sort(dim=-1)
        reached = _first(gain.gather(-1, order).cumsum(-1) >= gap[..., None], cost)
        return torch.where(gap > 0, reached, 0.0)


def water_level(rate: Tensor, limit: Tensor, gap: Tensor) -> Tensor:
    """The smallest t [...] with sum_i rate_i min(t, limit_i) >= gap [...], for rate and limit [..., P]; or infinity."""
    limit, order = limit.sort(dim=-1)
    rate = rate.gather(-1, order)
    full = (rate * limit).cumsum(-1) - rate * limit  # what the items before this one give, all at their limits
    rising = rate.flip(-1).cumsum(-1).flip(-1)  # the rate of this item and those after it
    level = (gap[..., None] - full) / rising  # where the gap closes if exactly the items before are full
    return _first(level <= limit, level)


def knapsack(cost: Tensor, gain: Tensor, gap: Tensor) -> Tensor:
    """The smallest cost [...] of fractions of items (cost and gain [..., P]) that gain at least gap; or infinity."""
    order = (gain / cost.clamp_min(1e-12)).argsort(dim=-1, descending=True)
    cost, gain = cost.gather(-1, order), gain.gather(-1, order)
    gained, spent = gain.cumsum(-1), cost.cumsum(-1)
    fraction = (gap[..., None] - (gained - gain)) / gain.clamp_min(1e-12)
    return _first(gained >= gap[..., None], spent - cost + fraction * cost)


def _first(reached: Tensor, values: Tensor) -> Tensor:
    """values [..., P] at the first True of reached [..., P]; infinity where there is none."""
    first = reached.to(torch.uint8).argmax(-1, keepdim=True)
    return torch.where(reached.any(-1), values.gather(-1, first)[..., 0], torch.inf)
