"""How far the nearest adversarial of a small ReLU network is, by mixed-integer programs (Tjeng, Xiao and Tedrake 2019).

In a ball that reaches to some adversarial, a neuron whose sign is known there is linear, and every other one is two
linear pieces with a switch. docs/bounds.md says what is certified.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from arena.evaluation.bounds.relaxation.activations import LeakyReLU
from arena.evaluation.bounds.relaxation.affine import Affine
from arena.evaluation.bounds.relaxation.backward import Relaxed
from arena.evaluation.bounds.relaxation.certificate import MARGIN, best_choices, bounded, margins
from arena.evaluation.bounds.relaxation.graph import Graph
from arena.evaluation.bounds.relaxation.region import Region
from arena.evaluation.bounds.relaxation.rows import Interval
from arena.geometry.distances import distance
from arena.geometry.norms import Norm, spec_of

Ends = float | np.ndarray  # of rows
_CHOICES = 20  # steps of the search for the best lines
_INWARD = 1e-4  # relative, of what is certified: the tolerances of the solver
_INFEASIBLE = 2  # a status of scipy.optimize.milp


class Bracket(NamedTuple):
    """No adversarial is closer than `low`; one is as far as `high`, infinity where none is known."""

    low: float
    high: float


def bracket(
    graph: Graph, x: Tensor, y: Tensor, norm: Norm, attacked: float, *, seconds: float, gap: float = 0.01
) -> Bracket:
    """Where the nearest adversarial is, closed to a share `gap` if time suffices.

    graph: its pieces that are not affine are ReLUs; x: one image [1, C, H, W] in [0, 1], classified correctly as y,
    int64 [1]; norm: L1 or Linf; attacked: how far an adversarial is, infinity if none is known.

    Asked is first whether anything is a little closer than what is known; if that is not answered, halves.
    """
    deadline = time.monotonic() + seconds
    x = x.double()
    end = float(spec_of(norm).length(x.maximum(1 - x).flatten(1)))  # nothing in the box is further
    low, high = 0.0, attacked
    open_from = min(high, end)  # found out, or time did not suffice for it
    reach = high * (1 - gap / 2) if high < end else end
    while low < open_from * (1 - gap) and (left := deadline - time.monotonic()) > 0:
        found = within(graph, Region(norm, x, x.new_tensor([reach])), y, left / 2)
        low, high = max(low, min(found.low, high)), min(high, found.high)
        open_from = min(high, open_from if found.low >= reach else reach)
        reach = (low + open_from) / 2
    return Bracket(math.inf if low >= end else low * (1 - _INWARD), high)


def within(graph: Graph, region: Region, y: Tensor, seconds: float) -> Bracket:
    """What is known of adversarials in a region: `low` is its radius if there are none."""
    deadline = time.monotonic() + seconds
    with torch.no_grad():
        relaxed = Relaxed(graph, region)
        rows, lead = margins(graph, y), MARGIN * graph(region.x).abs().amax()
    choices = best_choices(relaxed, rows, _CHOICES)
    with torch.no_grad():
        of_image, constant = bounded(relaxed, rows, choices)
        crossing = region.crossing(of_image, constant - lead)[0]
        radius = float(region.radius)
        program = Program(relaxed)
    low = radius
    for rival in (crossing < radius).nonzero().flatten().tolist():
        fooled = program.solve(rows.values[0, rival], float(lead), deadline - time.monotonic())
        if isinstance(fooled, Tensor):
            return Bracket(float(crossing.min()), float(distance(region.norm, fooled.view_as(region.x), region.x)))
        if fooled is None:
            low = min(low, float(crossing[rival]))
    return Bracket(low, math.inf)


class Program:
    """The network in a region, as constraints: of each pixel how it moves, in units of the radius (in L1 its rise and
    its fall), and of each neuron whose sign is open its input, its output, and whether it is active."""

    def __init__(self, relaxed: Relaxed) -> None:
        region, graph = relaxed.region, relaxed.graph
        self._radius, self._x = float(region.radius), region.x.flatten()
        opened = {i: ~piece.settled(relaxed.bounds[at]).flatten() for i, (piece, at) in graph.nonlinear.items()}
        move = torch.eye(len(self._x), dtype=torch.float64)
        room = torch.stack([-self._x, 1 - self._x]).clamp(-self._radius, self._radius) / self._radius
        if region.norm == "l1":
            move, room = torch.cat([move, -move]), torch.stack([torch.zeros_like(room), room.abs().flip(0)])
            room = room.flatten(1)
        self._move = move * self._radius
        self._next = len(move)
        self._count = len(move) + 3 * sum(int(neurons.sum()) for neurons in opened.values())
        self._low, self._high = np.zeros(self._count), np.ones(self._count)
        self._low[: len(move)], self._high[: len(move)] = room.numpy()
        self._whole = np.zeros(self._count)
        self._rows: list[tuple[sparse.csr_array, np.ndarray, np.ndarray]] = []
        if region.norm == "l1":
            self._require(sparse.coo_array(np.ones((1, len(move)))), sparse.csr_array((1, self._count)), high=1)
        image = torch.zeros(self._count + 1, len(self._x), dtype=torch.float64)
        image[: len(move)], image[-1] = self._move, self._x
        values = [image.view(-1, *graph.nodes[0].shape)]  # coefficients of every variable, then the constant
        for number, node in enumerate(graph.nodes[1:], 1):
            given = [values[i] for i in node.inputs]
            if isinstance(node.piece, LeakyReLU):
                bounds = relaxed.bounds[node.inputs[0]]
                values.append(self._neurons(node.piece, given[0], bounds, opened[number]))
            elif isinstance(node.piece, Affine):
                values.append(_carried(node.piece, given))
        self._logits = values[-1]

    def solve(self, row: Tensor, lead: float, seconds: float) -> Tensor | bool | None:
        """An image [P] for which row . logits is at most `lead`; False: there is none; None: the time ended first."""
        if seconds <= 0:
            return None
        margin = (self._logits @ row).numpy()
        last = (sparse.csr_array(margin[None, :-1]), np.array([-np.inf]), lead - margin[-1:])
        matrices, low, high = zip(*self._rows, last, strict=True)
        ended = milp(
            margin[:-1],
            constraints=LinearConstraint(sparse.vstack(matrices, format="csr"), *map(np.concatenate, (low, high))),
            integrality=self._whole,
            bounds=Bounds(self._low, self._high),
            options={"time_limit": seconds},
        )
        if ended.status == _INFEASIBLE:
            return False
        if ended.x is None:
            return None
        return (self._x + torch.from_numpy(ended.x[: len(self._move)]) @ self._move).clamp(0, 1)

    def _neurons(self, piece: LeakyReLU, given: Tensor, bounds: Interval, opened: Tensor) -> Tensor:
        """Their outputs: of those whose sign is known a multiple of the input, of the others a variable each."""
        share = piece.share
        values = given.flatten(1) * torch.where(bounds.low.flatten() >= 0, 1.0, share)
        count = int(opened.sum())
        if not count:
            return values.view_as(given)
        before, after, active = (np.arange(count) + self._next + part * count for part in range(3))
        self._next += 3 * count
        low, high = (end.flatten()[opened].numpy() for end in bounds)
        self._low[before], self._high[before] = low, high
        self._low[after], self._high[after] = share * low, high
        self._whole[active] = 1
        inside = given.flatten(1)[:, opened].numpy()
        self._require(sparse.coo_array(inside[:-1].T), self._unit(before), low=-inside[-1], high=-inside[-1])
        out, into, on = self._unit(after), self._unit(before), self._unit(active)
        self._require(out, into, low=0)
        self._require(out, into * share, low=0)
        rest = 1 - share
        self._require(out, into * share + sparse.diags_array(rest * high) @ on, high=0)
        self._require(out, into + sparse.diags_array(rest * low) @ on, high=-rest * low)
        values[:, opened] = 0
        values[torch.from_numpy(after), opened.nonzero().flatten()] = 1
        return values.view_as(given)

    def _unit(self, variables: np.ndarray) -> sparse.csr_array:
        """A row for each of these variables, that is it."""
        shape = (len(variables), self._count)
        return sparse.csr_array((np.ones(len(variables)), (np.arange(len(variables)), variables)), shape)

    def _require(
        self, left: sparse.sparray, right: sparse.sparray, low: object = -np.inf, high: object = np.inf
    ) -> None:
        """low <= left - right <= high, row by row; left may have the first variables alone."""
        left = sparse.coo_array(left)
        left.resize(right.shape)
        ends = (np.broadcast_to(np.asarray(end, float), right.shape[0]) for end in (low, high))
        self._rows.append((sparse.csr_array(left - right), *ends))


def _carried(piece: Affine, given: list[Tensor]) -> Tensor:
    """The values of an affine piece, [variables + 1, *shape]: the constant alone takes its bias."""
    values = piece.forward(*given)
    values[:-1] -= piece.forward(*(torch.zeros_like(one[:1]) for one in given))
    return values
