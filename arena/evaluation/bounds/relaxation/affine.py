"""Affine pieces of a network: exact in both directions, up to what intervals lose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arena.evaluation.bounds.relaxation.rows import Interval, Rows, Shape


class Pulled(NamedTuple):
    """Rows of a node as rows of its inputs, and the constants [B, S] that come with them (None: zero)."""

    rows: Sequence[Rows]
    constant: Tensor | None


class Affine(ABC):
    """A piece that is affine in its inputs."""

    @abstractmethod
    def forward(self, *values: Tensor) -> Tensor:
        """Its values [N, *shape]."""

    @abstractmethod
    def interval(self, *bounds: Interval) -> Interval:
        """Bounds of its values, by interval arithmetic."""

    @abstractmethod
    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        """Rows of its values, which are [*shape], as rows of those of its inputs."""


class _Weighted(Affine):
    """Weights and a bias."""

    weight: Tensor
    bias: Tensor

    @abstractmethod
    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """The weights' product with x, without the bias."""

    @abstractmethod
    def spread_bias(self) -> Tensor:
        """The bias, so that it is added to values."""

    def forward(self, *values: Tensor) -> Tensor:
        return self.apply(values[0], self.weight) + self.spread_bias()

    def interval(self, *bounds: Interval) -> Interval:
        low, high = bounds[0]
        center = self.forward((low + high) / 2)
        radius = self.apply((high - low) / 2, self.weight.abs())
        return Interval(center - radius, center + radius)


@dataclass(frozen=True)
class Linear(_Weighted):
    """x W^T + b, on the last dimension."""

    weight: Tensor  # [out, in]
    bias: Tensor  # [out]

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.T

    def spread_bias(self) -> Tensor:
        return self.bias

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        values = rows.whole(shape)
        constant = (values @ self.bias).flatten(2).sum(-1) if values.ndim > 3 else values @ self.bias
        return Pulled([Rows(values @ self.weight)], constant)


@dataclass(frozen=True)
class Convolution(_Weighted):
    """A convolution in two dimensions with zeros around the image."""

    weight: Tensor  # [out, in / groups, height, width]
    bias: Tensor  # [out]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def spread_bias(self) -> Tensor:
        return self.bias[:, None, None]

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        images, count = rows.values.shape[:2]
        pulled = self._transposed(rows.values.flatten(0, 1)).unflatten(0, (images, count))
        top, left = (rows.corner[i] * self.stride[i] - self.padding[i] for i in (0, 1))
        return Pulled([Rows(pulled, (top, left)).within(*inputs[0][1:])], rows.values.sum((-2, -1)) @ self.bias)

    def _transposed(self, values: Tensor) -> Tensor:
        """As `conv_transpose2d` without padding, in one matrix product: in float64 torch makes one for each row."""
        if self.groups > 1:
            return functional.conv_transpose2d(values, self.weight, None, self.stride, 0, 0, self.groups, self.dilation)
        kernel, window = self.weight.shape[2:], values.shape[2:]
        sides = zip(window, self.stride, kernel, self.dilation, strict=True)
        size = tuple((n - 1) * stride + (k - 1) * dilation + 1 for n, stride, k, dilation in sides)
        cells = values.flatten(2).mT.contiguous() @ self.weight.flatten(1)
        return functional.fold(cells.mT, size, kernel, self.dilation, 0, self.stride)


@dataclass(frozen=True)
class Scale(Affine):
    """Each value times a factor, plus a shift."""

    factor: Tensor  # [*shape]
    shift: Tensor  # [*shape]

    def forward(self, *values: Tensor) -> Tensor:
        return values[0] * self.factor + self.shift

    def interval(self, *bounds: Interval) -> Interval:
        ends = self.forward(bounds[0].low), self.forward(bounds[0].high)
        return Interval(torch.minimum(*ends), torch.maximum(*ends))

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        return Pulled([Rows(rows.values * rows.crop(self.factor), rows.corner)], rows.dot(self.shift))


@dataclass(frozen=True)
class Arrangement(Affine):
    """A linear function none of whose coefficients is negative: views, permutations, means, sums, concatenation.

    Its transpose is what autograd pulls back.
    """

    function: Callable[..., Tensor]  # of inputs [N, *shape], each row by itself

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values)

    def interval(self, *bounds: Interval) -> Interval:
        return Interval(self.function(*(b.low for b in bounds)), self.function(*(b.high for b in bounds)))

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        values = rows.whole(shape)
        images, count = values.shape[:2]
        zeros = [values.new_zeros(images * count, *input) for input in inputs]
        transpose = torch.func.vjp(self.function, *zeros)[1]
        return Pulled([Rows(part.unflatten(0, (images, count))) for part in transpose(values.flatten(0, 1))], None)


@dataclass(frozen=True)
class Sum(Affine):
    """The sum of two nodes of the same shape, as where a residual block ends."""

    def forward(self, *values: Tensor) -> Tensor:
        return values[0] + values[1]

    def interval(self, *bounds: Interval) -> Interval:
        return Interval(bounds[0].low + bounds[1].low, bounds[0].high + bounds[1].high)

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        return Pulled([rows, rows], None)
