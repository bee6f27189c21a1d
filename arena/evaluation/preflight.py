"""Pre-flight: does a defense keep its contract? Asked about a few images before anything is played against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from arena.errors import PluginError
from arena.evaluation.referee import isolated_random_state
from arena.interface.contracts import Defense
from arena.target.logits import ROUNDING, are_probabilities, checked_scores, margin, size

FEW = 2  # images asked about
DEPTH = 3  # of objects and containers in which torch modules are looked for


@dataclass(frozen=True)
class Remark:
    """What is wrong with a defense, in one line each: `warn` that results may mislead, or `refuse` to play at all."""

    level: Literal["warn", "refuse"]
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def preflight(defense: Defense, x: Tensor, y: Tensor) -> list[Remark]:
    """Remarks on the defense: evaluation mode, logits, determinism, rows, gradients, labels that it has no class for.

    Cheap: two images are asked about twice, one of them alone, and once for gradients. AutoAttack checks alike.

    x: images, float32 [B, C, H, W] in [0, 1], B > 0; y: labels, int64 [B].
    """
    x, labels = x[:FEW].detach().to(defense.device), y.to(defense.device)
    with isolated_random_state(0):
        remarks = list(_training_mode(defense))
        given = x.clone()
        try:
            with torch.no_grad():
                logits = checked_scores(defense, given)
            if not torch.equal(given, x):
                what = f"defense {defense.name} writes into the images that it is asked about"
                return [*remarks, Remark("refuse", what, "clone them first in scores")]
            remarks += _answers(defense, x, logits)
        except PluginError as failure:
            return [*remarks, Remark("refuse", str(failure), "see Defense.scores for what it returns")]
        except Exception as failure:  # whatever a plugin raises
            what = f"defense {defense.name} cannot be asked: {type(failure).__name__}: {' '.join(str(failure).split())}"
            return [*remarks, Remark("refuse", what, "mend scores; is it made for images of this shape?")]
        remarks += _labels(defense, labels, logits.shape[1])
        if defense.gradient != "none":
            remarks += _gradients(defense, x, logits)
    return remarks


def _training_mode(defense: Defense) -> Iterator[Remark]:
    for path, module in _modules(defense, "self", DEPTH):
        if any(part.training for part in module.modules()):
            yield Remark("warn", f"defense {defense.name}: {path} is in training mode", f"call {path}.eval()")


def _modules(owner: object, path: str, depth: int) -> Iterator[tuple[str, torch.nn.Module]]:
    """The torch modules that an object holds, and how to reach each."""
    if isinstance(owner, torch.nn.Module):
        yield path, owner
        return
    if isinstance(owner, dict):
        members = [(f"{path}[{key!r}]", value) for key, value in owner.items()]
    elif isinstance(owner, list | tuple):
        members = [(f"{path}[{i}]", value) for i, value in enumerate(owner)]
    else:
        members = [(f"{path}.{name}", value) for name, value in getattr(owner, "__dict__", {}).items()]
    for inner, value in members if depth else ():
        yield from _modules(value, inner, depth - 1)


@torch.no_grad()
def _answers(defense: Defense, x: Tensor, logits: Tensor) -> Iterator[Remark]:
    """Logits rather than probabilities, the same when asked again, whatever the other rows."""
    if are_probabilities(logits):
        what = f"defense {defense.name} returns probabilities, in which gradients and margins vanish"
        yield Remark("warn", what, "return logits, before the softmax")
    if _differ(logits, checked_scores(defense, x)):
        what = f"defense {defense.name} gives two answers to one question"
        yield Remark("warn", what, "no dropout, no random draws, no state between calls")
    elif _differ(logits[:1], checked_scores(defense, x[:1])):
        what = f"defense {defense.name} answers differently for an image alone and among others"
        yield Remark("warn", what, "let no row depend on another; batch norm belongs in evaluation mode")


def _labels(defense: Defense, labels: Tensor, classes: int) -> Iterator[Remark]:
    unknown = labels[(labels < 0) | (labels >= classes)].unique().tolist()
    if unknown:
        what = f"defense {defense.name} has {classes} classes, and none for label {', '.join(map(str, unknown[:5]))}"
        yield Remark("warn", what, "such samples count as misclassified; is it made for this data set?")


def _gradients(defense: Defense, x: Tensor, logits: Tensor) -> Iterator[Remark]:
    """Gradients of the margins of the decisions that are numbers, and not all zero."""
    decisions = logits.argmax(1)
    images = x.clone().requires_grad_()
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(margin(checked_scores(defense, images), decisions).sum(), images)
    except RuntimeError as failure:
        what = f"defense {defense.name} declares gradient = {defense.gradient!r}, but has none"
        yield Remark("warn", f"{what} ({str(failure).splitlines()[0]})", "declare gradient = 'none', or mend scores")
        return
    finite = gradient.flatten(1).isfinite().all(1)
    flat = finite & ~gradient.flatten(1).any(1)
    for rows, fault in ((~finite, "not finite"), (flat, "zero everywhere")):
        if bool(rows.any()):
            what = f"defense {defense.name} has gradients that are {fault}, for {int(rows.sum())} of {len(x)} images"
            yield Remark("warn", what, "gradient attacks say little: play decision, score and transfer attacks too")


def _differ(logits: Tensor, others: Tensor) -> bool:
    """Whether any logits [N, classes] differ by more than rounding can make them."""
    moved = torch.where(logits == others, 0, (logits - others).abs())  # -inf equals itself
    return bool((moved.amax(1) > ROUNDING * size(logits)).any())
