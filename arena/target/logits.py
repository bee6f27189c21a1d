"""What a defense answers: logits, asked for in batches that fit, and checked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arena.errors import PluginError
from arena.interface.contracts import Defense
from arena.target.gradients import ExactScores
from arena.target.out_of_memory import split_on_out_of_memory

PROBABILITIES = 1e-4  # by which a row of probabilities may miss the sum of one
ROUNDING = 1e-3  # of the size of the logits: no rounding moves a margin further


def evaluate(defense: Defense, x: Tensor, rows: int | None = None) -> Tensor:
    """The defense's logits [N, classes] for the images x, asked for in batches of `rows` (default: as it prefers)."""
    with torch.no_grad():
        return ask_in_batches(defense, x, rows or defense.batch_size)


def ask_in_batches(defense: Defense, x: Tensor, rows: int) -> Tensor:
    """The same, with a graph if x has one."""
    parts = [ask(defense, batch) for batch in x.split(rows)]
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def ask(defense: Defense, x: Tensor) -> Tensor:
    """The defense's logits [N, classes] for the images x, by one call, or by several where memory is short."""
    return split_on_out_of_memory(lambda rows: checked_scores(defense, rows), x)


def checked_scores(defense: Defense, x: Tensor) -> Tensor:
    """The defense's logits, float32 [N, classes]; raises PluginError as `check_scores` does."""
    exact = x.requires_grad and defense.gradient == "exact"
    return check_scores(defense, ExactScores.apply(x, defense) if exact else defense.scores(x), len(x))  # type: ignore[no-untyped-call]


def check_scores(defense: Defense, scores: Tensor, images: int) -> Tensor:
    """The defense's scores as float32 logits [images, classes], whatever floating point numbers it computes with.

    A class that is masked may have the logit -inf. Raises PluginError if they are anything else: of another shape or
    kind, of a single class, NaN, +inf, or all -inf.
    """
    owner = f"defense {defense.name} returned"
    if not isinstance(scores, Tensor):
        raise PluginError(f"{owner} {type(scores).__name__}, not a tensor of logits [{images}, classes]")
    if scores.ndim != 2 or len(scores) != images:
        raise PluginError(f"{owner} scores of shape {tuple(scores.shape)} for {images} images")
    if scores.shape[1] < 2:
        raise PluginError(f"{owner} a single logit for each image: return one a class, such as torch.cat([-s, s], 1)")
    if not scores.is_floating_point():
        raise PluginError(f"{owner} {scores.dtype}, not floating point logits: convert them with .float()")
    scores = scores.float()
    # A finite sum tells in one operation that all are finite; NaN is the largest of its row.
    if not math.isfinite(scores.detach().sum()) and not bool(scores.amax(1).isfinite().all()):
        raise PluginError(f"{owner} scores that are not finite")
    return scores


def are_probabilities(scores: Tensor) -> bool:
    """Whether every row [N, classes] is not negative and adds up to one."""
    scores = scores.detach()
    return bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() <= PROBABILITIES).all())


def unsaturated(scores: Tensor) -> Tensor:
    """The logarithms of probabilities, whose gradients and margins vanish long before these do; logits as they are.

    scores: [N, classes]; the order of the classes stays.
    """
    return scores.clamp_min(torch.finfo(scores.dtype).tiny).log() if are_probabilities(scores) else scores


def margin(scores: Tensor, y: Tensor) -> Tensor:
    """The highest logit of another class minus the label's [N], for logits [N, classes] and labels y, int64 [N]."""
    own = scores.gather(1, y[:, None])[:, 0]
    return scores.scatter(1, y[:, None], -torch.inf).amax(1) - own


def size(scores: Tensor) -> Tensor:
    """The largest magnitude of the finite logits [N, classes] of each row [N]: what rounding is relative to."""
    return scores.masked_fill(scores == -torch.inf, 0).abs().amax(1)
