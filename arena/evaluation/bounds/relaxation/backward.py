"""Backward substitution: linear functions of any node as linear functions of the image that are nowhere greater."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from arena.evaluation.bounds.relaxation.activations import Nonlinear, Relaxation
from arena.evaluation.bounds.relaxation.graph import Graph
from arena.evaluation.bounds.relaxation.region import Region
from arena.evaluation.bounds.relaxation.rows import Interval, Rows, unit_rows

_BLOCK = 256  # rows of a block of positions, about
_MEMORY = 2**24  # numbers of all images together that a slice of rows may make of the widest node


def substitute(graph: Graph, relaxations: Mapping[int, Relaxation], number: int, rows: Rows) -> tuple[Rows, Tensor]:
    """Rows of the node `number` as rows of the image, and constants [B, S]: functions that are nowhere greater."""
    pending, total = {number: rows}, rows.values.new_zeros(rows.values.shape[:2])
    for at in range(number, 0, -1):
        if at not in pending:
            continue
        node = graph.nodes[at]
        piece = relaxations[at] if isinstance(node.piece, Nonlinear) else node.piece
        shapes = [graph.nodes[i].shape for i in node.inputs]
        parts, constant = piece.pull(pending.pop(at), node.shape, shapes)  # type: ignore[union-attr]
        total = total if constant is None else total + constant
        for i, part in zip(node.inputs, parts, strict=True):
            pending[i] = pending[i] + part if i in pending else part
    return pending.get(0, Rows(rows.values.new_zeros(1, rows.values.shape[1], *graph.nodes[0].shape))), total


class Relaxed:
    """A network over a region: intervals of its nodes, and what bounds its pieces that are not affine.

    bounds: the intervals by node, the tighter of interval arithmetic and backward substitution; the latter is done for
    the inputs of pieces that are not affine, where it can help.
    """

    def __init__(self, graph: Graph, region: Region) -> None:
        self.graph, self.region = graph, region
        self.bounds: list[Interval] = [region.box]
        self.relaxations: dict[int, Relaxation] = {}
        for number, node in enumerate(graph.nodes[1:], 1):
            given = [self.bounds[i] for i in node.inputs]
            self.bounds.append(node.piece.interval(*given))  # type: ignore[union-attr]
            if number in graph.users and not self._is_exact(number):
                self._tighten(number)
            if isinstance(node.piece, Nonlinear):
                self.relaxations[number] = node.piece.relax(given[0], node.piece.choices(given[0]))

    def minimum(self, number: int, rows: Rows) -> Tensor:
        """Lower bounds [B, S] of rows of a node, over the region."""
        return self.region.minimum(*substitute(self.graph, self.relaxations, number, rows))

    def _is_exact(self, number: int) -> bool:
        """Whether interval arithmetic is: of the first weights, where the region is a box."""
        inputs = self.graph.nodes[number].inputs
        return self.region.norm == "linf" and inputs == (0,)

    def _intersect(self, number: int, other: Interval) -> None:
        """An empty intersection becomes one point: nothing lies in the region then."""
        low, high = (self.bounds[number].low.maximum(other.low), self.bounds[number].high.minimum(other.high))
        self.bounds[number] = Interval(low, high.maximum(low))

    def _tighten(self, number: int) -> None:
        """The bounds of a node by backward substitution, in slices of rows."""
        found = self.bounds[number]
        low, high = found.low.flatten(1).clone(), found.high.flatten(1).clone()
        wanted = ~torch.stack([piece.settled(found) for piece in self.graph.users[number]]).all(0)
        for index, rows in self._slices(number, wanted.any(0)):
            both = Rows(torch.cat([rows.values, -rows.values], 1), rows.corner)
            least, less = self.minimum(number, both).chunk(2, 1)
            low[:, index], high[:, index] = least, -less
        self._intersect(number, Interval(low.view_as(found.low), high.view_as(found.high)))

    def _slices(self, number: int, wanted: Tensor) -> Iterator[tuple[Tensor, Rows]]:
        """Rows for the wanted [*shape] values of a node, and the numbers of those values: of an image [C, H, W] from
        a block of neighbouring positions, which depend on the same pixels."""
        shape, size = wanted.shape, math.prod(wanted.shape)
        numbers = torch.arange(size, device=wanted.device).view(shape)
        step = max(_MEMORY // (2 * self.graph.widest * len(self.region.x)), 1)
        if len(shape) == 1:
            for index in numbers[wanted].split(step):
                rows = self.region.x.new_zeros(1, len(index), size)
                rows[0, torch.arange(len(index), device=index.device), index] = 1
                yield index, Rows(rows)
            return
        side = max(math.isqrt(_BLOCK // shape[0]), 1)
        for top in range(0, shape[1], side):
            for left in range(0, shape[2], side):
                block = (..., slice(top, top + side), slice(left, left + side))
                if bool(wanted[block].any()):
                    yield numbers[block][wanted[block]], unit_rows(wanted[block], (top, left), self.region.x)
