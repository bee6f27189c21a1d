"""Target: all that an attack gets to see of a defense, with permissions, counters and a memory."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arena.errors import AccessDenied, PluginError
from arena.geometry.distances import per_row
from arena.interface.contracts import ACCESS_LEVELS, AccessLevel, Defense
from arena.target.gradients import Autograd, FiniteDifferences, Source
from arena.target.images import check_images
from arena.target.logits import ask_in_batches, evaluate, unsaturated
from arena.target.query_log import QueryLog

if TYPE_CHECKING:
    from foolbox import Model


class Target:
    """What an attack may see of a defense, up to the access that it declared in `access`.

    To call: `labels` (decision access), `scores` (score), `gradient` or backpropagation through `scores` (gradient),
    `reconstructions` (reconstruction), `defense` (white-box); at any access `classes`, `best`, `best_distance`; and the
    same as a model for a library, `module()` and `foolbox()`, or with estimated gradients, `with_finite_differences()`,
    or for some of the batch, `subset()`.

    Every query takes images x, float32 [N, C, H, W] in [0, 1], and `index`, int64 [N], the sample that each row
    belongs to (default: the rows are the batch; in a batch of one sample all rows are about it). Queries are billed to
    those samples; each answered image that is misclassified and closer than any before is remembered. A sample whose
    budget is spent gets the answer to its clean image (and no gradient), so that the others of a query can go on. A
    gradient that is not finite is zero.

    Raises:
        AccessDenied: the attack asks for more than its `access`.
        BudgetExhausted: none of the samples that the query asks about can pay. Others may still be able to: an attack
            that goes through the samples one by one catches it for each.
        PluginError: the images are not images, or their number fits no sample.
    """

    def __init__(self, defense: Defense, query_log: QueryLog, access: AccessLevel) -> None:
        self._defense, self._query_log, self._access = defense, query_log, access
        self._samples = torch.arange(len(query_log.x), device=query_log.x.device)  # in the query log, of the batch
        self._source: Source = Autograd(self._ask_with_graph, query_log)
        self._differentiable = self._grants("gradient")

    @property
    def defense(self) -> Defense:
        """The defense itself (white-box): queries made on it are neither counted nor remembered."""
        self._require("white-box")
        return self._defense

    @cached_property
    def classes(self) -> int:
        """How many classes the defense tells apart."""
        return evaluate(self._defense, self._query_log.x[:1]).shape[1]

    @property
    def best(self) -> Tensor:
        """The closest adversarials seen so far [B, C, H, W]; the clean image where there is none."""
        return self._query_log.seen.images[self._samples]

    @property
    def best_distance(self) -> Tensor:
        """Their distances [B] in the attack's norm; infinity where there is none."""
        return self._query_log.seen.distance[self._samples]

    def labels(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """The defense's decisions, int64 [N]."""
        return self._ask(*self._checked(x, index)).argmax(1)

    def scores(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits [N, classes]; where x requires a gradient they can be backpropagated to it, given the access (and are
        logarithms where the defense returns probabilities)."""
        self._require("score")
        x, index = self._checked(x, index)
        if not (x.requires_grad and torch.is_grad_enabled()):
            return self._ask(x, index)
        if not self._differentiable:
            raise AccessDenied(f"the attack needs a gradient, but declared access = {self._access!r}")
        return _Differentiable.apply(x, self._source, index)  # type: ignore[no-untyped-call]

    def gradient(self, x: Tensor, loss: Callable[[Tensor, Tensor], Tensor], index: Tensor | None = None) -> Tensor:
        """Gradient [N, C, H, W] of `loss(scores [N, classes], labels [N]) -> [N]` with respect to the images."""
        x, samples = self._checked(x, index)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            total = loss(self.scores(x, index), self._query_log.y[samples]).sum()
        return torch.autograd.grad(total, x)[0]

    def reconstructions(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """The defense's reconstruction of each image by each class, [N, classes, C, H, W]."""
        self._require("reconstruction")
        x, index = self._checked(x, index)
        paid = self._query_log.charge(index)
        with torch.no_grad():
            asked = x if paid is None else torch.where(per_row(paid, x), x, self._query_log.x[index])
            return self._defense.reconstructions(asked)  # type: ignore[attr-defined]

    def with_finite_differences(self, step: float) -> Target:
        """The same target, its gradient estimated by coordinate-wise differences of `step`: scores are enough."""
        estimated = copy(self)
        estimated._source, estimated._differentiable = FiniteDifferences(self._ask, step), True
        return estimated

    def subset(self, samples: Tensor) -> Target:
        """The same target as that of a smaller batch, so that an attack can be played on those samples alone.

        samples: their numbers in this batch, int64 [n], each once; there they are counted from 0."""
        smaller = copy(self)
        smaller._samples = self._samples[samples]
        return smaller

    def foolbox(self, transform: Callable[[Tensor], Tensor] | None = None) -> Model:
        """A foolbox model over this target; an attack that may only see decisions sees one-hot logits.

        transform: of the logits [N, classes] that foolbox sees, which does not change what is highest.
        """
        from arena.target.adapters import FoolboxModel

        return FoolboxModel(self, decision_only=not self._grants("score"), transform=transform)

    def module(self, sample: int | None = None) -> torch.nn.Module:
        """A torch module over this target, for libraries that call `model(x)` and backpropagate; see `TargetModule`.

        sample: the one that every row is about. None: the rows of x are the batch.
        """
        from arena.target.adapters import TargetModule

        return TargetModule(self, self._query_log.x[self._samples], sample, decision_only=not self._grants("score"))

    def _ask(self, x: Tensor, index: Tensor) -> Tensor:
        return self._answer(x.detach(), index, lambda images: evaluate(self._defense, images))

    def _ask_with_graph(self, x: Tensor, index: Tensor) -> Tensor:
        rows = self._defense.batch_size
        return unsaturated(self._answer(x, index, lambda images: ask_in_batches(self._defense, images, rows)))

    def _answer(self, x: Tensor, index: Tensor, scores_of: Callable[[Tensor], Tensor]) -> Tensor:
        paid = self._query_log.charge(index)
        if paid is None:
            scores = scores_of(x)
            self._query_log.remember(x.detach(), index, scores.detach())
            return scores
        scores = scores_of(x[paid])
        self._query_log.remember(x[paid].detach(), index[paid], scores.detach())
        clean = evaluate(self._defense, self._query_log.x[index[~paid]])
        return scores.new_empty(len(x), scores.shape[1]).index_put((paid,), scores).index_put((~paid,), clean)

    def _grants(self, level: AccessLevel) -> bool:
        return ACCESS_LEVELS.index(self._access) >= ACCESS_LEVELS.index(level)

    def _require(self, level: AccessLevel) -> None:
        if not self._grants(level):
            raise AccessDenied(f"the attack asked for {level} access, but declared access = {self._access!r}")

    def _checked(self, x: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
        """Plain images, and the number in the query log of each one's sample."""
        x, samples = check_images(x, self._query_log.x.shape[1:]), len(self._samples)
        if index is None:
            if samples == 1:
                return x, self._samples.expand(len(x))
            if len(x) != samples:
                raise PluginError(f"{len(x)} rows for {samples} samples: pass index=, the sample of each row")
            return x, self._samples
        if index.shape != (len(x),):
            raise PluginError(f"index has shape {tuple(index.shape)}, but there are {len(x)} rows")
        return x, self._samples[index]


class _Differentiable(torch.autograd.Function):
    """Lets torch (and foolbox) backpropagate through a target, whatever its gradient source."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Source, index: Tensor) -> Tensor:
        scores, ctx.product = source.answer(x, index)
        return scores

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return ctx.product(cotangents[0]), None, None
