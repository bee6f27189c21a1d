"""The nearest neighbour as a torch module: a score is a minimum over the training images of a class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ROWS = 256  # images at a time: 60 MB for 60 000 prototypes, and enough for the matrix product's full rate
_CLOSE = 0.5  # radius up to which a batch has few candidates in common
_ROUNDING = 1e-3  # more than float32 can err in a rank


class Candidates(NamedTuple):
    """Prototypes sorted by class."""

    images: Tensor  # [N, 784]
    half_norms: Tensor  # [N], ||s - mean||^2 / 2
    sizes: list[int]  # number of prototypes of each class


class NearestNeighborModel(nn.Module):
    """logit_c = - min over the prototypes s of class c of ||x - s||_2 (paper, appendix A.5).

    Candidates are ranked by a matrix product, then the distance to the best is computed by subtraction: the
    expanded form of the distance alone would lose digits where it is small. A batch whose rows are close together,
    such as that of an estimated gradient, is ranked against the few prototypes that can be nearest to any of them.

    Args:
        x: prototypes, float32 [N, 1, 28, 28].
        y: their labels, int64 [N]; each of the classes 0 .. max(y) has at least one.
    """

    prototypes: Tensor
    half_norms: Tensor
    mean: Tensor

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.sizes: list[int] = y.bincount().tolist()
        self.register_buffer("prototypes", x.flatten(1)[y.argsort(stable=True)])
        self.register_buffer("mean", self.prototypes.mean(0))
        norms = [(block.double() - self.mean).square().sum(1) for block in self.prototypes.split(self.sizes)]
        self.register_buffer("half_norms", (torch.cat(norms) / 2).float())

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of the images x, float32 [B, 1, 28, 28]; scratch memory does not grow with B."""
        return torch.cat([-offsets.norm(dim=2) for offsets in self._offsets(x.flatten(1))])

    @torch.no_grad()
    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same logits and their gradients [B, classes, 1, 28, 28], the unit vectors towards the nearest prototypes.

        That of a minimum is that of what attains it (envelope theorem). Zero, a subgradient, at a prototype itself.
        """
        offsets = torch.cat(list(self._offsets(x.flatten(1))))
        distances = offsets.norm(dim=2, keepdim=True)
        gradients = offsets.div_(-distances.clamp_min(torch.finfo(x.dtype).tiny))
        return -distances[:, :, 0], gradients.view(*distances.shape[:2], *x.shape[1:])

    def _offsets(self, x: Tensor) -> Iterator[Tensor]:
        """From the nearest prototype of each class to each of the images x [B, 784]: [n, classes, 784] at a time."""
        if not len(x):
            yield x.new_empty(0, len(self.sizes), x.shape[1])
            return
        radius = (x - x[0]).norm(dim=1).max()
        if radius <= _CLOSE:
            pool = self._near(x[0], radius)
        elif len(x) <= _ROWS:
            pool = self._all
        else:
            for half in x.tensor_split(2):
                yield from self._offsets(half)
            return
        for rows in x.split(_ROWS):
            yield self._offsets_from(pool, rows, self._ranks(rows, pool))

    @property
    def _all(self) -> Candidates:
        return Candidates(self.prototypes, self.half_norms, self.sizes)

    def _near(self, center: Tensor, radius: Tensor) -> Candidates:
        """The prototypes that can be the nearest of their class to an image within `radius` of `center` [784].

        By the triangle inequality these are at most 2 radius farther from the center than the nearest, d away:
        half the squared distance, and so the rank, exceeds the least by at most ((d + 2 radius)^2 - d^2) / 2.
        """
        ranks = self._ranks(center.unsqueeze(0), self._all)
        d = self._offsets_from(self._all, center.unsqueeze(0), ranks)[0].norm(dim=1)
        slack = 2 * radius * (d + radius) + _ROUNDING
        near = [rank[0] <= rank.min() + more for rank, more in zip(ranks, slack, strict=True)]
        kept = torch.cat(near).nonzero()[:, 0]
        return Candidates(self.prototypes[kept], self.half_norms[kept], [int(of_class.sum()) for of_class in near])

    def _offsets_from(self, pool: Candidates, x: Tensor, ranks: Sequence[Tensor]) -> Tensor:
        """The images x [B, 784] less the prototype of each class that ranks least: [B, classes, 784]."""
        sizes = torch.tensor(pool.sizes, device=x.device)
        nearest = torch.stack([of_class.argmin(dim=1) for of_class in ranks], dim=1)
        return x.unsqueeze(1) - pool.images[sizes.cumsum(0) - sizes + nearest]

    def _ranks(self, x: Tensor, pool: Candidates) -> Sequence[Tensor]:
        """For each class [B, prototypes of the class]: ||x - s||^2 / 2 up to a term that s is not in.

        With m the mean: ||x - s||^2 / 2 = ||s - m||^2 / 2 - (x - m).s + (terms without s). Small numbers keep digits.
        """
        ranks = torch.addmm(pool.half_norms, x - self.mean, pool.images.T, alpha=-1)
        return ranks.split(pool.sizes, dim=1)
