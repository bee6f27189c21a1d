"""The maximum over windows, between two linear functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from arena.evaluation.bounds.relaxation.activations import Nonlinear, Relaxation
from arena.evaluation.bounds.relaxation.affine import Pulled
from arena.evaluation.bounds.relaxation.rows import Interval, Rows, Shape


@dataclass(frozen=True)
class MaxPool(Nonlinear):
    """The greatest value of each window of an image [C, H, W]. Cells of the padding never win."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, self.kernel, self.stride, self.padding)

    def interval(self, bounds: Interval) -> Interval:
        return Interval(self.forward(bounds.low), self.forward(bounds.high))

    def choices(self, bounds: Interval) -> Tensor:
        """The share of the sloped upper function: all or nothing, by which is lower at the middle."""
        low, high = self._windows(bounds)
        slope, offset = _sloped(low, high)
        middle = (slope * (low + high) / 2).sum(2) + offset
        return (middle < high.amax(2)).to(low).view(1, len(low), 1, *self._shape(bounds))

    def relax(self, bounds: Interval, choices: Tensor) -> MaxPoolBounds:
        """From below the value whose lower bound is greatest. From above, with m that bound,

            max_i z_i <= m + sum_i max(0, z_i - m) <= m + sum_i u_i - m / (u_i - l_i) (z_i - l_i)   (over u_i > m),

        or the greatest upper bound, or any mixture of the two.
        """
        low, high = self._windows(bounds)
        lower = functional.one_hot(low.argmax(2), low.shape[2]).movedim(-1, 2).to(low)
        slope, offset = _sloped(low, high)
        shape = self._shape(bounds)

        def spread(windows: Tensor) -> Tensor:
            return windows.unflatten(-1, shape[1:])[:, None]

        constant = high.amax(2).unflatten(-1, shape[1:])[:, None]
        share = choices[0]
        offset = share * offset.unflatten(-1, shape[1:])[:, None] + (1 - share) * constant
        return MaxPoolBounds(self, spread(lower), spread(slope), share, offset)

    def _shape(self, bounds: Interval) -> Shape:
        return self.forward(bounds.low[:1]).shape[1:]

    def _windows(self, bounds: Interval) -> Interval:
        """The bounds of each window's values, [B, C, kernel, positions]."""
        (height, width), channels = self.padding, bounds.low.shape[1]
        least = float(bounds.low.min()) - 1
        padded = (functional.pad(part, (width, width, height, height), value=least) for part in bounds)
        windows = (functional.unfold(part, self.kernel, stride=self.stride) for part in padded)
        return Interval(*(part.unflatten(1, (channels, -1)) for part in windows))


def _sloped(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes [B, C, K, L] of a linear function above the maximum of K values, and its offset [B, C, L]."""
    level = low.amax(2, keepdim=True)
    above = high > level
    slope = torch.where(above, (high - level) / (high - low).clamp_min(torch.finfo(low.dtype).tiny), 0).clamp(0, 1)
    # A value that certainly is above the level, the one that sets it, is itself: slope 1.
    offset = (level + (torch.where(above, -slope * low, 0)).sum(2, keepdim=True))[:, :, 0]
    return slope, offset


@dataclass(frozen=True)
class MaxPoolBounds(Relaxation):
    """Coefficients of the values of each window, [B, 1, C, K, H, W]; share and offset [B, S or 1, C, H, W]."""

    pool: MaxPool
    lower: Tensor
    slope: Tensor
    share: Tensor
    offset: Tensor

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        positive, negative = rows.values.clamp_min(0), rows.values.clamp_max(0)
        sloped = (negative * rows.crop(self.share))[:, :, :, None]
        windows = positive[:, :, :, None] * rows.crop(self.lower) + sloped * rows.crop(self.slope)
        images, count, channels, kernel, height, width = windows.shape
        pool = self.pool
        size = tuple((n - 1) * pool.stride[i] + pool.kernel[i] for i, n in enumerate((height, width)))
        cells = windows.reshape(images * count, channels * kernel, height * width)
        pulled = functional.fold(cells, size, pool.kernel, stride=pool.stride).unflatten(0, (images, count))
        top, left = (rows.corner[i] * pool.stride[i] - pool.padding[i] for i in (0, 1))
        constant = Rows(negative, rows.corner).dot(self.offset if self.offset.shape[1] > 1 else self.offset[:, 0])
        return Pulled([Rows(pulled, (top, left)).within(*inputs[0][1:])], constant)
