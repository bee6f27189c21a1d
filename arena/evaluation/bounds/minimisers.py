"""The minimum over prototypes of how far a perturbation must go: for a finite set exactly, else by many descents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from arena.evaluation.bounds.separation import Separation
from arena.interface.prototypes import Points, Pool, Prototypes

_SHORTLIST = 64  # points of each class whose distance is computed: those that look best without the box
_CLOSE = 1.15  # times the least distance to any class, up to which a class is searched thoroughly
_ROUND_STEPS = 15  # of a descent that goes on
_GLANCE, _POLISH = 4, 40  # steps of the weights where the points stay: to choose among many, and in the end
_BLOCK = 64  # prototypes of a finite set evaluated together
_ROUNDING = 1e-5  # more than float32 can err in a bound


class Found(NamedTuple):
    """The closest points of every class for B images, k of each, rows of one image together; and their weights."""

    points: Points  # [B k, C, ...]
    weights: Tensor  # [B k, C, J]
    distance: Tensor  # [B, k, C]


class Minimiser(Protocol):
    """Called again with more prototypes of the label, both go on from what was found, and from the points nearby
    [B R, C, ...] that explain the images there."""

    def scout(self, separation: Separation, nearby: Points | None) -> Found:
        """Quickly, to learn which prototypes of the label matter."""
        ...

    def search(self, separation: Separation, nearby: Points | None) -> Found: ...


class Descents:
    """Descents from the best points of every pool, in each norm by itself.

    A few scouts learn which prototypes of the label matter and which classes are close. With those prototypes and to
    those classes, `starts` more descents go from points chosen anew: the scouts alone, in the valleys that were deepest
    with one prototype, ended up to 5 % too high.
    """

    def __init__(
        self, prototypes: Prototypes, pools: Sequence[Pool], y: Tensor, scouts: int, starts: int, steps: int
    ) -> None:
        self._prototypes, self._pools, self._y = prototypes, pools, y
        self._scouts, self._starts, self._steps = scouts, starts, steps
        self._scouted: Points | None = None

    def scout(self, separation: Separation, nearby: Points | None) -> Found:
        points, steps = self._scouted, _ROUND_STEPS
        if points is None:
            points, steps = self._best_of_pools(separation, self._scouts), self._steps
        if nearby is not None:
            points = Points(*(self._together(*fields) for fields in zip(points, nearby, strict=True)))
        everywhere = separation.x.new_ones(len(self._y), len(self._pools), dtype=torch.bool)
        found = self._closest(self._descend(separation, points, steps, everywhere))
        self._scouted = found.points
        return found

    def search(self, separation: Separation, nearby: Points | None) -> Found:
        scouted = self.scout(separation, nearby)
        distance = scouted.distance[:, 0].scatter(1, self._y[:, None], torch.inf)
        close = distance <= _CLOSE * distance.amin(1, keepdim=True)
        points = self._best_of_pools(separation, self._starts)
        return self._closest(scouted, self._descend(separation, points, self._steps, close))

    def _descend(self, separation: Separation, points: Points, steps: int, wanted: Tensor) -> Found:
        """From points [B k, C, ...] of the classes `wanted` [B, C] of each image; others are infinitely far."""
        count = len(points.penalty) // len(wanted)
        mask = wanted.repeat_interleave(count, 0)
        row, label = mask.nonzero(as_tuple=True)
        here = separation.pairs(row // count, label)

        def polished(points: Points) -> tuple[Tensor, Tensor, Tensor]:
            image, penalty = points.image[mask][:, None], points.penalty[mask][:, None]
            return image, penalty, here.tighten(image, penalty, here.equal(penalty), _POLISH)

        weights = polished(points)[2]

        def objective(image: Tensor, penalty: Tensor) -> Tensor:
            nonlocal weights
            image, penalty = image[mask][:, None], penalty[mask][:, None]
            weights = here.tighten(image.detach(), penalty.detach(), weights, steps=2)
            value = here.project(image, penalty, weights, relaxed=True).distance
            return value.new_zeros(mask.shape).masked_scatter(mask, value)

        points = self._prototypes.refine(points, objective, steps)
        image, penalty, weights = polished(points)
        distance = penalty.new_full(mask.shape, torch.inf)
        distance[mask] = here.project(image, penalty, weights).distance[:, 0]
        spread = weights.new_zeros(*mask.shape, weights.shape[-1])
        spread[mask] = weights[:, 0]
        return Found(points, spread, distance.view(len(wanted), count, -1))

    def _closest(self, *found: Found) -> Found:
        """The closest points to each class, in order, as many as there are scouts."""
        images, classes = len(self._y), len(self._pools)
        distance = torch.cat([each.distance for each in found], 1)
        distance, code = distance.topk(min(self._scouts, distance.shape[1]), dim=1, largest=False)
        image = torch.arange(images, device=code.device)[:, None, None]
        label = torch.arange(classes, device=code.device)

        def taken(*parts: Tensor) -> Tensor:
            return self._together(*parts).unflatten(0, (images, -1))[image, code, label].flatten(0, 1)

        points = Points(*map(taken, *(each.points for each in found)))
        return Found(points, taken(*(each.weights for each in found)), distance)

    def _together(self, *parts: Tensor) -> Tensor:
        """Rows [B k, ...] of several k, those of one image together."""
        return torch.cat([part.unflatten(0, (len(self._y), -1)) for part in parts], 1).flatten(0, 1)

    def _best_of_pools(self, separation: Separation, count: int) -> Points:
        """The closest points of each pool: [B count, C, ...]."""
        listed = self._shortlist(separation, max(_SHORTLIST, 2 * count))  # [B, C, M]
        distances = []
        for index in listed.unbind(-1):
            image, penalty = self._pick(index)[1:]
            weights = separation.tighten(image, penalty, separation.equal(penalty), _GLANCE)
            distances.append(separation.project(image, penalty, weights, relaxed=True).distance)
        best = torch.stack(distances, 1).topk(min(count, len(distances)), dim=1, largest=False).indices
        return self._pick(listed.mT.gather(1, best).flatten(0, 1))

    def _shortlist(self, separation: Separation, count: int) -> Tensor:
        """Row numbers [B, C, M] of the points in each pool, `count` at most, that look closest without the box."""
        own_scale = separation.own_scale[:, None]
        own, level = own_scale * (1 - 2 * separation.image[:, 0]), own_scale * separation.level[:, :1]
        smallest = min(len(pool.penalty) for pool in self._pools)
        listed = []
        for scale, pool in zip(separation.scales, self._pools, strict=True):
            offset = scale * (_squared_distances(separation.input, pool.image) + pool.penalty) - level
            normal = _squared_distances(own, scale * (1 - 2 * pool.image))
            rank = offset.clamp_min(0).square() / normal.clamp_min(1e-9)
            listed.append(rank.topk(min(count, smallest), largest=False).indices)
        return torch.stack(listed, 1)

    def _pick(self, index: Tensor) -> Points:
        """The points of these row numbers [N, C] in the pools."""
        fields = zip(*self._pools, strict=True)
        return Points(
            *(torch.stack([of_class[index[:, c]] for c, of_class in enumerate(field)], 1) for field in fields)
        )


class BranchAndBound:
    """The exact minimum over a finite set: prototypes are evaluated in the order of cheap lower bounds, until those
    exceed the least distance to any class, whatever is nearby. (For other classes the best of a few is reported.)"""

    def __init__(self, pools: Sequence[Pool], y: Tensor) -> None:
        self._pools, self._y = pools, y
        self._lower: list[dict[int, Tensor]] = []

    def search(self, separation: Separation, nearby: Points | None) -> Found:
        rows = [separation.rows(torch.tensor([row], device=self._y.device)) for row in range(len(self._y))]
        if not self._lower:
            self._lower = [self._bounds(row, label) for row, label in zip(rows, self._y.tolist(), strict=True)]
        found = [self._search(row, lower) for row, lower in zip(rows, self._lower, strict=True)]
        points, weights, distance = zip(*found, strict=True)
        fields = (torch.cat(field) for field in zip(*points, strict=True))
        return Found(Points(*fields), torch.cat(weights), torch.cat(distance))

    scout = search

    def _bounds(self, row: Separation, label: int) -> dict[int, Tensor]:
        """A lower bound for each prototype [P] of the other classes, which the first half-space alone gives."""
        return {
            c: row.of_class(c).at_least(pool.image[None], pool.penalty[None])[0] * (1 - _ROUNDING)
            for c, pool in enumerate(self._pools)
            if c != label
        }

    def _search(self, row: Separation, lower: dict[int, Tensor]) -> Found:
        """One image: the classes in the order of their least bound."""
        classes = len(self._pools)
        code = torch.zeros(classes, dtype=torch.long, device=self._y.device)
        weights = row.first(row.level.new_zeros(1, classes))
        distance = row.level.new_full((1, 1, classes), torch.inf)
        for c in sorted(lower, key=lambda c: float(lower[c].amin())):
            pool, order = self._pools[c], lower[c].argsort()
            for block in order.split(_BLOCK):
                if distance[0, 0, c].isfinite() and lower[c][block[0]] >= distance.amin():
                    break
                value, best = self._evaluate(row.of_class(c), pool.image[block], pool.penalty[block], distance.amin())
                at = int(value.argmin())
                if value[at] < distance[0, 0, c]:
                    distance[0, 0, c], code[c], weights[0, c] = value[at], block[at], best[at]
        chosen = zip(code.tolist(), self._pools, strict=True)
        points = zip(*([field[at] for field in pool] for at, pool in chosen), strict=True)
        return Found(Points(*(torch.stack(field)[None] for field in points)), weights, distance)

    @staticmethod
    def _evaluate(row: Separation, image: Tensor, penalty: Tensor, to_beat: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [P] and weights [P, J] of prototypes of one class; the weights matter where they can decide."""
        image, penalty = image[None], penalty[None]
        weights = row.first(penalty)
        value = row.project(image, penalty, weights).distance[0]
        close = value <= to_beat
        if row.level.shape[1] > 1 and bool(close.any()):
            image, penalty = image[:, close], penalty[:, close]
            tighter = row.tighten(image, penalty, row.equal(penalty), _POLISH)
            tight = row.project(image, penalty, tighter).distance[0]
            gain = tight > value[close]
            value[close] = torch.where(gain, tight, value[close])
            weights[0, close] = torch.where(gain[:, None], tighter[0], weights[0, close])
        return value, weights[0]


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Between the rows of a [N, P] and of b [M, P], expanded: [N, M]."""
    return a.square().sum(1)[:, None] - 2 * a @ b.T + b.square().sum(1)
