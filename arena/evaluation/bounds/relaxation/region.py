"""The ball of a norm around an image, inside the box [0, 1]: what linear functions reach there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from arena.evaluation.bounds.relaxation.rows import Interval, Rows
from arena.geometry.distances import per_row
from arena.geometry.halfspaces import project
from arena.geometry.norms import Norm, spec_of


@dataclass(frozen=True)
class Region:
    """All images of the box no further than `radius` [B] from the images x, float64 [B, C, H, W]."""

    norm: Norm
    x: Tensor
    radius: Tensor

    @cached_property
    def box(self) -> Interval:
        """The least box around it."""
        radius = per_row(self.radius, self.x)
        return Interval((self.x - radius).clamp_min(0), (self.x + radius).clamp_max(1))

    def minimum(self, rows: Rows, constant: Tensor) -> Tensor:
        """The least values [B, S] of the functions rows . image + constant [B, S]."""
        center = rows.dot(self.x) + constant
        normal, x = rows.values.flatten(2), rows.crop(self.x).flatten(1)[:, None]
        headroom = torch.where(normal < 0, 1 - x, x)
        return center - spec_of(self.norm).climb(normal.abs().expand_as(headroom), headroom, self.radius[:, None])

    def attained(self, rows: Rows, constant: Tensor) -> tuple[Tensor, Tensor]:
        """The same [B, S], and images [B, S, C, H, W] of the region at which it is attained: what is least changes with
        the coefficients as the image is."""
        shape = (*constant.shape, *self.x.shape[1:])
        with torch.enable_grad():
            normal = rows.whole(self.x.shape[1:]).detach().expand(shape).requires_grad_()
            least = self.minimum(Rows(normal), constant.detach())
            (images,) = torch.autograd.grad(least.sum(), normal)
        return least.detach(), images

    def crossing(self, rows: Rows, constant: Tensor) -> Tensor:
        """How far [B, S] the nearest image of the box is where a function is at most zero; infinity where none is."""
        rows_of_pixels = rows.whole(self.x.shape[1:])
        offset = rows.dot(self.x) + constant
        return project(self.norm, self.x.flatten(1)[:, None], -rows_of_pixels.flatten(2), offset).distance
