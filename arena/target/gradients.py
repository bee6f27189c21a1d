"""Gradient sources: each answers with scores and a vector-Jacobian product, so any attack runs over any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from arena.errors import BudgetExhausted
from arena.geometry.distances import per_row
from arena.interface.contracts import ExactGradient
from arena.target.slices import slices

if TYPE_CHECKING:
    from arena.target.query_log import QueryLog

Ask = Callable[[Tensor, Tensor], Tensor]  # images [N, ...], index [N] -> scores [N, classes], billed as queries
Product = Callable[[Tensor], Tensor]  # cotangent [N, classes] -> gradient with respect to the images [N, ...]


class Source(Protocol):
    """`answer(x, index)`: scores [N, classes] and the vector-Jacobian product at the images x [N, ...]."""

    def answer(self, x: Tensor, index: Tensor) -> tuple[Tensor, Product]: ...


class Autograd:
    """The defense's own gradient, by autograd, straight-through or exact, through the graph that `ask` builds.

    One that is not finite becomes zero. It counts as masked, as does one that is zero everywhere.
    """

    def __init__(self, ask: Ask, query_log: QueryLog) -> None:
        self._ask, self._query_log = ask, query_log

    def answer(self, x: Tensor, index: Tensor) -> tuple[Tensor, Product]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            scores = self._ask(x, index)

        def product(cotangent: Tensor) -> Tensor:
            paid = self._query_log.charge(index, gradient=True)
            gradient = torch.autograd.grad(scores, x, cotangent, retain_graph=True)[0]
            largest = torch.linalg.vector_norm(gradient.flatten(1), torch.inf, dim=1)  # NaN where one is
            if paid is None and bool(((largest > 0) & (largest < torch.inf)).all()):
                return gradient
            finite = gradient.flatten(1).isfinite().all(1)
            useful = finite & gradient.flatten(1).any(1)
            asked = cotangent.isfinite().all(1) & cotangent.any(1)  # else the attack's loss is flat
            if paid is not None:
                asked, finite = asked & paid, finite & paid
            self._query_log.masked.index_add_(0, index, (asked & ~useful).long())
            return torch.where(per_row(finite, x), gradient, 0)

        return scores.detach(), product


class ExactScores(torch.autograd.Function):
    """A defense's `scores`, with the gradients that its `score_gradient` knows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, defense: ExactGradient) -> Tensor:
        scores, gradients = defense.score_gradient(x)
        ctx.save_for_backward(gradients)
        return scores

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return torch.einsum("nc,nc...->n...", cotangents[0], gradients), None


class FiniteDifferences:
    """Coordinate-wise central differences of the scores (paper section 5, "Score-based attacks").

    The two images of a coordinate stay inside the box, and the quotient uses their actual distance; both are billed:
    two queries a coordinate for the whole Jacobian of an image. They are asked in slices of 256 MiB; a sample whose
    budget ends among them gets no gradient. The last Jacobian is kept: asking for the gradient of another class at the
    same images costs nothing more.
    """

    def __init__(self, ask: Ask, step: float) -> None:
        self._ask, self._step = ask, step
        self._at: Tensor | None = None
        self._jacobian: Tensor

    def answer(self, x: Tensor, index: Tensor) -> tuple[Tensor, Product]:
        x = x.detach().clone()
        scores = self._ask(x, index)

        def product(cotangent: Tensor) -> Tensor:
            if self._at is None or not torch.equal(self._at, x):
                self._jacobian, self._at = self._at_images(x, index, scores.shape[1]), x
            return torch.einsum("npc,nc->np", self._jacobian, cotangent).view_as(x)

        return scores, product

    def _at_images(self, x: Tensor, index: Tensor, classes: int) -> Tensor:
        """The Jacobians [N, values, classes]; zero where the sample's budget is spent."""
        jacobians = x.new_zeros(len(x), x[0].numel(), classes)
        spent: list[BudgetExhausted] = []
        for jacobian, image, sample in zip(jacobians, x, index, strict=True):
            try:
                self._at_image(image, sample, jacobian)
            except BudgetExhausted as end:
                jacobian.zero_()
                spent.append(end)
        if len(spent) == len(x) > 0:
            raise spent[0]
        return jacobians

    def _at_image(self, image: Tensor, index: Tensor, jacobian: Tensor) -> None:
        """Fill in the Jacobian [values, classes] at one image [C, H, W]."""
        for part in slices(len(jacobian), 2 * image.numel() * image.element_size()):
            rows = jacobian[part]
            offsets = image.new_zeros(len(rows), image.numel())
            offsets.diagonal(part.start).fill_(self._step)
            offsets = offsets.view(-1, *image.shape)
            pair = torch.cat([(image + offsets).clamp(0, 1), (image - offsets).clamp(0, 1)])
            above, below = self._ask(pair, index.expand(len(pair))).chunk(2)
            length = (pair[: len(rows)] - pair[len(rows) :]).flatten(1).sum(1, keepdim=True)
            rows.copy_((above - below) / length)
