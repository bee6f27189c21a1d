"""The nearest neighbour as a torch module: a score is a minimum over the training images of a class."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ROWS = 256  # images at a time: 60 MB for 60 000 prototypes, and enough for the matrix product's full rate
_PAIRS = 4096  # differences of an image and a prototype at a time: 13 MB
_CLOSE, _CLOSE_L1 = 0.5, 2.0  # up to here, in L2 or in L1, a batch has few candidates in common
_ROUNDING = 1e-3  # more than float32 can err in a rank
_LEVELS, _HALF = 255, 128  # of a pixel in 8 bits
_MANY = 64  # candidates of an image and class from which on 8 bits decide too little


class _Reach(NamedTuple):
    """How far images lie from the one that stands for them, at most: in L2 and in L1."""

    radius: float
    l1: float

    @classmethod
    def of(cls, moved: Tensor) -> _Reach:
        """Of images less their center [n, D]."""
        return cls(float(moved.norm(dim=1).max()), float(moved.abs().sum(1).max()))

    def slack(self, least: Tensor) -> Tensor:
        """By how much a prototype may exceed the `least` distance to the center, in squares, and still be the nearest.

        By the triangle inequality it is at most 2 radius farther; and moving an image by m changes the squared
        distance to s by ||m||^2 + 2 m.c - 2 m.s, of which what depends on s spans at most 2 ||m||_1.
        """
        return (4 * self.radius * (least + self.radius)).clamp_max(2 * self.l1)


class NearestNeighborModel(nn.Module):
    """logit_c = - min over the prototypes s of class c of ||x - s||_2 (paper, appendix A.5).

    A matrix product leaves few candidates, then the distances to these are computed by subtraction: the expanded form
    of the distance alone would lose digits where it is small. A batch whose rows are close together, such as that of
    an estimated gradient, has few candidates in common.

    Args:
        x: prototypes, float32 [N, C, H, W] in [0, 1].
        y: their labels, int64 [N]; each of the classes 0 .. max(y) has at least one.
    """

    prototypes: Tensor
    half_norms: Tensor
    mean: Tensor
    classes: Tensor

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.sizes: list[int] = y.bincount().tolist()
        self.register_buffer("prototypes", x.flatten(1)[y.argsort(stable=True)])
        self.register_buffer("classes", y.sort().values)
        self.register_buffer("mean", self.prototypes.mean(0))
        norms = [(block.double() - self.mean).square().sum(1) for block in self.prototypes.split(self.sizes)]
        self.register_buffer("half_norms", (torch.cat(norms) / 2).float())

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of the images x, float32 [B, C, H, W]; scratch memory does not grow with B."""
        return -torch.cat([distances for distances, _ in self._nearest(x.flatten(1))])

    @torch.no_grad()
    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same logits and their gradients [B, classes, C, H, W], the unit vectors towards the nearest prototypes.

        That of a minimum is that of what attains it (envelope theorem). Zero, a subgradient, at a prototype itself.
        """
        images = x.flatten(1)
        distances, nearest = (torch.cat(parts) for parts in zip(*self._nearest(images), strict=True))
        offsets = images.unsqueeze(1) - self.prototypes[nearest]
        gradients = offsets.div_(-distances.clamp_min(torch.finfo(x.dtype).tiny).unsqueeze(2))
        return -distances, gradients.view(*distances.shape, *x.shape[1:])

    def _nearest(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each class the distance from each of the images x [B, D] to the nearest prototype, and its number: parts
        of [n, classes]."""
        if not len(x):
            yield x.new_empty(0, len(self.sizes)), self.classes.new_empty(0, len(self.sizes))
            return
        center = x.mean(0)
        reach = _Reach.of(x - center)
        if reach.radius <= _CLOSE or reach.l1 <= _CLOSE_L1:
            pool = self._candidates(center.unsqueeze(0), reach)[:, 1]
            yield from (self._nearest_around(center, rows, pool) for rows in x.split(_ROWS))
        elif len(x) <= _ROWS:
            yield self._nearest_of(x)
        else:
            for half in x.tensor_split(2):
                yield from self._nearest(half)

    def _nearest_around(self, center: Tensor, x: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
        """Of images x [n, D] close to `center` [D], among the prototypes of these numbers, sorted by class.

        ||x - s||^2 = ||x - c||^2 + 2 (x - c).(c - s) + ||c - s||^2: in float64 no digit of a float32 is lost.
        """
        moved, offsets = (x - center).double(), center.double() - self.prototypes[pool]
        squares = torch.addmm(offsets.square().sum(1), moved, offsets.T, alpha=2) + moved.square().sum(1, keepdim=True)
        sizes = self.classes[pool].bincount().tolist()
        least = [of_class.min(1) for of_class in squares.split(sizes, dim=1)]
        nearest = torch.stack([indices for _, indices in least], 1)
        distances = torch.stack([values for values, _ in least], 1).clamp_min(0).sqrt().to(x.dtype)
        first = torch.tensor([0, *sizes[:-1]], device=x.device).cumsum(0)
        return distances, pool[first + nearest]

    def _nearest_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of any images x [n, D]."""
        row, number = self._candidates(x, _Reach(0.0, 0.0)).T
        pairs = zip(row.split(_PAIRS), number.split(_PAIRS), strict=True)
        distances = torch.cat([(x[rows] - self.prototypes[numbers]).norm(dim=1) for rows, numbers in pairs])
        place = row * len(self.sizes) + self.classes[number]
        least = distances.new_empty(len(x) * len(self.sizes))
        least.scatter_reduce_(0, place, distances, "amin", include_self=False)
        equal = distances == least[place]
        nearest = torch.empty_like(least, dtype=torch.int64)
        nearest.scatter_reduce_(0, place[equal], number[equal], "amin", include_self=False)
        return least.view(len(x), -1), nearest.view(len(x), -1)

    def _candidates(self, x: Tensor, reach: _Reach) -> Tensor:
        """The prototypes that can be the nearest of their class to an image within reach of one of x [n, D]: for each
        the number of that row and its own, [K, 2] in order."""
        if self._fits_8_bits(x):
            pairs = self._candidates_of_8_bits(x, reach)
            if len(pairs) <= _MANY * len(x) * len(self.sizes):
                return pairs
        # With m the mean, d^2 / 2 = ||s - m||^2 / 2 - (x - m).s + (||x||^2 - ||m||^2) / 2. Small numbers keep digits.
        ranks = torch.addmm(self.half_norms, x - self.mean, self.prototypes.T, alpha=-1)
        rest = (x.square().sum(1, keepdim=True) - self.mean.square().sum()) / 2
        kept = []
        for of_class in ranks.split(self.sizes, dim=1):
            least = of_class.amin(1, keepdim=True)
            d = (2 * (least + rest + _ROUNDING)).clamp_min(0).sqrt()
            kept.append(of_class <= least + reach.slack(d) / 2 + _ROUNDING)
        return torch.cat(kept, 1).nonzero()

    def _candidates_of_8_bits(self, x: Tensor, reach: _Reach) -> Tensor:
        """The same by a product of integers, which is exact, three times as fast, and reads a quarter of the memory.

        Rounding to 8 bits moves images and prototypes by known lengths, and changes a distance by no more.
        """
        codes, norms, moved = self._codes
        rounded = _rounded(x)
        away = (_restored(rounded) - x).norm(dim=1, keepdim=True) + moved
        norm = rounded.double().square().sum(1, keepdim=True)
        products = torch._int_mm(rounded, codes.T)
        ranks = torch.sub(norms, products, alpha=2, out=products)  # d^2 less `norm`, in units of 1 / 255
        kept = []
        for of_class in ranks.split(self.sizes, dim=1):
            d = (of_class.amin(1, keepdim=True) + norm).sqrt() / _LEVELS + away
            farthest = (d.square() + reach.slack(d)).sqrt() + away
            kept.append(of_class <= ((_LEVELS * farthest).square() - norm).ceil().int())
        return torch.cat(kept, 1).nonzero()

    @cached_property
    def _codes(self) -> tuple[Tensor, Tensor, float]:
        """The prototypes in 8 bits [N, D], their squared norms, int32 [N], and how far rounding moved one at most."""
        codes, norms, moved = [], [], 0.0
        for images in self.prototypes.split(_PAIRS):
            codes.append(_rounded(images))
            norms.append(codes[-1].int().square().sum(1, dtype=torch.int32))
            moved = max(moved, float((_restored(codes[-1]) - images).norm(dim=1).max()))
        return torch.cat(codes), torch.cat(norms), moved

    def _fits_8_bits(self, x: Tensor) -> bool:
        """Whether squared distances fit 32 bits, and the processor has vectors of integers to multiply."""
        fast = x.device.type == "cpu" and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        return fast and x.shape[1] * (_LEVELS + 1) ** 2 < 2**30


def _rounded(x: Tensor) -> Tensor:
    """Pixels in 8 bits: int8, -128 for 0."""
    return (x * _LEVELS - _HALF).round().clamp(-_HALF, _HALF - 1).to(torch.int8)


def _restored(codes: Tensor) -> Tensor:
    """The pixels that the codes stand for, float64."""
    return (codes.double() + _HALF) / _LEVELS
