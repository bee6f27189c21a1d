"""Parts of a region in which the signs of some neurons are assumed, and what bounds the margins there.

A neuron whose sign is known is linear. That its input z has the sign s, s z >= 0, enters the bound with a Lagrange
multiplier, a price (beta-CROWN, Wang et al. 2021): every price that is not negative is sound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from arena.evaluation.bounds.relaxation.activations import LeakyReLU, Lines, Relaxation
from arena.evaluation.bounds.relaxation.affine import Pulled
from arena.evaluation.bounds.relaxation.backward import Relaxed, substitute
from arena.evaluation.bounds.relaxation.certificate import MARGIN, ascend, margins
from arena.evaluation.bounds.relaxation.graph import Graph
from arena.evaluation.bounds.relaxation.region import Region
from arena.evaluation.bounds.relaxation.rows import Interval, Rows, Shape
from arena.geometry.norms import spec_of
from arena.geometry.scale import unit

_STRIDES = 0.3, 0.01  # the first and the last of a descent, of the way from the clean image to its start


class Parts(NamedTuple):
    """N parts of a region, each with a class that is to be ruled out there; M neurons have no sign that is known in all
    of the region."""

    rival: Tensor  # [N]: its row of the margins
    sign: Tensor  # [N, M]: 1 active, -1 inactive, 0 not assumed
    choice: Tensor  # [N, M]: of the lower lines, in [0, 1]
    price: Tensor  # [N, M]: of the assumed signs

    def at(self, index: Tensor | slice) -> Parts:
        """Some of them."""
        return Parts(*(values[index] for values in self))

    def cut(self, neuron: Tensor) -> Parts:
        """Two of each [2 N], by the sign of one neuron [N]: all where it is active, then all where it is not."""
        active, inactive = (self.sign.scatter(1, neuron[:, None], sign) for sign in (1, -1))
        return joined([self._replace(sign=active), self._replace(sign=inactive)])


def joined(parts: Sequence[Parts]) -> Parts:
    """All of them, in this order."""
    return Parts(*(torch.cat(values) for values in zip(*parts, strict=True)))


class Bounded(NamedTuple):
    """What the best bounding functions of N parts tell."""

    parts: Parts  # with the choices and prices that make them
    least: Tensor  # [N]: no margin over the part's class is below
    image: Tensor  # [N, C, H, W]: where in the region the function is least, if not in the part
    loss: Tensor  # [N]: the most that the upper line of a neuron lowers the function
    neuron: Tensor  # [N]: which one it is, where the loss is not zero


@dataclass
class _Split(Relaxation):
    """Lines, and the price times the sign [N, *shape] of what is assumed of their input."""

    lines: Lines
    priced: Tensor
    loss: Tensor | None = None  # [N, *shape], of the one row that was pulled

    def pull(self, rows: Rows, shape: Shape, inputs: Sequence[Shape]) -> Pulled:
        (pulled,), constant = self.lines.pull(rows, shape, inputs)
        self.loss = -(rows.whole(shape).clamp_max(0) * self.lines.high_offset)[:, 0]
        return Pulled([Rows(pulled.values - rows.crop(self.priced[:, None]), rows.corner)], constant)


class Splits:
    """The margins of a network of leaky ReLUs over parts of a region around one image.

    lead: what they must exceed to be proven, as for `certified`.
    """

    def __init__(self, graph: Graph, region: Region, y: Tensor) -> None:
        self._graph, self._region, self._rows = graph, region, margins(graph, y).values[0]
        with torch.no_grad():
            bounds = Relaxed(graph, region).bounds
            logits = graph(region.x)[0]
            self.lead = float(MARGIN * logits.abs().amax())
        given = [bounds[at] for _, at in graph.nonlinear.values()]
        self._sizes = [ends.low.numel() for ends in given]
        nothing = region.x.new_zeros(0)
        self._low, self._high = (torch.cat([nothing, *(ends[end].flatten() for ends in given)]) for end in (0, 1))
        self._open = ((self._low < 0) & (self._high > 0)).nonzero().flatten()
        # Over the width of a neuron's interval a price of one changes the bound by about the margin that is to be held.
        self._unit = (self._rows @ logits).mean() / (self._high - self._low)[self._open]

    def whole(self) -> Parts:
        """The region, once for every class but the label."""
        free = self._rows.new_zeros(len(self._rows), len(self._open))
        least_area = (self._high > -self._low)[self._open].to(free).expand_as(free)
        return Parts(torch.arange(len(free), device=free.device), free, least_area, free)

    def bounded(self, parts: Parts, steps: int) -> Bounded:
        """Bounds of the parts, after so many Adam steps of their choices and prices."""
        rows, last = Rows(self._rows[parts.rival][:, None]), len(self._graph.nodes) - 1
        low = self._spread(self._low[self._open].where(parts.sign <= 0, 0.0), self._low)
        high = self._spread(self._high[self._open].where(parts.sign >= 0, 0.0), self._high)

        def lines(free: Sequence[Tensor]) -> dict[int, _Split]:
            choice, price = (values[0, :, 0] for values in free)
            return self._lines(low, high, choice, price * self._unit * parts.sign)

        found = ascend(
            lambda free: self._region.minimum(*substitute(self._graph, lines(free), last, rows)),
            [parts.choice[None, :, None], parts.price[None, :, None]],
            [1.0, math.inf],
            steps if len(self._open) else 0,
        )
        with torch.no_grad():
            best = lines(found)
            least, image = self._region.attained(*substitute(self._graph, best, last, rows))
            losses = [split.loss.flatten(1) for split in best.values() if split.loss is not None]
        nothing = rows.values.new_zeros(len(least), 1)
        loss, neuron = torch.cat([*losses, nothing], 1)[:, [*self._open.tolist(), -1]].max(1)
        choice, price = (values[0, :, 0] for values in found)
        return Bounded(parts._replace(choice=choice, price=price), least[:, 0], image[:, 0], loss, neuron)

    def fooled(self, images: Tensor) -> Tensor:
        """Which of the images [N, C, H, W] lead over some class by no more than the lead."""
        return (self._graph(images) @ self._rows.T).amin(1) <= self.lead

    def descended(self, images: Tensor, rival: Tensor, steps: int) -> Tensor:
        """Images [N, C, H, W] of the region, from these on to where the margins over the classes `rival` [N] are less,
        by projected gradient steps; they end where one fools."""
        spec, clean, radius = spec_of(self._region.norm), self._region.x.flatten(1), self._region.radius[:, None]
        length = torch.linalg.vector_norm(images.flatten(1) - clean, dim=1, keepdim=True)
        first, last = _STRIDES
        for step in range(steps):
            if not len(images) or bool(self.fooled(images).any()):
                break
            with torch.enable_grad():
                at = images.detach().requires_grad_()
                (gradient,) = torch.autograd.grad((self._graph(at) * self._rows[rival]).sum(), at)
            stride = first * (last / first) ** (step / steps) * length
            moved = images.flatten(1) - stride * unit(gradient).flatten(1)
            images = spec.project_in_box(moved, clean.expand_as(moved), radius).view_as(images)
        return images

    def _lines(self, low: Tensor, high: Tensor, choice: Tensor, priced: Tensor) -> dict[int, _Split]:
        """The lines of each piece, with the bounds [N, all neurons] and with what is chosen of the open ones [N, M]."""
        zero = torch.zeros_like(self._low)
        values = (low, high, self._spread(choice, zero), self._spread(priced, zero))
        pieces = zip(*(one.split(self._sizes, 1) for one in values), strict=True)
        found = {}
        for (number, (piece, at)), own in zip(self._graph.nonlinear.items(), pieces, strict=True):
            ends = [one.view(-1, *self._graph.nodes[at].shape) for one in own]
            assert isinstance(piece, LeakyReLU)
            found[number] = _Split(piece.relax(Interval(*ends[:2]), ends[2][None, :, None]), ends[3])
        return found

    def _spread(self, values: Tensor, others: Tensor) -> Tensor:
        """Values of the open neurons [N, M] among those of the others, [N, all neurons]."""
        return others.expand(len(values), -1).index_copy(1, self._open, values)
