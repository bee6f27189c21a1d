"""What is carried backwards: coefficients of linear functions of one node's values; and intervals of those values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

Shape = tuple[int, ...]


class Interval(NamedTuple):
    """Bounds of a node's values, [B, *shape] each."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Rows:
    """Coefficients [B, S, *shape] of S linear functions of a node's values, for each of B images (1: for all alike).

    Of a node [C, H, W] a window [C, h, w] is kept, which begins at `corner`; outside it they are zero. What
    convolutions compute depends on few pixels, and most of the work would be on zeros.
    """

    values: Tensor
    corner: tuple[int, int] = (0, 0)

    def crop(self, tensor: Tensor) -> Tensor:
        """The window of a tensor [..., *shape] of the node."""
        if self.values.ndim < 5:
            return tensor
        (top, left), (height, width) = self.corner, self.values.shape[-2:]
        return tensor[..., top : top + height, left : left + width]

    def whole(self, shape: Shape) -> Tensor:
        """The coefficients of all values, [B, S, *shape]."""
        if self.values.ndim < 5 or self.values.shape[2:] == shape:
            return self.values
        (top, left), (height, width) = self.corner, self.values.shape[-2:]
        return pad(self.values, (left, shape[2] - left - width, top, shape[1] - top - height))

    def within(self, height: int, width: int) -> Rows:
        """The same, less what lies outside a node of that size: a convolution's padding."""
        top, left = max(-self.corner[0], 0), max(-self.corner[1], 0)
        bottom, right = height - self.corner[0], width - self.corner[1]
        return Rows(self.values[..., top:bottom, left:right], (self.corner[0] + top, self.corner[1] + left))

    def dot(self, tensor: Tensor) -> Tensor:
        """Their product [B, S] with a tensor of the node: [*shape] for all, [B, *shape] for each image, or
        [B, S, *shape] for each row."""
        own, other = self.values.flatten(2), self.crop(tensor)
        if other.ndim == self.values.ndim:
            return (own * other.flatten(2)).sum(-1)
        if other.ndim == self.values.ndim - 2:
            return own @ other.flatten()
        return torch.matmul(own, other.flatten(1)[..., None])[..., 0]

    def __add__(self, other: Rows) -> Rows:
        if self.values.ndim < 5 or (self.corner == other.corner and self.values.shape[2:] == other.values.shape[2:]):
            return Rows(self.values + other.values, self.corner)
        corner = (min(self.corner[0], other.corner[0]), min(self.corner[1], other.corner[1]))
        ends = [[one.corner[i] + one.values.shape[3 + i] for i in (0, 1)] for one in (self, other)]
        bottom, right = (max(end[i] for end in ends) for i in (0, 1))
        shape = (self.values.shape[2], bottom - corner[0], right - corner[1])
        moved = [Rows(r.values, (r.corner[0] - corner[0], r.corner[1] - corner[1])).whole(shape) for r in (self, other)]
        return Rows(moved[0] + moved[1], corner)


def unit_rows(wanted: Tensor, place: tuple[int, int], like: Tensor) -> Rows:
    """A row for each of the wanted [C, h, w] values of a window that begins at `place`."""
    index = wanted.flatten().nonzero().flatten()
    rows = torch.zeros(len(index), wanted.numel(), dtype=like.dtype, device=like.device)
    rows[torch.arange(len(index), device=index.device), index] = 1
    return Rows(rows.view(1, len(index), *wanted.shape), place)
