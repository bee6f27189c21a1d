"""Does a defense keep its contract? Checked on a few images, without an attack."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arena.data import DEFAULT
from arena.geometry.distances import per_row
from arena.interface.contracts import Converges, Defense
from arena.interface.registry import declaration_faults
from arena.target.logits import check_scores, checked_scores
from arena.testing.linear import LinearDefense
from arena.testing.report import Report

BATCHES = (1, 3, 17)  # sizes that must agree
IMAGES = max(BATCHES)
TOLERANCE = 1e-4  # of the largest magnitude among the scores: rounding of another batch size
STEP, DIRECTIONS = 0.02, 3  # of the finite differences: L2 length, and random directions beside the gradient's own
GRADIENT_TOLERANCE = 0.1  # of the gradient's length, median over the images: kinks and float32


def check_defense(defense: Defense | type[Defense], *, x: Tensor | None = None) -> Report:
    """Ask the defense about a few images and report on its contract, `report.ok` being the verdict.

    x: images, float32 [17 or more, C, H, W] in [0, 1]; by default 17 random ones, of the shape that the defense
    declares. One that declares none may not take grey images for colour ones.
    """
    report = Report(f"defense {getattr(defense, 'name', defense)!s}")
    ready = _declared(report, defense)
    if ready is None:
        return report
    given, scores = x, None
    if x is None:
        x, _ = LinearDefense(shape=ready.shape or DEFAULT.shape).sample_images(IMAGES, seed=1)
    x = x.to(ready.device)
    if given is None and ready.shape is None:
        _grey_or_colour(report, ready, x)
    with report.guard("scores"):
        scores = _scores(report, ready, x)
    if scores is None:
        return report
    tolerance = TOLERANCE * max(1.0, float(scores.abs().max()))
    with report.guard("rows"):
        _rows_independent(report, ready, x, scores, tolerance)
    with report.guard("converged"):
        _converged(report, ready, x, scores)
    with report.guard("gradient", f"declared {ready.gradient!r}, but: "):
        _gradient(report, ready, x)
    if ready.binary_threshold is not None:
        _binary(report, ready, x, scores, tolerance, ready.binary_threshold)
    with report.guard("fingerprint"):
        _fingerprint(report, ready, ready.fingerprint)
    return report


def _declared(report: Report, defense: Defense | type[Defense]) -> Defense | None:
    """The defense as an instance, if what it declares makes sense."""
    kind = defense if isinstance(defense, type) else type(defense)
    if not issubclass(kind, Defense):
        report.add("declaration", False, f"{kind.__name__} is not a subclass of arena.Defense")
        return None
    ready = None if isinstance(defense, type) else defense
    if ready is None:
        with report.guard("declaration", "cannot be made without weights and settings: "):
            ready = kind()
    if ready is None:
        return None
    faults = declaration_faults("defense", kind)
    report.add("declaration", not faults, "; ".join(faults) or f"gradient = {ready.gradient!r}")
    return None if faults else ready


def _grey_or_colour(report: Report, defense: Defense, x: Tensor) -> None:
    """A colour model whose mean broadcasts answers grey images, too, and would be checked on those; it takes one
    channel and three, and not two."""

    def answers(channels: int) -> bool:
        try:
            return _quiet(defense, x[:1, :1].expand(-1, channels, -1, -1)) is not None
        except Exception:
            return False

    if [answers(channels) for channels in (1, 2, 3)] == [True, False, True]:
        remedy = "declare shape = (3, height, width), or check it on its data with x=, or arena plugins check --dataset"
        report.add("shape", False, f"it takes grey images for colour ones: {remedy}")


def _scores(report: Report, defense: Defense, x: Tensor) -> Tensor | None:
    """The logits of x, if they are logits; also checks the inputs and that a second answer is the same."""
    given = x.clone()
    scores, again = _quiet(defense, given), _quiet(defense, given)
    report.add("inputs", torch.equal(given, x), "x unmodified" if torch.equal(given, x) else "scores modified x")
    shaped = isinstance(scores, Tensor) and scores.dtype == torch.float32 and scores.ndim == 2
    sound = shaped and len(scores) == len(x) and scores.shape[1] > 1 and bool(scores.isfinite().all())
    got = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
    wrong = f"{got} for {len(x)} images, not finite float32 [{len(x)}, classes]"
    if not report.add("scores", sound, f"finite {got}" if sound else wrong):
        return None
    same = torch.equal(scores, again)
    remedy = "the same images got other scores: no dropout, no random draws, no state between calls"
    report.add("deterministic", same, "equal bits when asked again" if same else remedy)
    return scores


def _rows_independent(report: Report, defense: Defense, x: Tensor, scores: Tensor, tolerance: float) -> None:
    worst = max(
        float((torch.cat([_quiet(defense, part) for part in x.split(size)]) - scores).abs().max()) for size in BATCHES
    )
    passed = worst <= tolerance
    message = f"batches of {', '.join(map(str, BATCHES))} differ by at most {worst:.2g} (tolerance {tolerance:.2g})"
    report.add("rows", passed, message if passed else f"{message}: a row depends on the others, batch norm perhaps")


def _binary(report: Report, defense: Defense, x: Tensor, scores: Tensor, tolerance: float, threshold: float) -> None:
    off = float((_quiet(defense, (x >= threshold).float()) - scores).abs().max())
    passed = off <= tolerance
    message = f"binarising at {threshold} changes the scores by at most {off:.2g}"
    report.add("binary", passed, message if passed else f"{message}: they depend on more than x >= {threshold}")


@torch.no_grad()
def _converged(report: Report, defense: Defense, x: Tensor, scores: Tensor) -> None:
    """Converged scores, if there are any, are logits like the others."""
    if isinstance(defense, Converges):
        converged = defense.converged_scores(x)
        check_scores(defense, converged, len(x))
        passed = converged.shape == scores.shape
        report.add("converged", passed, f"scores {list(converged.shape)} for scores {list(scores.shape)}")


def _gradient(report: Report, defense: Defense, x: Tensor) -> None:
    """The declared gradient of (best score - second best) at images inside the box."""
    if defense.gradient == "none":
        report.add("gradient", True, "declared 'none': not checked")
        return
    x = 0.1 + 0.8 * x  # room for finite differences
    best = _quiet(defense, x).topk(2).indices

    def lead(images: Tensor) -> Tensor:
        top = checked_scores(defense, images).gather(1, best)
        return top[:, 0] - top[:, 1]

    with torch.enable_grad():
        images = x.clone().requires_grad_()
        gradient = torch.autograd.grad(lead(images).sum(), images)[0]
    if not (gradient.isfinite().all() and gradient.flatten(1).any(1).all()):
        report.add("gradient", False, f"declared {defense.gradient!r}, but it is zero or not finite for some image")
    elif defense.gradient == "straight-through" or defense.binary_threshold is not None:
        report.add("gradient", True, "straight-through: finite and not zero")
    else:
        off = _deviation(lead, x, gradient)
        message = f"off finite differences by {off:.2g} of its length (tolerance {GRADIENT_TOLERANCE:g})"
        report.add("gradient", off <= GRADIENT_TOLERANCE, message)


@torch.no_grad()
def _deviation(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> float:
    """Largest deviation, over a few directions, of the slope by central differences from the gradient's, in lengths
    of the gradient (median over the images)."""
    rng = torch.Generator().manual_seed(0)
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    drawn = [torch.randn(x.shape, generator=rng).to(x.device) for _ in range(DIRECTIONS)]
    deviations = []
    for direction in [gradient, *drawn]:
        unit = direction / per_row(torch.linalg.vector_norm(direction.flatten(1), dim=1), x)
        slope = (function(x + STEP * unit) - function(x - STEP * unit)) / (2 * STEP)
        expected = (gradient * unit).flatten(1).sum(1)
        deviations.append(float(((slope - expected).abs() / length).median()))
    return max(deviations)


def _fingerprint(report: Report, defense: Defense, fingerprint: str) -> None:
    """Equal for an equal twin."""
    with report.guard("fingerprint", "cannot be made again from weights, device and settings: "):
        twin = type(defense)(defense.weights, str(defense.device), **defense.settings.model_dump())
        same = twin.fingerprint == fingerprint
        message = f"{fingerprint[:12]} for an equal defense too"
        report.add("fingerprint", same, message if same else "another for an equal defense: are its weights random?")


@torch.no_grad()
def _quiet(defense: Defense, x: Tensor) -> Tensor:
    return defense.scores(x)
