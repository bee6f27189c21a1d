"""Lower bounds of the minimal adversarial distance, for scores that are minima over prototypes.

Paper, section 4 and appendices A.2 and A.3, with its slips mended, and a bound that is far tighter: docs/bounds.md
derives both. Over a finite set of prototypes (nearest neighbour) they are certificates. Where the prototypes are all
that a decoder can draw (ABS) they are as good as the minimum over its latent space that was found, as the paper's are:
estimates, whose spread over seeds tells how far to trust them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from arena.evaluation.bounds.minimisers import BranchAndBound, Descents, Found, Minimiser
from arena.evaluation.bounds.separate import SeparateBound
from arena.evaluation.bounds.separation import Separation
from arena.geometry.norms import Norm, spec_of
from arena.interface.contracts import Defense
from arena.interface.prototypes import Points, Prototypes, input_of, prototypes_of
from arena.interface.settings import Settings

_RIVALS = 3  # classes, the closest, whose smallest perturbations lead to further prototypes of the label
_SLACK = 1e-4  # of a count of pixels: more than rounding can add to it


class Descent(Settings):
    """How the minimum over prototypes is searched; of a finite set it is found whatever these are."""

    scouts: int = Field(2, ge=1, description="descents to every class that find the close ones")
    starts: int = Field(8, ge=1, description="descents to each close class in the end")
    steps: int = Field(40, ge=1, description="of each descent")


class Search(Descent):
    """The same, and which prototypes of the label count."""

    rounds: int = Field(
        3, ge=0, description="how often prototypes of the label are added, where the smallest perturbations so far lead"
    )


class PrototypeBound(NamedTuple):
    """A lower bound of each image's distance to the nearest adversarial, zero where it is misclassified; that to each
    class, infinity at the label; and the prototypes that attain it, the label's nearest at the label."""

    value: Tensor  # [B], float64
    per_class: Tensor  # [B, C], float64
    points: Points  # [B, C, ...]


def joint(
    defense: Defense, x: Tensor, y: Tensor, norm: Norm, *, seed: int = 0, search: Search | None = None
) -> PrototypeBound:
    """One perturbation must make a class explain better than the label does: how long is the shortest that could?

    x: images, float32 [B, C, H, W] in [0, 1]; y: labels, int64 [B]; seed: of the points where the search begins.
    L0 counts whole pixels. Raises UserError for a defense without prototypes.
    """
    search = search or Search()
    return _bound(Separation, defense, x, y, norm, seed, search, search.rounds)


def separate(
    defense: Defense, x: Tensor, y: Tensor, norm: Norm, *, seed: int = 0, search: Descent | None = None
) -> PrototypeBound:
    """The paper's bound, for comparison: label and class are perturbed separately. L2 and Linf; all else as `joint`."""
    if norm not in SeparateBound.norms:
        raise ValueError("the separate bound is one of L2 or Linf")
    return _bound(SeparateBound, defense, x, y, norm, seed, search or Descent(), rounds=0)


@torch.no_grad()
def _bound(
    kind: type[Separation],
    defense: Defense,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    seed: int,
    search: Descent,
    rounds: int,
) -> PrototypeBound:
    prototypes = prototypes_of(defense)
    input = input_of(defense, x)
    own = prototypes.nearest(input)
    row = torch.arange(len(x), device=x.device)
    separation = kind.of(defense, norm, x, y, own.image[row, y][:, None], own.penalty[row, y][:, None])
    minimise = _minimiser(prototypes, y, seed, search)
    nearby = None
    for _ in range(rounds):
        nearby = _where_it_leads(prototypes, separation, minimise.scout(separation, nearby), y)
        image, penalty = (field.unflatten(0, (len(x), -1))[row, :, y] for field in (nearby.image, nearby.penalty))
        separation = separation.with_cuts(image, penalty)
    found = minimise.search(separation, nearby)
    per_class, points = _exact(separation, found)
    per_class = per_class.scatter(1, y[:, None], torch.inf)
    for field, of_label in zip(points, own, strict=True):
        field[row, y] = of_label[row, y]
    correct = (prototypes.scales * ((input[:, None] - own.image).square().sum(-1) + own.penalty)).argmin(1) == y
    return PrototypeBound(torch.where(correct, per_class.amin(1), 0), per_class, points)


def _minimiser(prototypes: Prototypes, y: Tensor, seed: int, search: Descent) -> Minimiser:
    pools = [prototypes.pool(label, seed) for label in range(len(prototypes.scales))]
    if prototypes.finite:
        return BranchAndBound(pools, y)
    return Descents(prototypes, pools, y, search.scouts, search.starts, search.steps)


def _where_it_leads(prototypes: Prototypes, separation: Separation, found: Found, y: Tensor) -> Points:
    """The prototypes [B R, C, ...] nearest to where the smallest perturbations to the R closest classes lead."""
    _, kept, classes = found.distance.shape
    distance = found.distance[:, 0].scatter(1, y[:, None], torch.inf)
    rivals = distance.topk(min(_RIVALS, classes - 1), largest=False).indices  # [B, R]
    closest = (found.points.image[::kept], found.points.penalty[::kept], found.weights[::kept])
    move = separation.project(*closest).move[torch.arange(len(y), device=y.device)[:, None], rivals]
    return prototypes.nearest((separation.input[:, None] + move).clamp(0, 1).flatten(0, 1))


def _exact(separation: Separation, found: Found) -> tuple[Tensor, Points]:
    """The least distance to each class [B, C], in float64 and whole pixels, and the points that attain it."""
    images, kept, classes = found.distance.shape
    rows = torch.arange(images, device=found.distance.device).repeat_interleave(kept)
    points, weights = found.points, found.weights.double()
    weights = weights / weights.sum(-1, keepdim=True)
    distance = separation.rows(rows).double().project(points.image.double(), points.penalty.double(), weights).distance
    if spec_of(separation.norm).counts:
        distance = (distance - _SLACK).ceil().clamp_min(0)
    least = distance.view(images, kept, classes).min(1)
    at = torch.arange(images, device=rows.device)[:, None] * kept + least.indices
    return least.values, Points(*(field[at, torch.arange(classes, device=rows.device)] for field in points))
