"""The rounds of the cutting-plane attacks: project every half-space met so far, see what was overlooked, and again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import arena
from arena.evaluation.bounds.separation import Separation
from arena.interface.prototypes import Points, Prototypes, input_of, prototypes_of
from arena.plugins.attacks.cutting_planes.moves import cheapest_flips, smallest_move
from arena.toolbox import Norm, binarize, distance, per_row

MARGIN = 5e-3  # by which half-spaces are crossed at first, in units of the scores f_c
WIDER = 3.0  # times that, where the defense's own search does not find what crosses


class Each(NamedTuple):
    """A prototype for each of N rows, of a class of the row's."""

    code: Tensor  # [N, L]
    image: Tensor  # [N, P]
    penalty: Tensor  # [N]

    @classmethod
    def of(cls, points: Points, label: Tensor) -> Each:
        """Those of the classes `label` [N]."""
        rows = torch.arange(len(label), device=label.device)
        return cls(*(part[rows, label] for part in points))

    def energy(self, input: Tensor) -> Tensor:
        """||input - image||^2 + penalty, [N]."""
        return (input - self.image).square().sum(-1) + self.penalty

    def or_closer(self, other: Each, input: Tensor) -> Each:
        """The one of the two, row by row, that explains the images input [N, P] better."""
        closer = other.energy(input) < self.energy(input)
        return Each(*(torch.where(per_row(closer, mine), its, mine) for mine, its in zip(self, other, strict=True)))


class Duels:
    """The label of an image against a rival class, one duel a row; an image may fight several.

    The rival's prototype and each that the label was explained by (a cut) make a half-space, which the perturbation of
    what the model sees has to reach. All cuts stay: with the last alone, the rounds would swing between a few.

    Args:
        x: images, float32 [N, C, H, W] in [0, 1]; label and rival: classes, int64 [N].
        own: what explains the image best as its label; other: the rival's prototype to begin with.
    """

    def __init__(
        self, defense: arena.Defense, norm: Norm, x: Tensor, label: Tensor, rival: Tensor, own: Each, other: Each
    ):
        self.defense, self.norm, self.x, self.label, self.rival = defense, norm, x, label, rival
        self.prototypes: Prototypes = prototypes_of(defense)
        self.cuts, self.other = [own], other
        self.margin = torch.full(label.shape, MARGIN, dtype=torch.float64, device=x.device)
        self.images = x.clone()  # the closest adversarials so far; where there is none, the last attempt
        self.distance = torch.full(label.shape, torch.inf, device=x.device)  # of those
        self.reached = torch.full(
            label.shape, 0.99, device=x.device
        )  # share of the way to them where all half-spaces begin

    def half_spaces(self) -> tuple[Tensor, Tensor]:
        """normals [N, K, P], offsets [N, K], float64: moves d of the input are across if normal . d >= offset."""
        _, images, penalties = (torch.stack(parts, 1) for parts in zip(*self.cuts, strict=True))
        separation = Separation.of(self.defense, self.norm, self.x, self.label, images, penalties)
        rows = torch.arange(len(self.x), device=self.x.device)
        return separation.pairs(rows, self.rival).double().each(self.other.image.double(), self.other.penalty.double())

    def play(self, steps: int) -> None:
        """A round: what crosses all half-spaces and is misclassified counts if it is the closest. What explains it best
        as the label is the next cut; what explains it best as the rival takes the code of the old prototype."""
        images, across = self._move()
        input = input_of(self.defense, images)
        found = self.prototypes.nearest(input)
        mine, its = self._explain(input, found, steps)

        scales = self.prototypes.scales
        across &= scales[self.rival] * its.energy(input) <= scales[self.label] * mine.energy(input)
        scores = scales * ((input[:, None] - found.image).square().sum(-1) + found.penalty)
        fooled = scores.argmin(1) != self.label
        self.margin[across & ~fooled] *= WIDER
        self.other = its
        self.cuts.append(mine)
        normals, offsets = self.half_spaces()
        reached = offsets / (normals @ (input - input_of(self.defense, self.x)).double()[..., None])[..., 0]
        distances = distance(self.norm, images, self.x)
        closer = across & fooled & (distances < self.distance)
        self.distance[closer] = distances[closer]
        taken = closer | self.distance.isinf()
        self.images[taken] = images[taken]
        self.reached[closer] = reached.amax(1).clamp(0, 1).to(self.reached)[closer]

    def _move(self) -> tuple[Tensor, Tensor]:
        """The closest images [N, ...] across all half-spaces; and whether [N] the box holds any."""
        normals, offsets = (part.cpu().numpy() for part in self.half_spaces())
        offsets = offsets + self.margin.cpu().numpy()[:, None]
        pixels = self.x.flatten(1).double().cpu().numpy()
        threshold = self.defense.binary_threshold
        channels = self.x.shape[1]
        moves = [
            smallest_move(self.norm, *problem, channels)
            if threshold is None
            else cheapest_flips(self.norm, *problem, threshold, channels)
            for problem in zip(pixels, normals, offsets, strict=True)
        ]
        across = torch.tensor([move is not None for move in moves], device=self.x.device)
        move = np.stack([np.zeros_like(pixels[0]) if move is None else move for move in moves])
        input = (input_of(self.defense, self.x) + torch.from_numpy(move).to(self.x)).clamp(0, 1).view_as(self.x)
        return input if threshold is None else binarize(input, self.x, threshold), across

    def _explain(self, input: Tensor, found: Points, steps: int) -> tuple[Each, Each]:
        """The best explanations of the inputs [N, P] as the label and as the rival: among what the defense found and
        what `steps` of refining find from the cheapest cut and from the rival's last prototype."""
        cheapest = torch.stack([cut.energy(input) for cut in self.cuts]).argmin(0)
        rows = torch.arange(len(input), device=input.device)
        known = Each(*(torch.stack(parts)[cheapest, rows] for parts in zip(*self.cuts, strict=True)))
        start = Each(*(torch.cat(parts) for parts in zip(known, self.other, strict=True)))
        classes = torch.cat([self.label, self.rival])
        refined = refine_each(self.prototypes, classes, start, torch.cat([input, input]), steps)
        mine, its = (Each(*parts) for parts in zip(*(part.chunk(2) for part in refined), strict=True))
        return (
            mine.or_closer(known, input).or_closer(Each.of(found, self.label), input),
            its.or_closer(self.other, input).or_closer(Each.of(found, self.rival), input),
        )


def refine_each(prototypes: Prototypes, label: Tensor, start: Each, input: Tensor, steps: int) -> Each:
    """From `start` prototypes of the classes `label` [N] that explain the images input [N, P] better.

    The protocol refines a prototype of every class for each image; here the rows of a class share a column of as few
    images as can be.
    """
    count = torch.nn.functional.one_hot(label, len(prototypes.scales)).cumsum(0)
    slot = count.gather(1, label[:, None])[:, 0] - 1, label

    def spread(part: Tensor) -> Tensor:
        return part.new_zeros(int(count.max()), count.shape[1], *part.shape[1:]).index_put(slot, part)

    aims = spread(input)
    refined = prototypes.refine(
        Points(*map(spread, start)), lambda image, penalty: (image - aims).square().sum(-1) + penalty, steps
    )
    return Each(*(part[slot] for part in refined))
