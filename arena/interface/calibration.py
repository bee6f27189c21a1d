"""Confidence from scores (Schott et al. 2019, equation 4), and the calibration of its two numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from arena.errors import UserError

MEDIAN = 0.9  # confidence of the predicted class on clean test images (section 3)


@dataclass(frozen=True)
class Calibration:
    """The two numbers of equation 4: `alpha` scales the logits, `eta` is the evidence that each class has anyway.

    Raises:
        ValueError: alpha is not positive, eta is negative, or either is not finite.
    """

    alpha: float
    eta: float

    def __post_init__(self) -> None:
        if not (0 < self.alpha < math.inf and 0 <= self.eta < math.inf):
            raise ValueError(f"alpha {self.alpha}, eta {self.eta}: alpha is positive, eta is not negative")


def confidence(scores: Tensor, calibration: Calibration) -> Tensor:
    """p_c = (exp(alpha l_c) + eta) / sum_k (exp(alpha l_k) + eta), for each image and class.

    It has the order of the logits. Where every exp(alpha l_k) is small relative to eta it is uniform; eta = 0 is the
    softmax. Computed from logarithms in float64, so that no logit is too large or too small; differentiable.

    Args:
        scores: logits l [B, C]; NaN in a row makes that row NaN.

    Returns:
        [B, C] in [0, 1], of the dtype of `scores`; rows sum to one.
    """
    log_eta = scores.new_tensor(calibration.eta, dtype=torch.float64).log()
    evidence = torch.logaddexp(calibration.alpha * scores.double(), log_eta)
    return evidence.softmax(1).to(scores.dtype)


def calibrate(scores: Tensor, y: Tensor) -> Calibration:
    """The calibration of the paper: alpha minimises the cross-entropy, eta makes the median confidence 0.9.

    The cross-entropy is that of the plain softmax; eta comes afterwards. The paper does not say so, its numbers do. On
    the test set with the authors' weights (published: appendix A.5; the CNN's eta is that of the released code, the
    paper prints a tenth of it; "with eta": the best alpha under the eta that it entails):

        |                  | alpha, plain | with eta | published | eta at published alpha | published |
        | CNN              | 0.903        | 0.255    | 1         | 1.441e6                | 1.439e6   |
        | nearest neighbor | 4.65         | 1.76     | 5         | 3.92e-12               | 4e-12     |
        | ABS              | 495          | 168      | 440       | 3.5e-5                 | 3.9e-5    |

    Args:
        scores: logits [B, C] of clean test images, C >= 2.
        y: their labels, int64 [B].

    Raises:
        UserError: there are no images, scores are not finite, or no alpha or eta does it; the message says why.
    """
    if not len(scores):
        raise UserError("no images to calibrate the confidence on; give some")
    if not bool(scores.isfinite().all()):
        raise UserError("the confidence cannot be calibrated: there are scores that are not finite")
    scores = scores.detach().double()
    alpha = _alpha(scores - scores.amax(1, keepdim=True), y)  # the cross-entropy is the same, and nothing overflows
    return Calibration(alpha, _eta(alpha * scores))


def _alpha(gaps: Tensor, y: Tensor) -> float:
    """Where the cross-entropy, convex in alpha, has slope zero. gaps: logits [B, C] less the highest of the row."""
    own = gaps.gather(1, y[:, None])[:, 0]

    def slope(alpha: float) -> float:
        return float((((alpha * gaps).softmax(1) * gaps).sum(1) - own).mean())

    if slope(0.0) >= 0:
        raise UserError("the confidence cannot be calibrated: the scores are no better than chance")
    if not bool((own < 0).any()):  # the limit of the slope is -mean(own)
        raise UserError("the confidence cannot be calibrated on images that are all classified correctly; give more")
    low, high = 0.0, -1 / float(gaps.min())
    while slope(high) < 0:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return high


def _eta(scaled: Tensor) -> float:
    """The eta of the median image: each image has one that makes its confidence `MEDIAN`, and is less sure above it.

    Where e is the highest evidence of C classes and S the sum, (e + eta) / (S + C eta) = m gives
    eta = (e - m S) / (m C - 1). scaled: alpha times the logits [B, C].
    """
    highest = scaled.softmax(1).amax(1)  # e / S
    share = (1 - MEDIAN / highest).clamp_min(0) / (MEDIAN * scaled.shape[1] - 1)  # eta / e
    log_eta = float((scaled.amax(1) + share.log()).median())
    if log_eta == -math.inf:
        median = f"{float(highest.median()):.3f}"
        raise UserError(f"the confidence cannot be calibrated: its median is {median} without eta, and eta lowers it")
    eta = float(torch.tensor(log_eta, dtype=torch.float64).exp())
    if not 0 < eta < math.inf:
        raise UserError(f"the confidence cannot be calibrated: eta would be exp({log_eta:.0f}); centre the scores on 0")
    return eta
