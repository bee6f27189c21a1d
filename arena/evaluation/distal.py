"""Distal adversarials: noise that gradient ascent makes a defense take for a class (paper, section 7, Figure 4)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arena.errors import UserError
from arena.interface.calibration import Calibration, confidence
from arena.interface.contracts import Defense
from arena.interface.results import Distal, Status
from arena.target.logits import evaluate
from arena.target.query_log import QueryLog
from arena.target.target import Target

CONFIDENCE = 0.9  # section 7: p(y | x) >= 0.9
# The paper gives no settings. With these, from seed 0, all classes of all shipped defenses are reached.
STEPS = 200
STEP_SIZE = 1.0
SHORTER = 0.7  # steps after one that went down, where a defense binarises: pixels would flip to and fro
DIFFERENCE = 0.01  # of an estimated gradient
DIFFERENCE_ACROSS = 0.6  # the same for a defense that binarises: a pixel of any value crosses the threshold


def count_classes(defense: Defense, shape: Sequence[int]) -> int:
    """How many classes the defense tells apart in images of this shape, [C, H, W]."""
    return evaluate(defense, torch.zeros(1, *shape, device=defense.device)).shape[1]


def gradient_source(defense: Defense, estimated: bool) -> str:
    """The gradient that `ascend` follows: estimated, or the defense's own.

    Raises UserError for a defense without a calibrated confidence, and for one without a gradient of its own.
    """
    if defense.calibration is None:
        raise UserError(
            f"defense {defense.name} has no calibrated confidence: give it weights whose model card has one"
        )
    if defense.gradient == "none" and not estimated:
        raise UserError(f"defense {defense.name} has no gradient of its own: use --gradient estimated")
    return "estimated" if estimated else defense.gradient


def ascend(
    defense: Defense,
    labels: Sequence[int],
    shape: Sequence[int],
    *,
    estimated: bool = False,
    steps: int = STEPS,
    step_size: float = STEP_SIZE,
    seed: int = 0,
) -> Iterator[Distal]:
    """Ascend from uniform noise until the defense is 0.9 confident of each of `labels`; yields each as it ends.

    A step follows the gradient of `log_odds`, `step_size` far in L2 (`SHORTER` after one that went down, where the
    defense binarises), and ends in the box [0, 1]. The noise of a class depends on `seed` alone, not on the defense.
    What decides is `Defense.confidence` (equation 4), asked once more about the image that is yielded.

    estimated: follow coordinate-wise differences of the scores, two queries a value of the image and step.

    Raises UserError as `gradient_source` does.
    """
    gradient = gradient_source(defense, estimated)
    noise = torch.rand(max(labels, default=0) + 1, *shape, generator=torch.Generator().manual_seed(seed))
    y = torch.tensor(labels, dtype=torch.long)
    x, y = noise[y].to(defense.device), y.to(defense.device)
    query_log = QueryLog(x, y, "l2")
    target = Target(defense, query_log, "gradient")
    if estimated:
        target = target.with_finite_differences(DIFFERENCE if defense.binary_threshold is None else DIFFERENCE_ACROSS)
    start = time.perf_counter()
    assert defense.calibration is not None  # gradient_source saw to it
    shorter = 1.0 if defense.binary_threshold is None else SHORTER
    for row, step in _climb(target, x, y, defense.calibration, steps, step_size, shorter):
        reached = float(defense.confidence(x[row : row + 1])[0, y[row]])
        yield Distal(
            label=int(y[row]),
            gradient=gradient,
            seed=seed,
            status=Status.FOUND if reached >= CONFIDENCE else Status.NOT_FOUND,
            confidence=reached,
            steps=step,
            queries=int(query_log.queries[row]) + 1,
            gradient_queries=int(query_log.gradient_queries[row]),
            seconds=time.perf_counter() - start,
            image=x[row].cpu().numpy(),
        )


def log_odds(scores: Tensor, y: Tensor, calibration: Calibration) -> Tensor:
    """log of e_y / (sum over k != y of e_k + (C - 1 / t) eta) for e_k = exp(alpha l_k) and t = 0.9; float64 [B].

    It is at least log(t / (1 - t)) exactly where the confidence in y is at least t (solve equation 4 for e_y). But far
    from the data, where every e_k is small relative to eta, the confidence is flat at 1 / C, and its gradient lowers
    the largest evidence, whose ever it is; this gradient raises that of y.

    scores: logits l [B, C], C >= 2; y: labels, int64 [B].
    """
    scaled = calibration.alpha * scores.double()
    log_eta = scaled.new_tensor((scores.shape[1] - 1 / CONFIDENCE) * calibration.eta).log()
    own = scaled.gather(1, y[:, None])
    return own[:, 0] - scaled.scatter(1, y[:, None], log_eta.expand_as(own)).logsumexp(1)


def _climb(
    target: Target,
    x: Tensor,
    y: Tensor,
    calibration: Calibration,
    steps: int,
    step_size: float,
    shorter: float,
) -> Iterator[tuple[int, int]]:
    """Moves the images x [B, C, H, W] in place; yields a row, and the steps that it made, as it ends."""
    rows = torch.arange(len(y), device=y.device)
    length = torch.full_like(x[:, :1, :1, :1], step_size)
    before = length.new_full((len(y),), -torch.inf, dtype=torch.float64)
    for step in range(steps + 1):
        scores, images = _ask(target, x, rows)
        reached = confidence(scores.detach(), calibration).gather(1, y[rows, None])[:, 0] >= CONFIDENCE
        ended = reached if step < steps else torch.ones_like(reached)
        yield from ((row, step) for row in rows[ended].tolist())
        rows = rows[~ended]
        if not len(rows):
            return
        if bool(ended.any()):
            scores, images = _ask(target, x, rows)  # alone: those that ended shall not pay for a gradient
        odds = log_odds(scores, y[rows], calibration)
        (gradient,) = torch.autograd.grad(odds.sum(), images)
        length[rows[odds < before[rows]]] *= shorter
        before[rows] = odds.detach()
        x[rows] = (images.detach() + length[rows] * normalize(gradient.flatten(1)).view_as(images)).clamp(0, 1)


def _ask(target: Target, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The scores of the images x[rows], and those images, to which the scores can be differentiated."""
    images = x[rows].requires_grad_()
    return target.scores(images, rows), images
