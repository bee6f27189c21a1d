"""Target: all that an attack gets to see of a defense, with permissions, counters and a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arena.contracts import ACCESS_LEVELS, Defense, Needs
from arena.distances import per_row
from arena.errors import AccessDenied, PluginError
from arena.gradients import Autograd, Differences, ExactScores, Source
from arena.ledger import Ledger
from arena.memory import in_halves

if TYPE_CHECKING:
    from foolbox import Model


class Target:
    """What an attack may see of a defense, up to the access that it declared in `needs`.

    Every query takes images x, float32 [N, 1, 28, 28] in [0, 1], and `index` [N], the sample that each row belongs
    to (default: the rows are the batch). Queries are billed to those samples; each answered image that is misclassified
    and closer than any before is remembered. A sample whose budget is spent gets the answer to its clean image (and
    no gradient), so that the others of its batch can go on. Raises AccessDenied for more than `needs`, BudgetExhausted
    when no sample can pay, PluginError for images that are not images.
    """

    def __init__(self, defense: Defense, ledger: Ledger, needs: Needs, source: Source | None = None) -> None:
        self._defense, self._ledger, self._needs = defense, ledger, needs
        self._source = source or Autograd(self._ask_with_graph, lambda index: ledger.charge(index, gradient=True))
        self._differentiable = source is not None or self._grants("gradient")

    @property
    def defense(self) -> Defense:
        """The defense itself (white-box): queries made on it are neither counted nor remembered."""
        self._require("white-box")
        return self._defense

    @property
    def best(self) -> Tensor:
        """The closest adversarials seen so far [B, 1, 28, 28]; the clean image where there is none."""
        return self._ledger.seen.images.clone()

    @property
    def best_distance(self) -> Tensor:
        """Their distances [B] in the attack's norm; infinity where there is none."""
        return self._ledger.seen.distance.clone()

    def labels(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """The defense's decisions, int64 [N]."""
        return self._ask(x, self._checked(x, index)).argmax(1)

    def scores(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits [N, classes]; where x requires a gradient they can be backpropagated to it, given the access."""
        self._require("score")
        index = self._checked(x, index)
        if not (x.requires_grad and torch.is_grad_enabled()):
            return self._ask(x, index)
        if not self._differentiable:
            raise AccessDenied(f"the attack needs a gradient, but declared needs = {self._needs!r}")
        return _Differentiable.apply(x, self._source, index)

    def gradient(self, x: Tensor, loss: Callable[[Tensor, Tensor], Tensor], index: Tensor | None = None) -> Tensor:
        """Gradient [N, 1, 28, 28] of `loss(scores [N, classes], labels [N]) -> [N]` with respect to the images."""
        index = self._checked(x, index)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            total = loss(self.scores(x, index), self._ledger.y[index]).sum()
        return torch.autograd.grad(total, x)[0]

    def reconstructions(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """The defense's reconstruction of each image by each class, [N, classes, 1, 28, 28]."""
        self._require("reconstruction")
        index = self._checked(x, index)
        paid = self._ledger.charge(index)
        with torch.no_grad():
            asked = x if paid is None else torch.where(per_row(paid, x), x, self._ledger.x[index])
            return self._defense.reconstructions(asked)  # type: ignore[attr-defined]

    def estimated(self, step: float) -> Target:
        """The same target, its gradient estimated by coordinate-wise differences of `step`: scores are enough."""
        return Target(self._defense, self._ledger, self._needs, Differences(self._ask, step))

    def foolbox(self) -> Model:
        """A foolbox model over this target; an attack that may only see decisions sees one-hot logits."""
        from arena.foolbox_model import TargetModel

        return TargetModel(self, decision_only=not self._grants("score"))

    def _ask(self, x: Tensor, index: Tensor) -> Tensor:
        return self._answer(x.detach(), index, lambda images: evaluate(self._defense, images))

    def _ask_with_graph(self, x: Tensor, index: Tensor) -> Tensor:
        return self._answer(x, index, lambda images: _ask_in_halves(self._defense, images))

    def _answer(self, x: Tensor, index: Tensor, scores_of: Callable[[Tensor], Tensor]) -> Tensor:
        paid = self._ledger.charge(index)
        if paid is None:
            scores = scores_of(x)
            self._ledger.remember(x.detach(), index, scores.detach())
            return scores
        scores = scores_of(x[paid])
        self._ledger.remember(x[paid].detach(), index[paid], scores.detach())
        clean = evaluate(self._defense, self._ledger.x[index[~paid]])
        return scores.new_empty(len(x), scores.shape[1]).index_put((paid,), scores).index_put((~paid,), clean)

    def _grants(self, level: Needs) -> bool:
        return ACCESS_LEVELS.index(self._needs) >= ACCESS_LEVELS.index(level)

    def _require(self, level: Needs) -> None:
        if not self._grants(level):
            raise AccessDenied(f"the attack asked for {level} access, but declared needs = {self._needs!r}")

    def _checked(self, x: Tensor, index: Tensor | None) -> Tensor:
        check_images(x, self._ledger.x.shape[1:])
        if index is None:
            if len(x) != len(self._ledger.x):
                raise PluginError(
                    f"{len(x)} rows for {len(self._ledger.x)} samples: pass index=, the sample of each row"
                )
            return torch.arange(len(x), device=x.device)
        if index.shape != (len(x),):
            raise PluginError(f"index has shape {tuple(index.shape)}, but there are {len(x)} rows")
        return index


class _Differentiable(torch.autograd.Function):
    """Lets torch (and foolbox) backpropagate through a target, whatever its gradient source."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Source, index: Tensor) -> Tensor:
        scores, ctx.product = source.answer(x, index)
        return scores

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return ctx.product(cotangents[0]), None, None


def evaluate(defense: Defense, x: Tensor, rows: int | None = None) -> Tensor:
    """The defense's logits [N, classes] for the images x, asked for in batches of `rows` (default: as it prefers)."""
    with torch.no_grad():
        parts = [_ask_in_halves(defense, batch) for batch in x.split(rows or defense.batch_size)]
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def _ask_in_halves(defense: Defense, x: Tensor) -> Tensor:
    return in_halves(lambda rows: checked_scores(defense, rows), x)


def checked_scores(defense: Defense, x: Tensor) -> Tensor:
    """The defense's logits [N, classes]; raises PluginError if they are anything else, or not finite."""
    exact = x.requires_grad and defense.gradient == "exact"
    scores = ExactScores.apply(x, defense) if exact else defense.scores(x)
    check_scores(defense, scores, len(x))
    return scores


def check_scores(defense: Defense, scores: Tensor, images: int) -> None:
    """Raises PluginError unless the defense's scores are finite numbers [images, classes]."""
    if scores.ndim != 2 or len(scores) != images:
        raise PluginError(f"defense {defense.name} returned scores of shape {tuple(scores.shape)} for {images} images")
    if not bool(scores.isfinite().all()):
        raise PluginError(f"defense {defense.name} returned scores that are not finite")


def margin(scores: Tensor, y: Tensor) -> Tensor:
    """The highest logit of another class minus the label's [N], for logits [N, classes] and labels y, int64 [N]."""
    own = scores.gather(1, y[:, None])[:, 0]
    return scores.scatter(1, y[:, None], -torch.inf).amax(1) - own


def check_images(x: Tensor, shape: torch.Size) -> None:
    """Raises PluginError unless x is float32 [N, *shape], finite and inside the box [0, 1]."""
    if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.shape[1:] != shape:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise PluginError(f"images must be float32 [N, {', '.join(map(str, shape))}], not {got}")
    if x.numel():
        low, high = (bound.item() for bound in x.detach().aminmax())
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise PluginError(f"images must lie in the box [0, 1], not in [{low:g}, {high:g}]: clamp them first")
