"""What an adversarial must achieve against a prototype: it lies in a half-space for each prototype of the label.

Moving x by d changes F_c - F_y between prototypes of the classes c and y by -normal . d (for binary models in what they
see, where b^2 = b makes every score linear): d makes c explain better than y only if normal . d >= offset. An
adversarial does so for every prototype of y, hence for every convex combination of those half-spaces, which is again
one half-space: each combination bounds the distance, the best one tightly (duality).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from arena.geometry.halfspaces import Projection, at_least, project, project_by_flips
from arena.geometry.norms import Norm
from arena.interface.contracts import Defense
from arena.interface.prototypes import input_of, prototypes_of

_PER_IMAGE = ("x", "input", "own_scale", "image", "penalty")
_RATE = 20.0  # of the weights' steps: 5 is slower, 60 overshoots


@dataclass(frozen=True)
class Separation:
    """N images, and the J prototypes of each one's label that bound how it can be perturbed.

    Prototypes of the other classes come as image [N, C, P] and penalty [N, C], weights of those of the label as
    [N, C, J], each row summing to one.
    """

    norm: Norm
    x: Tensor  # [N, P] in [0, 1]
    input: Tensor  # [N, P], what the model sees of it
    scales: Tensor  # [C], of the classes, or [N, C]; one column for prototypes of one class alone
    own_scale: Tensor  # [N], of the label
    threshold: float | None  # of a model that binarises
    image: Tensor  # [N, J, P], the prototypes of the label
    penalty: Tensor  # [N, J], theirs
    channels: int  # of the images, in L0 one pixel

    @classmethod
    def of(cls, defense: Defense, norm: Norm, x: Tensor, y: Tensor, image: Tensor, penalty: Tensor) -> Self:
        """Images x [N, C, H, W], their labels y [N], prototypes of the labels: image [N, J, P], penalty [N, J]."""
        scales = prototypes_of(defense).scales
        input, threshold = input_of(defense, x), defense.binary_threshold
        return cls(norm, x.flatten(1), input, scales, scales[y], threshold, image, penalty, x.shape[1])

    @cached_property
    def level(self) -> Tensor:
        """F_y(x) of the prototypes of the label, [N, J]."""
        return (self.input[:, None] - self.image).square().sum(-1) + self.penalty

    def with_cuts(self, image: Tensor, penalty: Tensor) -> Separation:
        """The same with more prototypes of the label: images [N, K, P] and penalties [N, K]."""
        return replace(self, image=torch.cat([self.image, image], 1), penalty=torch.cat([self.penalty, penalty], 1))

    def rows(self, index: Tensor) -> Separation:
        """The images of these numbers, which may repeat."""
        taken: dict[str, Any] = {name: getattr(self, name)[index] for name in _PER_IMAGE}
        return replace(self, **taken)

    def of_class(self, label: int) -> Separation:
        """For prototypes of one class alone, as many as there may be."""
        return replace(self, scales=self.scales[label : label + 1])

    def pairs(self, index: Tensor, label: Tensor) -> Separation:
        """The images of the numbers `index` [M], each for one prototype of its class `label` [M]."""
        return replace(self.rows(index), scales=self.scales[label][:, None])

    def double(self) -> Separation:
        """The same in float64."""
        tensors: dict[str, Any] = {name: getattr(self, name).double() for name in (*_PER_IMAGE, "scales")}
        return replace(self, **tensors)

    def first(self, penalty: Tensor) -> Tensor:
        """Weights of the first prototype of the label alone."""
        weights = penalty.new_zeros(*penalty.shape, self.level.shape[1])
        weights[..., 0] = 1
        return weights

    def equal(self, penalty: Tensor) -> Tensor:
        """Equal weights of all prototypes of the label."""
        cuts = self.level.shape[1]
        return penalty.new_full((*penalty.shape, cuts), 1 / cuts)

    def project(self, image: Tensor, penalty: Tensor, weights: Tensor, relaxed: bool = False) -> Projection:
        """The smallest perturbation into the combination of half-spaces; `relaxed` as in `project_by_flips`."""
        normal, offset = self._halfspace(image, penalty, weights)
        if self.threshold is None:
            return project(self.norm, self.x[:, None], normal, offset, self.channels)
        return project_by_flips(self.norm, self.x[:, None], normal, offset, self.threshold, relaxed, self.channels)

    def at_least(self, image: Tensor, penalty: Tensor) -> Tensor:
        """A cheap lower bound [N, C] of the distance that the first prototype of the label alone demands."""
        normal, offset = self._halfspace(image, penalty, self.first(penalty))
        return at_least(self.norm, self.x[:, None], normal, offset, self.threshold, self.channels)

    @torch.no_grad()
    def tighten(self, image: Tensor, penalty: Tensor, weights: Tensor, steps: int) -> Tensor:
        """Better weights: each step moves them towards the half-spaces that the smallest perturbation misses by most.

        (What it misses is, up to a factor, the gradient of the distance; the steps are multiplicative.)
        """
        if weights.shape[-1] == 1:
            return weights
        own = self.own_scale[:, None, None]
        logits = weights.clamp_min(1e-6).log()
        for _ in range(steps):
            move = self.project(image, penalty, weights, relaxed=True).move
            offset = self._halfspace(image, penalty, weights)[1].clamp_min(1e-6)
            # gap_j - slope_j . move, less what all j share
            missed = 2 * own * (move @ self.image.mT) - own * self.level[:, None]
            logits = logits + _RATE * (missed - (weights * missed).sum(-1, keepdim=True)) / offset[..., None]
            weights = logits.softmax(-1)
        return weights

    def each(self, image: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
        """The half-spaces of one prototype of another class, [N, P] and [N], and each of the label's: normals
        [N, J, P] and offsets [N, J]."""
        count, cuts = self.level.shape
        alone = torch.eye(cuts).to(self.level).expand(count, cuts, cuts)
        return self._halfspace(image[:, None].expand(-1, cuts, -1), penalty[:, None].expand(-1, cuts), alone)

    def _halfspace(self, image: Tensor, penalty: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """normal [N, C, P] and offset [N, C]."""
        own, other = self.own_scale[:, None], self.scales
        of_label, level = weights @ self.image, (weights @ self.level[:, :, None])[..., 0]
        misfit = (self.input[:, None] - image).square().sum(-1) + penalty
        normal = own[..., None] * (1 - 2 * of_label) - other[..., None] * (1 - 2 * image)
        return normal, other * misfit - own * level
