"""Elementwise functions, each between two lines.

Where a function is convex, it lies above each of its tangents and below its chord; where it is concave, the other way
around. Which tangent is a free choice in [0, 1], that an optimiser can make: every choice is sound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arena.evaluation.bounds.relaxation.affine import Pulled
from arena.evaluation.bounds.relaxation.rows import Interval, Rows, Shape

_NARROW = 1e-6  # intervals below are bounded by constants: the slope of so short a chord is mostly rounding
_HALVINGS = 40  # of the interval where a tangent touches


class Relaxation(ABC):
    """Linear bounds of a piece that is not affine, over known intervals of its input."""

    @abstractmethod
    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        """Rows of its values as rows of its input that are nowhere greater."""


class Nonlinear(ABC):
    """A piece that is not affine: one input, and bounds that depend on where that lies."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Its values [N, *shape]."""

    @abstractmethod
    def interval(self, bounds: Interval) -> Interval:
        """The bounds of its values."""

    def settled(self, bounds: Interval) -> Tensor:
        """Where it is linear all over the bounds [B, *shape], so that tighter ones would not help."""
        return torch.zeros_like(bounds.low, dtype=torch.bool)

    @abstractmethod
    def choices(self, bounds: Interval) -> Tensor:
        """A good choice of lines, [K, B, 1, *shape] in [0, 1]: K numbers for each value."""

    @abstractmethod
    def relax(self, bounds: Interval, choices: Tensor) -> Relaxation:
        """Its lines for choices [K, B, S or 1, *shape] in [0, 1]."""


@dataclass(frozen=True)
class Lines(Relaxation):
    """low_slope x + low_offset <= f(x) <= high_slope x + high_offset, [B, S or 1, *shape] each."""

    low_slope: Tensor
    low_offset: Tensor
    high_slope: Tensor
    high_offset: Tensor

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        positive, negative = (Rows(part, rows.corner) for part in (rows.values.clamp_min(0), rows.values.clamp_max(0)))
        pulled = positive.values * rows.crop(self.low_slope) + negative.values * rows.crop(self.high_slope)
        constant = _total(positive, self.low_offset) + _total(negative, self.high_offset)
        return Pulled([Rows(pulled, rows.corner)], constant)


def _total(rows: Rows, offset: Tensor) -> Tensor:
    return rows.dot(offset[:, 0] if offset.shape[1] == 1 else offset)


class Activation(Nonlinear):
    """An increasing function of each value."""

    def interval(self, bounds: Interval) -> Interval:
        return Interval(self.forward(bounds.low), self.forward(bounds.high))

    def chord(self, bounds: Interval) -> tuple[Tensor, Tensor]:
        """Slope and offset [B, 1, *shape] of the line through both ends."""
        low, high = bounds.low[:, None], bounds.high[:, None]
        ends = self.forward(low), self.forward(high)
        slope = (ends[1] - ends[0]) / (high - low).clamp_min(_NARROW)
        return slope, ends[0] - slope * low

    def constants(self, bounds: Interval, lines: Lines) -> Lines:
        """The lines, horizontal where the interval is narrow."""
        narrow = (bounds.high - bounds.low < _NARROW)[:, None]
        low, high = (value[:, None] for value in self.interval(bounds))
        return Lines(
            lines.low_slope.masked_fill(narrow, 0),
            low.where(narrow, lines.low_offset),
            lines.high_slope.masked_fill(narrow, 0),
            high.where(narrow, lines.high_offset),
        )


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """x above zero, a share of it below; ReLU for the share zero. The choice is the slope of the lower line."""

    share: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.leaky_relu(x, self.share) if self.share else x.clamp_min(0)

    def settled(self, bounds: Interval) -> Tensor:
        return (bounds.low >= 0) | (bounds.high <= 0)

    def choices(self, bounds: Interval) -> Tensor:
        """The line that encloses the lesser area."""
        return (bounds.high > -bounds.low).to(bounds.low)[None, :, None]

    def relax(self, bounds: Interval, choices: Tensor) -> Lines:
        """Exact where the sign is known."""
        low, high = bounds.low[:, None], bounds.high[:, None]
        active, inactive = low >= 0, high <= 0
        known, slope = active | inactive, self.share + (1 - self.share) * active.to(low)
        high = high.where(~known, torch.ones_like(high))
        low = low.where(~known, -torch.ones_like(low))
        chord = (high - self.share * low) / (high - low)
        lower = slope.where(known, self.share + (1 - self.share) * choices[0])
        zero = torch.zeros_like(low)
        return Lines(lower, zero, slope.where(known, chord), zero.where(known, high * (1 - chord)))


@dataclass(frozen=True)
class ELU(Activation):
    """x above zero, alpha (exp(x) - 1) below: convex for alpha <= 1. The choice is where the tangent touches."""

    alpha: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.alpha * x.clamp_max(0).expm1())

    def settled(self, bounds: Interval) -> Tensor:
        return bounds.low >= 0

    def choices(self, bounds: Interval) -> Tensor:
        """The middle, whose tangent encloses the least area."""
        return torch.full_like(bounds.low, 0.5)[None, :, None]

    def relax(self, bounds: Interval, choices: Tensor) -> Lines:
        low, high = bounds.low[:, None], bounds.high[:, None]
        at = low + choices[0] * (high - low)
        slope = torch.where(at > 0, torch.ones_like(at), self.alpha * at.clamp_max(0).exp())
        return self.constants(bounds, Lines(slope, self.forward(at) - slope * at, *self.chord(bounds)))


class Sigmoidal(Activation):
    """Convex below zero, concave above, point-symmetric at zero: tanh, and the logistic function.

    Of an interval around zero, tangents from below touch no further right than that through the upper end. The choices
    are where the tangents from below and from above touch.
    """

    @abstractmethod
    def slope(self, x: Tensor) -> Tensor:
        """The derivative."""

    def choices(self, bounds: Interval) -> Tensor:
        """As far into the interval as is sound, but no further than its middle."""
        low, high = bounds.low[:, None], bounds.high[:, None]
        middle = (low + high) / 2
        below, above = self._last(low, high), -self._last(-high, -low)
        share = [(middle.minimum(below) - low) / (below - low), (high - middle.maximum(above)) / (high - above)]
        return torch.stack([part.nan_to_num(0.5, 0.5, 0.5).clamp(0, 1) for part in share])

    def relax(self, bounds: Interval, choices: Tensor) -> Lines:
        low, high = bounds.low[:, None], bounds.high[:, None]
        below, above = self._last(low, high), -self._last(-high, -low)
        lower = self._tangent(low + choices[0] * (below - low))
        upper = self._tangent(high - choices[1] * (high - above))
        chord = self.chord(bounds)
        under, over = (below <= low) & (high > 0), (above >= high) & (low < 0)  # no tangent: the chord
        concave, convex = low >= 0, high <= 0
        lines = [
            *(part.where(~(under | concave), line) for part, line in zip(lower, chord, strict=True)),
            *(part.where(~(over | convex), line) for part, line in zip(upper, chord, strict=True)),
        ]
        return self.constants(bounds, Lines(*lines))

    def _tangent(self, at: Tensor) -> tuple[Tensor, Tensor]:
        slope = self.slope(at)
        return slope, self.forward(at) - slope * at

    def _last(self, low: Tensor, high: Tensor) -> Tensor:
        """The last point of [low, min(high, 0)] whose tangent is below the function up to `high`; `low` if none is.

        Of halvings the sound end is kept. Where all is convex, that is `high`.
        """
        end, left, right = self.forward(high), low, high.clamp_max(0).maximum(low)
        for _ in range(_HALVINGS):
            middle = (left + right) / 2
            slope, offset = self._tangent(middle)
            fits = slope * high + offset <= end
            left, right = middle.where(fits, left), right.where(fits, middle)
        return high.where(high <= 0, left)


@dataclass(frozen=True)
class Tanh(Sigmoidal):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()

    def slope(self, x: Tensor) -> Tensor:
        return 1 - x.tanh().square()


@dataclass(frozen=True)
class Logistic(Sigmoidal):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def slope(self, x: Tensor) -> Tensor:
        return x.sigmoid() * (1 - x.sigmoid())
