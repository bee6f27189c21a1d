"""The largest radius that a relaxation certifies, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arena.evaluation.bounds.relaxation.backward import Relaxed, substitute
from arena.evaluation.bounds.relaxation.graph import Graph
from arena.evaluation.bounds.relaxation.region import Region
from arena.evaluation.bounds.relaxation.rows import Rows
from arena.geometry.filling import TINY
from arena.geometry.norms import Norm, spec_of

MARGIN = 1e-4  # of the largest logit: so much must be left of the label's lead
_INWARD = 1e-6  # relative, of what is certified: far more than float64 rounds
_RATE = 0.2  # of the steps of the choices, which are in [0, 1]
_FIRST = 0.2  # the first radius, of what it is where margins are linear
_LEAST = 1e-3  # relative to the radius: a bound below says no more than that the radius is too large


def certified(
    graph: Graph, x: Tensor, y: Tensor, norm: Norm, *, steps: int, tolerance: float = 0.02, rounds: int = 12
) -> Tensor:
    """Distances [B], float64, below which no image in the box is classified otherwise than as y, int64 [B].

    x: images [B, C, H, W] in [0, 1], all classified correctly; steps: of the search for the best lines.

    In a ball of radius R every adversarial is at least rho(R) away, by the functions that bound the margins there;
    outside, R: min(R, rho(R)) is a certificate whatever R is. rho falls as R grows, and the search for R = rho(R) ends
    where it is known to a share `tolerance`, or after so many `rounds`.
    """
    x = x.double()
    search = _Search(x, norm, _linear(graph, x, y, norm))
    for _ in range(rounds):
        rows = (search.low < search.high * (1 - tolerance)).nonzero().flatten()
        if not len(rows):
            break
        radius = search.guess()[rows]
        search.tell(rows, radius, nearest(graph, Region(norm, x[rows], radius), y[rows], steps))
    return search.low * (1 - _INWARD)


def nearest(graph: Graph, region: Region, y: Tensor, steps: int) -> Tensor:
    """A lower bound [B] of the distance of every adversarial in the region; infinity where the box has none."""
    with torch.no_grad():
        relaxed = Relaxed(graph, region)
        rows, lead = margins(graph, y), MARGIN * graph(region.x).abs().amax(1)
    choices = best_choices(relaxed, rows, steps)
    with torch.no_grad():
        of_image, constant = bounded(relaxed, rows, choices)
        return region.crossing(of_image, constant - lead[:, None]).amin(1)


def margins(graph: Graph, y: Tensor) -> Rows:
    """The label's logit less that of each other class, [B, classes - 1, classes]."""
    identity = torch.eye(graph.classes, dtype=torch.float64, device=y.device)
    others = torch.arange(graph.classes - 1, device=y.device).expand(len(y), -1)
    return Rows(identity[y][:, None] - identity[others + (others >= y[:, None]).long()])


def bounded(relaxed: Relaxed, rows: Rows, choices: dict[int, Tensor]) -> tuple[Rows, Tensor]:
    """Rows [B, S] of the logits as functions of the image that are nowhere greater, with lines of these choices."""
    graph = relaxed.graph
    lines = {i: piece.relax(relaxed.bounds[at], choices[i]) for i, (piece, at) in graph.nonlinear.items()}
    return substitute(graph, lines, len(graph.nodes) - 1, rows)


def best_choices(relaxed: Relaxed, rows: Rows, steps: int) -> dict[int, Tensor]:
    """Choices of lines, [K, B, S, *shape] by node, for each row by itself: Adam steps raise the least value over the
    region (alpha-CROWN, Xu et al. 2021; here the intervals of inner nodes stay)."""
    graph, count = relaxed.graph, rows.values.shape[1]
    choices = {}
    for i, (piece, at) in graph.nonlinear.items():
        choices[i] = piece.choices(relaxed.bounds[at]).repeat_interleave(count, 2)
    found = ascend(
        lambda free: relaxed.region.minimum(*bounded(relaxed, rows, dict(zip(choices, free, strict=True)))),
        list(choices.values()),
        [1.0] * len(choices),
        steps,
    )
    return dict(zip(choices, found, strict=True))


def ascend(
    least: Callable[[Sequence[Tensor]], Tensor], start: Sequence[Tensor], most: Sequence[float], steps: int
) -> list[Tensor]:
    """Values [K, B, S, ...] in [0, most] at which `least` [B, S] is greatest of all that Adam steps visit, for each row
    by itself."""
    found = list(start)
    if not steps or not found:
        return found
    with torch.enable_grad():
        free = [values.clone().requires_grad_() for values in start]
        adam = torch.optim.Adam(free, lr=_RATE)
        best = start[0].new_tensor(-torch.inf)
        for step in range(steps + 1):
            value = least(free)
            now = value.detach()
            better, best = now > best, now.maximum(best)
            for i, values in enumerate(free):
                where = better.view(1, *better.shape, *[1] * (values.ndim - 3))
                found[i] = values.detach().where(where, found[i])
            if step < steps:
                adam.zero_grad()
                (-value.sum()).backward()
                adam.step()
                for values, top in zip(free, most, strict=True):
                    values.data.clamp_(0, top)
    return found


def _linear(graph: Graph, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """About how far [B] the nearest adversarial is: as if the margins were linear."""
    rows = margins(graph, y).values
    with torch.enable_grad():
        image = x.clone().requires_grad_()
        margin = (rows @ graph(image)[..., None])[..., 0]
        slopes = [torch.autograd.grad(one.sum(), image, retain_graph=True)[0].flatten(1) for one in margin.unbind(1)]
    lengths = torch.linalg.vector_norm(torch.stack(slopes, 1), spec_of(norm).dual, dim=-1)
    return (margin.detach() / lengths.clamp_min(TINY)).amin(1).clamp_min(TINY)


class _Search:
    """The root of R = rho(R) for each image: secants of log rho over log R, kept between what is known.

    low: certified; high: where the root is at most, if rho falls.
    """

    def __init__(self, x: Tensor, norm: Norm, about: Tensor) -> None:
        self.high = spec_of(norm).length(x.maximum(1 - x).flatten(1))  # nothing in the box is further
        self.low = torch.zeros_like(self.high)
        self._last = torch.full_like(about, torch.nan).repeat(2, 1)  # log R, and log rho - log R
        self._next = (about * _FIRST).minimum(self.high)

    def guess(self) -> Tensor:
        """The radii [B] to try next."""
        return self._next

    def tell(self, rows: Tensor, radius: Tensor, value: Tensor) -> None:
        """That rho is `value` at `radius`, for the images `rows`."""
        self.low[rows] = self.low[rows].maximum(radius.minimum(value))
        self.high[rows] = self.high[rows].minimum(radius.maximum(value)).maximum(self.low[rows])
        low, high = self.low[rows], self.high[rows]
        at, gap = radius.log(), (value.maximum(_LEAST * radius) / radius).clamp_max(1 / _LEAST).log()
        before_at, before_gap = self._last[:, rows]
        slope = ((gap - before_gap) / (at - before_at)).nan_to_num(-2.0).clamp(-1000, -0.5)
        self._last[:, rows] = torch.stack([at, gap])
        inside = (at - gap / slope).exp()
        middle = torch.where(low > 0, (low * high).sqrt(), high / 3)
        # Beyond a cliff, where the bound is nothing, secants crawl.
        cliff = (gap.abs() >= -math.log(_LEAST)) | (before_gap.abs() >= -math.log(_LEAST))
        self._next[rows] = inside.where((inside > low) & (inside < high) & ~cliff, middle)
