"""Losses of logits that do not depend on their scale: a defense may multiply its logits and decide all the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from arena.target.logits import margin

__all__ = ["SPREAD", "cross_entropy", "dlr", "log_odds", "margin", "normalized", "normalized_margin", "targeted_dlr"]

SPREAD = 10.0  # from the lowest logit to the highest: a softmax of these is precise in float32


def normalized(scores: Tensor) -> Tensor:
    """Logits [n, classes] moved and scaled so that each row goes from 0 to SPREAD: unlike a softmax of the logits
    themselves, one of these is never exactly 0 or 1 (Yu & Xu 2023 divide by the gap of the first two). Equal ones are
    all 0, and what is -inf, a masked class, stays so."""
    low = scores.masked_fill(scores.isneginf(), torch.inf).amin(1, keepdim=True)
    # A constant of the gradient: of two classes the scaled logits are always the same, and would have none.
    spread = (scores.amax(1, keepdim=True) - low).detach()
    return SPREAD * ((scores - low) / spread.where(spread > 0, torch.ones_like(spread)))


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """-log softmax of the label [n], for logits [n, classes], normalized, and labels y, int64 [n]."""
    return functional.cross_entropy(normalized(scores), y, reduction="none")


def log_odds(scores: Tensor, y: Tensor) -> Tensor:
    """Logarithm of the odds [n] against the label, by a softmax of the normalized logits: the gradient of the cross
    entropy but for its length, which fades where the label is certain. Within log(classes - 1) above their margin."""
    logits = normalized(scores)
    own = logits.gather(1, y[:, None])[:, 0]
    return logits.scatter(1, y[:, None], -torch.inf).logsumexp(1) - own


def normalized_margin(scores: Tensor, y: Tensor) -> Tensor:
    """The margin [n] of the normalized logits."""
    return margin(normalized(scores), y)


def dlr(scores: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio [n] (Croce & Hein 2020, equation 6): the margin, divided by the gap from the first
    logit to the third. The plain margin where there are but two."""
    if scores.shape[1] < 3:
        return margin(scores, y)
    ranked = scores.sort(1, descending=True).values
    return margin(scores, y) / (ranked[:, 0] - ranked[:, 2]).clamp_min(torch.finfo(scores.dtype).tiny)


def targeted_dlr(scores: Tensor, y: Tensor, other: Tensor) -> Tensor:
    """The same towards one class (equation 7): the logit of `other`, int64 [n], minus the label's, divided by the gap
    from the first logit to the mean of the third and the fourth; to the third of three classes, by nothing of two."""
    ahead = (scores.gather(1, other[:, None]) - scores.gather(1, y[:, None]))[:, 0]
    if scores.shape[1] < 3:
        return ahead
    ranked = scores.sort(1, descending=True).values
    return ahead / (ranked[:, 0] - ranked[:, 2:4].mean(1)).clamp_min(torch.finfo(scores.dtype).tiny)
