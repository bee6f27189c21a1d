"""Perturbed pixels go back to their clean values, one by one, as long as the image stays adversarial."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from arena.geometry.norms import Norm, spec_of
from arena.target.target import Target


class Reset:
    """Images on their way back to the clean ones, one a row: `restarts` for each sample.

    A pixel goes back with all its channels in a norm that counts pixels; in others each value is a pixel by itself.
    """

    def __init__(self, target: Target, x: Tensor, y: Tensor, norm: Norm, restarts: int, rng: torch.Generator) -> None:
        self.target, self.rng, self.shape, self.restarts = target, rng, x.shape[1:], restarts
        self.channels = x.shape[1] if spec_of(norm).counts else 1
        self.index = torch.arange(len(x), device=x.device).repeat(restarts)  # the sample of each row
        self.y = y[self.index]
        self.clean = self.split(x)[self.index]  # [rows, channels, pixels]
        self.image = self.clean.clone()

    def split(self, x: Tensor) -> Tensor:
        """Images x [n, ...] as [n, channels, pixels]."""
        return x.reshape(len(x), self.channels, -1)

    def perturbed(self) -> Tensor:
        """Which pixels [rows, pixels] differ from the clean image."""
        return (self.image != self.clean).any(1)

    def reset(self, rows: Tensor | None = None) -> None:
        """Passes over the perturbed pixels of `rows` (default: all), until one pass resets none of a row."""
        rows = self.perturbed_rows() if rows is None else rows
        while len(rows):
            improved = torch.zeros_like(self.index, dtype=torch.bool)
            for at, pixel in self.in_random_order(rows):
                improved[at] |= self.set(at, pixel, self.values(self.clean[at], pixel))
            rows = rows[improved[rows]]

    def perturbed_rows(self) -> Tensor:
        return self.perturbed().any(1).nonzero().flatten()

    def in_random_order(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The perturbed pixels of `rows`, one a row at a time: which rows [n] have one left, and the pixel [n, 1]."""
        perturbed = self.perturbed()[rows]
        draw = torch.rand(perturbed.shape, generator=self.rng).to(perturbed.device)
        order = torch.where(perturbed, draw, torch.inf).argsort(1)
        count = perturbed.sum(1)
        for position in range(int(count.max()) if len(count) else 0):
            left = (count > position).nonzero().flatten()
            yield rows[left], order[left, position, None]

    def set(self, rows: Tensor, pixel: Tensor, value: Tensor) -> Tensor:
        """Set one pixel [n, 1] of each row to value [n, channels, 1] where that stays misclassified; returns where."""
        return self.take(rows, self.image[rows].scatter(2, self._everywhere(pixel), value))

    def values(self, image: Tensor, pixel: Tensor) -> Tensor:
        """One pixel [n, 1] of each image [n, channels, pixels], [n, channels, 1]."""
        return image.gather(2, self._everywhere(pixel))

    def _everywhere(self, pixel: Tensor) -> Tensor:
        return pixel[:, None].expand(-1, self.channels, -1)

    def take(self, rows: Tensor, image: Tensor) -> Tensor:
        """Set `rows` [n] to those of the images [n, channels, pixels] that are misclassified; returns which [n] are."""
        success = self.target.labels(image.view(-1, *self.shape), self.index[rows]) != self.y[rows]
        self.image[rows[success]] = image[success]
        return success


def reset_best(target: Target, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
    """The closest adversarials [B, ...] after resetting what pixels can be reset of those seen so far."""
    walk = Reset(target, x, y, norm, 1, rng)
    walk.image = walk.split(target.best)
    walk.reset()
    return target.best
