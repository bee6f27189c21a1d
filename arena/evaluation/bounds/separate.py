"""The paper's bound (section 4, appendices A.2 and A.3), mended: the label and another class are perturbed separately.

A perturbation of size epsilon makes the label's prototype at most so much worse and another class's at best so much
better; the least epsilon that lets the two meet is a lower bound, however different the two perturbations are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from arena.evaluation.bounds.separation import Separation
from arena.geometry.halfspaces import Projection, project_by_flips
from arena.geometry.norms import Norm

_BISECTIONS = 20
_TINY = 1e-12


@dataclass(frozen=True)
class SeparateBound(Separation):
    """L2 and Linf, one prototype of the label. Binary models: L2 of what they see, hence so many flips.

    Where the paper errs in print: equation 8 has d_c for d_c^2 and lacks the factor 2 sigma^2; equation 6 adds C twice;
    in equation 13 the minimum over |d_i| <= epsilon of 2 d_i b_i - d_i^2 is -2 epsilon |b_i| - epsilon^2, at an end.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")

    def project(self, image: Tensor, penalty: Tensor, weights: Tensor, relaxed: bool = False) -> Projection:
        """Distances alone (the two perturbations are none together). The penalty, at least zero, is left out."""
        if self.threshold is not None:
            input = self._l2(image)
            if relaxed:
                return Projection(input, torch.zeros_like(image))
            side = torch.where(self.x >= self.threshold, -1.0, 1.0).to(image.dtype)[:, None].expand_as(image)
            return project_by_flips(self.norm, self.x[:, None], side, input.square(), self.threshold)
        return Projection(self._l2(image) if self.norm == "l2" else self._linf(image), torch.zeros_like(image))

    def at_least(self, image: Tensor, penalty: Tensor) -> Tensor:
        """Linf: by (|a| - epsilon)_+^2 >= a^2 - 2 epsilon |a|, the root of a quadratic."""
        if self.norm == "l2" or self.threshold is not None:
            return self.project(image, penalty, self.first(penalty)).distance
        away, own = (image - self.input[:, None]).abs(), (self.image[:, :1] - self.input[:, None]).abs()
        offset = (away.square().sum(-1) - self.level[:, :1]).clamp_min(0)
        half = away.sum(-1) + own.sum(-1)
        return offset / (half + (half.square() + image.shape[-1] * offset).sqrt()).clamp_min(_TINY)

    def _l2(self, image: Tensor) -> Tensor:
        """The least epsilon with scale_c (d_c - epsilon)^2 <= scale_y ((r_y + epsilon)^2 + offset_y).

        With equal scales of one: (d_c^2 - f_y) / (2 (d_c + r_y)).
        """
        own, other = self.own_scale[:, None], self.scales
        squared = (self.input[:, None] - image).square().sum(-1)
        label = torch.linalg.vector_norm(self.input - self.image[:, 0], dim=-1)[:, None]
        offset = (other * squared - own * self.level[:, :1]).clamp_min(0)
        half = other * squared.clamp_min(_TINY).sqrt() + own * label
        return offset / (half + (half.square() - (other - own) * offset).clamp_min(_TINY).sqrt())

    def _linf(self, image: Tensor) -> Tensor:
        """The least epsilon with sum_i (|a_i| - epsilon)_+^2 <= sum_i (|b_i| + epsilon)^2 + offset_y, for the distances
        a and b of the two prototypes, by bisection."""
        away, own = (image - self.input[:, None]).abs(), (self.image[:, :1] - self.input[:, None]).abs()

        def excess(epsilon: Tensor) -> tuple[Tensor, Tensor]:
            """What c is still worse by at epsilon, and how fast that falls."""
            left, lost = (away - epsilon[..., None]).clamp_min(0), (own + epsilon[..., None]).sum(-1)
            raised = self.level[:, :1] + epsilon * (2 * own.sum(-1) + epsilon * image.shape[-1])
            return left.square().sum(-1) - raised, 2 * (left.sum(-1) + lost)

        with torch.no_grad():
            low = torch.zeros_like(away[..., 0])
            width = torch.full_like(low, 0.5)  # there, every pixel of a is zero and none of b's
            for _ in range(_BISECTIONS):
                width = width / 2
                low = torch.where(excess(low + width)[0] > 0, low + width, low)
        worse, speed = excess(low)  # a Newton step gives the rest, and the gradient
        return (low + worse / speed.detach().clamp_min(_TINY)).clamp_min(0)
