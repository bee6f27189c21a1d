"""The norms: one place that names them, and all that is true of each. Imports no torch, for commands that only print.

A further norm is a class here. Differences and gradients are tensors [..., P] over P pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["l0", "l1", "l2", "linf"]
NORMS: tuple[Norm, ...] = get_args(Norm)

_SHARPNESS = 12  # large enough to lead to the minima of the step function, small enough for float32
_HALF = 0.5  # the unit of costs whose powers are taken


class NormSpec(ABC):
    """How one norm measures, projects, steps and crosses a half-space."""

    name: Norm
    display: str  # in text
    latex: str
    decimals: int  # of a median distance on images with pixels in [0, 1]
    order: float  # its p
    dual: float  # the order of the dual norm, that of gradients (L0 has none; its bounds use this)
    counts: bool = False  # whether it counts pixels, however far they move
    since: int = 1  # the version of the store's schema that measures it: rows that are older do not have it

    @abstractmethod
    def length(self, difference: Tensor) -> Tensor:
        """The norm [...] of differences [..., P]."""

    @abstractmethod
    def project(self, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
        """The images x [B, P] moved onto the ball of `radius` [B, 1] around `clean`; inner points stay."""

    def project_in_box(self, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
        """The same, inside the box [0, 1] too: by default one after the other, which is as near as it gets in Linf."""
        return self.project(x, clean, radius).clamp(0, 1)

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The step [B, ...] of length one that climbs the most along `gradient` [B, ...]."""

    @abstractmethod
    def cross(self, steep: Tensor, headroom: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """The least distance [...] at which sum_i steep_i d_i >= offset [...] with 0 <= d_i <= headroom_i, infinity
        where there is none, and d [..., P]. It counts fractions of pixels."""

    @abstractmethod
    def climb(self, steep: Tensor, headroom: Tensor, radius: Tensor) -> Tensor:
        """The most [...] that steep . d reaches with 0 <= d_i <= headroom_i and a length of at most `radius` [...]."""

    @abstractmethod
    def flip(self, cost: Tensor, gain: Tensor, offset: Tensor, relaxed: bool) -> tuple[Tensor, Tensor]:
        """The least distance [...] at which flips gain `offset`, and the share [..., P] of each flip that is taken.

        cost: how far each pixel has to move to flip, [..., P]; relaxed: as in `halfspaces.project_by_flips`.
        """

    def at_least(self, reach: Tensor, offset: Tensor) -> Tensor:
        """A lower bound [...] of the distance that gains `offset` [...]; reach [..., P]: what each pixel gains by a
        step of one, or where the norm counts pixels by all its way."""
        import torch

        from arena.geometry.filling import TINY

        return offset / torch.linalg.vector_norm(reach, self.dual, dim=-1).clamp_min(TINY)


class _Priced(NormSpec):
    """A norm in which every pixel that moves adds to the distance."""

    def flip(self, cost: Tensor, gain: Tensor, offset: Tensor, relaxed: bool) -> tuple[Tensor, Tensor]:
        from arena.geometry.filling import knapsack

        price = self._price(cost)
        share = knapsack(price, gain, offset)
        return self._spent((share * price).sum(-1)).where(gain.sum(-1) >= offset, _infinity(offset)), share

    @abstractmethod
    def _price(self, cost: Tensor) -> Tensor:
        """What each flip adds to the sum that `_spent` makes a distance of."""

    def _spent(self, total: Tensor) -> Tensor:
        return total


class L0(_Priced):
    """The number of pixels that differ. What is more than one value a pixel, its callers make one first."""

    name, display, latex, decimals, order, dual, counts = "l0", "L0", "$L_0$", 1, 0, 2, True

    def length(self, difference: Tensor) -> Tensor:
        return (difference != 0).sum(-1).to(difference.dtype)

    def project(self, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
        raise ValueError("the L0 ball has no unique projection")

    def steepest(self, gradient: Tensor) -> Tensor:
        raise ValueError("L0 has no steepest step: it does not depend on how far a pixel moves")

    def cross(self, steep: Tensor, headroom: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        from arena.geometry.filling import knapsack

        gain = steep * headroom
        share = knapsack(gain.new_ones(()).expand_as(gain), gain, offset)
        return share.sum(-1).where(gain.sum(-1) >= offset, _infinity(offset)), share * headroom

    def climb(self, steep: Tensor, headroom: Tensor, radius: Tensor) -> Tensor:
        """So many pixels, those that gain the most, all their way."""
        import torch

        gain = (steep * headroom).sort(dim=-1, descending=True).values
        share = (radius[..., None] - torch.arange(gain.shape[-1], device=gain.device)).clamp(0, 1)
        return (gain * share).sum(-1)

    def _price(self, cost: Tensor) -> Tensor:
        return cost.new_ones(()).expand_as(cost)

    def at_least(self, reach: Tensor, offset: Tensor) -> Tensor:
        """A pixel moved in part costs less than its part of the cost, then the same (Cauchy-Schwarz)."""
        return super().at_least(reach, offset).square()


class L1(_Priced):
    """The sum of how far pixels move."""

    name, display, latex, decimals, order, dual = "l1", "L1", "$L_1$", 1, 1, float("inf")
    since = 6

    def length(self, difference: Tensor) -> Tensor:
        return difference.abs().sum(-1)

    def project(self, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
        """Duchi et al. 2008: every pixel moves back by the same amount, at most to its clean value."""
        difference = x - clean
        return x.where(self.length(difference)[..., None] <= radius, clean + _shrunk(difference, radius, None))

    def project_in_box(self, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
        """Onto the intersection of ball and box (Croce & Hein 2021, "Mind the box", proposition 2.2)."""
        difference = x - clean
        headroom = (1 - clean).where(difference > 0, clean)
        moved = (clean + _shrunk(difference, radius, headroom)).clamp(0, 1)
        clipped = x.clamp(0, 1)
        return clipped.where(self.length(clipped - clean)[..., None] <= radius, moved)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The pixel of the largest slope alone."""
        rows = gradient.flatten(1)
        largest = rows.abs().argmax(1, keepdim=True)
        return rows.new_zeros(rows.shape).scatter(1, largest, rows.gather(1, largest).sign()).view_as(gradient)

    def cross(self, steep: Tensor, headroom: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        from arena.geometry.filling import knapsack

        gain = steep * headroom
        move = knapsack(headroom, gain, offset) * headroom
        return move.sum(-1).where(gain.sum(-1) >= offset, _infinity(offset)), move

    def climb(self, steep: Tensor, headroom: Tensor, radius: Tensor) -> Tensor:
        """The steepest pixels go all their way, until the radius is spent."""
        ranked, order = steep.sort(dim=-1, descending=True)
        room = headroom.expand_as(steep).gather(-1, order)
        left = radius[..., None] - (room.cumsum(-1) - room)
        return (ranked * left.clamp_min(0).minimum(room)).sum(-1)

    def _price(self, cost: Tensor) -> Tensor:
        return cost


class L2(_Priced):
    """The Euclidean length."""

    name, display, latex, decimals, order, dual = "l2", "L2", "$L_2$", 2, 2, 2

    def length(self, difference: Tensor) -> Tensor:
        return difference.square().sum(-1).sqrt()

    def project(self, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
        length = self.length(x - clean)[..., None]
        return (clean + (x - clean) * (radius / length.clamp_min(1e-30))).where(length > radius, x)

    def steepest(self, gradient: Tensor) -> Tensor:
        from arena.geometry.scale import unit

        return unit(gradient)

    def cross(self, steep: Tensor, headroom: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """d_i = min(t steep_i, headroom_i), t as small as the offset allows."""
        import torch

        from arena.geometry.filling import TINY, water_level

        multiplier = water_level(steep.square(), headroom / steep, offset)
        move = (multiplier[..., None].clamp_max(1 / TINY) * steep).minimum(headroom)
        distance = torch.linalg.vector_norm(move, dim=-1)
        return distance.where(~multiplier.isinf(), _infinity(offset)), move

    def climb(self, steep: Tensor, headroom: Tensor, radius: Tensor) -> Tensor:
        """d_i = min(t steep_i, headroom_i), t as large as the radius allows. By duality it is never too little, however
        t is rounded."""
        from arena.geometry.filling import TINY, water_level

        bounded = steep.detach().clamp_min(TINY)
        level = water_level(bounded.square(), (headroom / bounded).square(), radius.square())
        t = level.clamp_min(0).sqrt().clamp(TINY, 1 / TINY)
        move = (t[..., None] * bounded).minimum(headroom)
        return (steep * move).sum(-1) + (radius.square() - move.square().sum(-1)) / (2 * t)

    def _price(self, cost: Tensor) -> Tensor:
        return cost.square()

    def _spent(self, total: Tensor) -> Tensor:
        from arena.geometry.filling import TINY

        return total.clamp_min(TINY**2).sqrt()


class Linf(NormSpec):
    """How far the pixel moves that moves farthest."""

    name, display, latex, decimals, order, dual = "linf", "Linf", r"$L_\infty$", 3, float("inf"), 1

    def length(self, difference: Tensor) -> Tensor:
        return difference.abs().amax(-1)

    def project(self, x: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
        return clean + (x - clean).clamp(-radius, radius)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def cross(self, steep: Tensor, headroom: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """d_i = min(t, headroom_i), t as small as the offset allows."""
        from arena.geometry.filling import water_level

        level = water_level(steep, headroom, offset)
        return level, level[..., None].minimum(headroom)

    def climb(self, steep: Tensor, headroom: Tensor, radius: Tensor) -> Tensor:
        return (steep * radius[..., None].minimum(headroom)).sum(-1)

    def flip(self, cost: Tensor, gain: Tensor, offset: Tensor, relaxed: bool) -> tuple[Tensor, Tensor]:
        """All flips up to the least level that gains enough: they cost no more than the dearest of them."""
        from arena.geometry.filling import TINY, first, water_level

        useful = gain > 0
        if relaxed:
            steep = (cost / _HALF).clamp_min(1e-2) ** _SHARPNESS
            level = water_level(gain / steep, steep, offset).clamp_min(TINY**2)
            return _HALF * level ** (1 / _SHARPNESS), (level[..., None] / steep).clamp_max(1) * useful
        ranked, order = cost.sort(dim=-1)
        level = first(gain.gather(-1, order).cumsum(-1) >= offset[..., None], ranked)
        level = level.where(offset > 0, 0.0)
        return level, ((cost <= level[..., None]) & useful & (offset > 0)[..., None]).to(cost.dtype)


SPECS: dict[str, NormSpec] = {spec.name: spec for spec in (L0(), L1(), L2(), Linf())}


def spec_of(norm: str) -> NormSpec:
    """What is true of a norm; raises ValueError for one that is unknown."""
    if norm not in SPECS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(SPECS)}")
    return SPECS[norm]


def _infinity(like: Tensor) -> Tensor:
    return like.new_full((), float("inf"))


def _shrunk(difference: Tensor, radius: Tensor, headroom: Tensor | None) -> Tensor:
    """The nearest difference [..., P] whose magnitudes, at most `headroom` [..., P], sum to `radius` [..., 1].

    Each magnitude m becomes max(m - t, 0), or the headroom where that is less. Their sum is piecewise linear in t, with
    a bend where a pixel leaves zero and another where it meets its headroom: sorting the bends finds t.
    """
    import torch

    size = difference.abs()
    bends, turns = size, torch.ones_like(size)
    if headroom is not None:
        bends = torch.cat([size, (size - headroom).clamp_min(0)], -1)
        turns = torch.cat([turns, -turns], -1)
    bends, order = bends.sort(dim=-1, descending=True)
    moving = turns.gather(-1, order).cumsum(-1)  # pixels that grow as t falls below each bend
    below = torch.cat([bends[..., 1:], torch.zeros_like(bends[..., :1])], -1)
    total = (moving * (bends - below)).cumsum(-1)  # the sum where t is the bend below
    at = (total < radius).sum(-1, keepdim=True).clamp_max(bends.shape[-1] - 1)
    t = below.gather(-1, at) + (total.gather(-1, at) - radius).clamp_min(0) / moving.gather(-1, at).clamp_min(1)
    left = (size - t).clamp_min(0)
    return difference.sign() * (left if headroom is None else left.minimum(headroom))
