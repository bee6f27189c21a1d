"""How far the nearest adversarial of a small ReLU network is, by branch and bound over the signs of its neurons
(Bunel et al. 2020), each part bounded with prices on the signs that it assumes (beta-CROWN, Wang et al. 2021).

docs/bounds.md says what is certified.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from arena.evaluation.bounds.relaxation.graph import Graph
from arena.evaluation.bounds.relaxation.region import Region
from arena.evaluation.bounds.relaxation.splits import Bounded, Splits, joined
from arena.geometry.distances import distance
from arena.geometry.norms import Norm, spec_of

_INWARD = 1e-6  # relative, of what is certified: far more than float64 rounds
_BATCH = 512  # parts bounded at once
_STEPS = 4  # of the choices and prices of each: more parts pay better than more steps
_THOROUGH = 100  # steps of a part that no further sign would help, and of a descent there
_FLAT = 1e-3  # of the lead: upper lines that lower a bound by less are as good as exact


class Bracket(NamedTuple):
    """No adversarial is closer than `low`; one is as far as `high`, infinity where none is known."""

    low: float
    high: float


def bracket(
    graph: Graph, x: Tensor, y: Tensor, norm: Norm, attacked: float, *, seconds: float, gap: float = 0.01
) -> Bracket:
    """Where the nearest adversarial is, closed to a share `gap` if time suffices.

    graph: its pieces that are not affine are leaky ReLUs; x: one image [1, C, H, W] in [0, 1], classified correctly as
    y, int64 [1]; norm: L1, L2 or Linf; attacked: how far an adversarial is, infinity if none is known.

    Asked is first whether anything is a little closer than what is known. Where something is, the next question goes
    twice as far below it; where nothing is, or time does not suffice, the distance that is open is halved.
    """
    deadline = time.monotonic() + seconds
    x = x.double()
    end = float(spec_of(norm).length(x.maximum(1 - x).flatten(1)))  # nothing in the box is further
    low, high, below = 0.0, attacked, gap / 2
    open_from = min(high, end)  # found out, or time did not suffice for it
    reach = high * (1 - below) if high < end else end
    while low < open_from * (1 - gap) and (left := deadline - time.monotonic()) > 0:
        found = adversarial(graph, Region(norm, x, x.new_tensor([reach])), y, left / 2)
        if found is None:
            open_from, below = reach, 1.0
        elif math.isinf(found):
            low = reach
        else:
            high = open_from = min(found, reach)
            below *= 2
        reach = max((low + open_from) / 2, open_from * (1 - below))
    return Bracket(math.inf if low >= end else low * (1 - _INWARD), high)


def adversarial(graph: Graph, region: Region, y: Tensor, seconds: float) -> float | None:
    """How far an adversarial in the region is, infinity if there is none; None: the time ended first, or the nearest is
    so close to the edge of the region that rounding would decide.

    A part whose bound leaves an adversarial possible is cut by the sign of the neuron whose upper line lowers the bound
    most. Where no line does, all that is not linear is convex, and the bound is as good as a linear program's.
    """
    deadline = time.monotonic() + seconds
    splits = Splits(graph, region, y)
    waiting, undecided = splits.whole(), False
    while len(waiting.rival):
        if time.monotonic() >= deadline:
            return None
        opened = _open(splits.bounded(waiting.at(slice(-_BATCH, None)), _STEPS), splits.lead)
        convex = opened.loss <= _FLAT * splits.lead
        lowest = splits.descended(opened.image[convex], opened.parts.rival[convex], _THOROUGH)
        images = torch.cat([opened.image, lowest])
        images = images[splits.fooled(images)]
        if len(images):
            return float(distance(region.norm, images, region.x.expand_as(images)).min())
        if bool(convex.any()):
            last = splits.bounded(opened.parts.at(convex), _THOROUGH)
            undecided |= len(_open(last, splits.lead).least) > 0
        cut = opened.parts.at(~convex).cut(opened.neuron[~convex])
        waiting = joined([waiting.at(slice(0, -_BATCH)), cut])
    return None if undecided else math.inf


def _open(bounded: Bounded, lead: float) -> Bounded:
    """The parts that may hold an adversarial, the likeliest last."""
    order = bounded.least.argsort(descending=True)
    order = order[~(bounded.least[order] > lead)]
    parts, *rest = bounded
    return Bounded(parts.at(order), *(values[order] for values in rest))
