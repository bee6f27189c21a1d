"""A network as a graph of pieces, each affine or bounded by linear functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from arena.evaluation.bounds.relaxation.activations import Nonlinear
from arena.evaluation.bounds.relaxation.affine import Affine
from arena.evaluation.bounds.relaxation.rows import Shape


@dataclass(frozen=True)
class Node:
    """A piece, the numbers of the nodes that it is a function of, and the shape of its values for one image."""

    piece: Affine | Nonlinear | None  # None: the image
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of computation: the image first, the logits [classes] last. All in float64."""

    nodes: tuple[Node, ...]

    @property
    def classes(self) -> int:
        return self.nodes[-1].shape[0]

    @cached_property
    def nonlinear(self) -> dict[int, tuple[Nonlinear, int]]:
        """The pieces that are not affine, each with the node that it takes, by number."""
        found = ((i, node.piece, node.inputs) for i, node in enumerate(self.nodes))
        return {i: (piece, inputs[0]) for i, piece, inputs in found if isinstance(piece, Nonlinear)}

    @cached_property
    def users(self) -> dict[int, list[Nonlinear]]:
        """The same by the affine nodes that they take, whose bounds decide how tight they are."""
        found: dict[int, list[Nonlinear]] = {}
        for piece, number in self.nonlinear.values():
            if number not in self.nonlinear:
                found.setdefault(number, []).append(piece)
        return found

    @cached_property
    def widest(self) -> int:
        """The most values of a node."""
        return max(math.prod(node.shape) for node in self.nodes)

    def values(self, x: Tensor) -> list[Tensor]:
        """The values of every node for images x, float64 [N, C, H, W]."""
        found: list[Tensor] = [x]
        for node in self.nodes[1:]:
            found.append(node.piece.forward(*(found[i] for i in node.inputs)))  # type: ignore[union-attr]
        return found

    def __call__(self, x: Tensor) -> Tensor:
        """The logits [N, classes] for images x, float64 [N, C, H, W]."""
        return self.values(x)[-1]
