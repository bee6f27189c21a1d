"""What a defense answers: logits, asked for in batches that fit, and checked."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.errors import PluginError
from arena.interface.contracts import Defense
from arena.target.gradients import ExactScores
from arena.target.out_of_memory import split_on_out_of_memory


def evaluate(defense: Defense, x: Tensor, rows: int | None = None) -> Tensor:
    """The defense's logits [N, classes] for the images x, asked for in batches of `rows` (default: as it prefers)."""
    with torch.no_grad():
        parts = [ask(defense, batch) for batch in x.split(rows or defense.batch_size)]
    return torch.cat(parts) if len(parts) != 1 else parts[0]


def ask(defense: Defense, x: Tensor) -> Tensor:
    """The defense's logits [N, classes] for the images x, by one call, or by several where memory is short."""
    return split_on_out_of_memory(lambda rows: checked_scores(defense, rows), x)


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
