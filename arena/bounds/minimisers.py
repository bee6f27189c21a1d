"""The minimum over prototypes of how far a perturbation must go: for a finite set exactly, else by many descents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from arena.bounds.separation import Separation
from arena.prototypes import Points, Pool, Prototypes

_SHORTLIST = 64  # points of each class whose distance is computed: those that look best without the box
_ROUND_STEPS = 15  # of a descent that goes on
_POLISH = 40  # steps of the weights where the points stay
_BLOCK = 64  # prototypes of a finite set evaluated together
_ROUNDING = 1e-5  # more than float32 can err in a bound


class Found(NamedTuple):
    """The closest points of every class for B images, k of each, rows of one image together; and their weights."""

    points: Points  # [B k, C, ...]
    weights: Tensor  # [B k, C, J]
    distance: Tensor  # [B, k, C]


class Minimiser(Protocol):
    """Called again with more prototypes of the label, it goes on from what it found."""

    def __call__(self, separation: Separation) -> Found: ...


class Descents:
    """From the best `starts` points of every pool, each norm by itself; the best `kept` go on in later calls."""

    def __init__(self, prototypes: Prototypes, pools: Sequence[Pool], starts: int, kept: int, steps: int) -> None:
        self._prototypes, self._pools = prototypes, pools
        self._starts, self._kept, self._steps = starts, min(kept, starts), steps
        self._found: Points | None = None

    def __call__(self, separation: Separation) -> Found:
        if self._found is None:
            points, count, steps = self._best_of_pools(separation), self._starts, self._steps
        else:
            points, count, steps = self._found, self._kept, _ROUND_STEPS
        rows = torch.arange(len(separation.x), device=points.offset.device)
        here = separation.rows(rows.repeat_interleave(count))
        weights = self._polished(here, points)

        def objective(image: Tensor, offset: Tensor) -> Tensor:
            nonlocal weights
            weights = here.tighten(image.detach(), offset.detach(), weights, steps=2)
            return here.cross(image, offset, weights, relaxed=True).distance

        points = self._prototypes.refine(points, objective, steps)
        weights = self._polished(here, points)
        distance = here.cross(*points[1:], weights).distance.view(len(rows), count, -1)
        distance, place = distance.topk(self._kept, dim=1, largest=False)
        at = (rows[:, None, None] * count + place).flatten(0, 1)
        classes = torch.arange(at.shape[1], device=at.device)
        self._found = Points(*(field[at, classes] for field in points))
        return Found(self._found, weights[at, classes], distance)

    @staticmethod
    def _polished(separation: Separation, points: Points) -> Tensor:
        equal = torch.ones_like(separation.first(points.offset)) / separation.level.shape[1]
        return separation.tighten(points.image, points.offset, equal, _POLISH)

    def _best_of_pools(self, separation: Separation) -> Points:
        """The closest points of each pool: [B starts, C, ...]."""
        listed = self._shortlist(separation)  # [B, C, M]
        distances = []
        for index in listed.unbind(-1):
            points = self._pick(index)
            distances.append(separation.cross(*points[1:], separation.first(points.offset), relaxed=True).distance)
        best = torch.stack(distances, 1).topk(self._starts, dim=1, largest=False).indices
        return self._pick(listed.mT.gather(1, best).flatten(0, 1))

    def _shortlist(self, separation: Separation) -> Tensor:
        """Row numbers [B, C, M] of the points in each pool that ||d||_2 >= gap / ||slope||_2 allows to be closest."""
        own_scale = separation.own_scale[:, None]
        own, level = own_scale * (1 - 2 * separation.image[:, 0]), own_scale * separation.level[:, :1]
        listed = []
        for scale, pool in zip(separation.scales, self._pools, strict=True):
            gap = scale * (_squared_distances(separation.seen, pool.image) + pool.offset) - level
            slope = _squared_distances(own, scale * (1 - 2 * pool.image))
            rank = gap.clamp_min(0).square() / slope.clamp_min(1e-9)
            count = min(max(_SHORTLIST, 2 * self._starts), *(len(pool.offset) for pool in self._pools))
            listed.append(rank.topk(count, largest=False).indices)
        return torch.stack(listed, 1)

    def _pick(self, index: Tensor) -> Points:
        """The points of these row numbers [N, C] in the pools."""
        fields = zip(*self._pools, strict=True)
        return Points(
            *(torch.stack([of_class[index[:, c]] for c, of_class in enumerate(field)], 1) for field in fields)
        )


class BranchAndBound:
    """The exact minimum over a finite set: prototypes are evaluated in the order of cheap lower bounds, until those
    exceed the least distance to any class. (For other classes the best of a few is reported.)"""

    def __init__(self, pools: Sequence[Pool], y: Tensor) -> None:
        self._pools, self._y = pools, y
        self._lower: list[dict[int, Tensor]] = []

    def __call__(self, separation: Separation) -> Found:
        rows = [separation.rows(torch.tensor([row], device=self._y.device)) for row in range(len(self._y))]
        if not self._lower:
            self._lower = [self._bounds(row, label) for row, label in zip(rows, self._y.tolist(), strict=True)]
        found = [self._search(row, lower) for row, lower in zip(rows, self._lower, strict=True)]
        points, weights, distance = zip(*found, strict=True)
        fields = (torch.cat(field) for field in zip(*points, strict=True))
        return Found(Points(*fields), torch.cat(weights), torch.cat(distance))

    def _bounds(self, row: Separation, label: int) -> dict[int, Tensor]:
        """A lower bound for each prototype [P] of the other classes, which the first half-space alone gives."""
        return {
            c: row.of_class(c).at_least(pool.image[None], pool.offset[None])[0] * (1 - _ROUNDING)
            for c, pool in enumerate(self._pools)
            if c != label
        }

    def _search(self, row: Separation, lower: dict[int, Tensor]) -> Found:
        """One image: the classes in the order of their least bound."""
        classes = len(self._pools)
        place = torch.zeros(classes, dtype=torch.long, device=self._y.device)
        weights = row.first(row.level.new_zeros(1, classes))
        distance = row.level.new_full((1, 1, classes), torch.inf)
        for c in sorted(lower, key=lambda c: float(lower[c].amin())):
            pool, order = self._pools[c], lower[c].argsort()
            for block in order.split(_BLOCK):
                if distance[0, 0, c].isfinite() and lower[c][block[0]] >= distance.amin():
                    break
                value, best = self._evaluate(row.of_class(c), pool.image[block], pool.offset[block], distance.amin())
                at = int(value.argmin())
                if value[at] < distance[0, 0, c]:
                    distance[0, 0, c], place[c], weights[0, c] = value[at], block[at], best[at]
        chosen = zip(place.tolist(), self._pools, strict=True)
        points = zip(*([field[at] for field in pool] for at, pool in chosen), strict=True)
        return Found(Points(*(torch.stack(field)[None] for field in points)), weights, distance)

    @staticmethod
    def _evaluate(row: Separation, image: Tensor, offset: Tensor, to_beat: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [P] and weights [P, J] of prototypes of one class; the weights matter where they can decide."""
        image, offset = image[None], offset[None]
        weights = row.first(offset)
        value = row.cross(image, offset, weights).distance[0]
        close = value <= to_beat
        if row.level.shape[1] > 1 and bool(close.any()):
            image, offset = image[:, close], offset[:, close]
            equal = torch.ones_like(weights[:, close]) / row.level.shape[1]
            tighter = row.tighten(image, offset, equal, _POLISH)
            tight = row.cross(image, offset, tighter).distance[0]
            gain = tight > value[close]
            value[close] = torch.where(gain, tight, value[close])
            weights[0, close] = torch.where(gain[:, None], tighter[0], weights[0, close])
        return value, weights[0]


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Between the rows of a [N, P] and of b [M, P], expanded: [N, M]."""
    return a.square().sum(1)[:, None] - 2 * a @ b.T + b.square().sum(1)
