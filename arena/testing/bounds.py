"""Does a lower bound keep its contract? Held against defenses whose minimal distances are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from arena.evaluation.lower_bounds import lower_bounds
from arena.geometry.norms import Norm
from arena.interface.contracts import Bound
from arena.interface.registry import declaration_faults
from arena.testing.known import KnownDefense
from arena.testing.linear import LinearDefense
from arena.testing.prototypes import LinearPrototypes, VotingLinear
from arena.testing.relu import ReluDefense
from arena.testing.report import Report

SAMPLES = 6
ROUNDING = 1e-4  # relative, as in `arena verify`: the scores that decide are float32
ALIKE = 1.1  # factor within which a sample alone is bounded as in a batch


def check_bound(bound: Bound | type[Bound], *, defenses: Sequence[KnownDefense] | None = None) -> Report:
    """Bound the distances of a few images in every norm and report on the contract, `report.ok` being the verdict.

    A value above the minimal distance fails, whatever the bound's kind: on the kit's opponents no search misses
    anything, and draws are the same each time. One that is zero everywhere passes and is called weak. defenses:
    opponents whose `minimal_distance` is known, by default those of the kit that the bound does not refuse.
    """
    report = Report(f"bound {getattr(bound, 'name', bound)!s}")
    ready = _declared(report, bound)
    if ready is None:
        return report
    applicable = []
    for defense in defenses or (*opponents(classes=10), ReluDefense()):
        with report.guard("refusal", f"asked about the {defense.name} defense: "):
            channels, height, width = defense.sample_images(1)[0].shape[1:]
            reason = ready.refusal(defense, (channels, height, width))
            if reason is None:
                applicable.append(defense)
            else:
                one_line = isinstance(reason, str) and bool(reason.strip()) and "\n" not in reason
                report.add(
                    "refusal", one_line, f"{defense.name}: {reason if one_line else 'give a reason of one line'}"
                )
    if not applicable and not any(not finding.passed for finding in report.findings):
        report.add("applies", False, "it refuses every opponent of the kit: pass defenses=, with known distances")
    for defense in applicable:
        for norm in ready.norms:
            with report.guard("runs", f"{defense.name}, {norm}: "):
                _check(report, ready, defense, norm)
    return report


def opponents(classes: int, **settings: Any) -> list[LinearDefense]:
    """Linear defenses of each kind that bounds are for."""
    known = LinearDefense(classes=classes, **settings), LinearPrototypes(classes=classes, **settings)
    return [*known, VotingLinear(classes=2, **settings)]


def _declared(report: Report, bound: Bound | type[Bound]) -> Bound | None:
    """The bound as an instance, if what it declares makes sense."""
    kind = bound if isinstance(bound, type) else type(bound)
    faults = declaration_faults("bound", kind)
    if faults:
        report.add("declaration", False, "; ".join(faults))
        return None
    ready = None if isinstance(bound, type) else bound
    with report.guard("declaration", "cannot be made without settings: "):
        ready = ready or kind()
        report.add("declaration", True, f"{ready.kind} in {', '.join(ready.norms)}")
    return ready


def _check(report: Report, bound: Bound, defense: KnownDefense, norm: Norm) -> None:
    """Sound, reproducible, and each row by itself."""
    x, y = defense.sample_images(SAMPLES)
    exact = defense.minimal_distance(norm, x).cpu()
    found = lower_bounds(bound, defense, x, y, norm)
    where = f"{defense.name}, {norm}"
    above = found > exact * (1 + ROUNDING)
    ratio = float((found / exact).median())
    message = f"{where}: median {ratio:.3g} x the minimal distance"
    if bool(above.any()):
        pairs = ", ".join(f"{a:.4g} / {b:.4g}" for a, b in zip(found[above], exact[above], strict=True))
        message = f"{where}: above the minimal distance (bound / distance): {pairs}"
    elif not bool(found.any()):
        message = f"weak: {where}: zero everywhere"
    report.add("sound", not bool(above.any()), message)
    same = torch.equal(found, lower_bounds(bound, defense, x, y, norm))
    report.add("reproducible", same, f"{where}: {'equal bits' if same else 'two equal runs differ: draw from rng'}")
    alone = torch.cat([lower_bounds(bound, defense, *row, norm) for row in zip(x.split(1), y.split(1), strict=True)])
    alike = all(_alike(found, alone))
    pairs = ", ".join(f"{a:.4g} / {b:.4g}" for a, b in zip(alone, found, strict=True))
    report.add("rows", alike, f"{where}: {'alone as in a batch' if alike else f'alone / in a batch differ: {pairs}'}")


def _alike(found: Tensor, alone: Tensor) -> Iterator[bool]:
    for a, b in zip(found.tolist(), alone.tolist(), strict=True):
        yield a == b or max(a, b) <= ALIKE * min(a, b)
