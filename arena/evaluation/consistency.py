"""What the fields of a row say of each other. Needs neither image nor defense."""

from __future__ import annotations

import math
from collections.abc import Iterator

from arena.geometry.norms import NORMS, SPECS, Norm
from arena.interface.results import Record, Status

_DISTANCE = {  # in all norms; that of an adversarial is measured
    Status.MISCLASSIFIED: 0.0,
    Status.NOT_FOUND: math.inf,
    Status.REJECTED: math.inf,
    Status.UNSTABLE: None,
    Status.ERROR: None,
}


def contradictions(record: Record, norm: Norm, budget: int | None, pruned: bool = False) -> Iterator[str]:
    """What in a row cannot be, a line each; norm and budget: those of its match; pruned: its image was removed."""
    if pruned != (record.status == Status.FOUND and record.adversarial is None):
        yield "it is found, but has no adversarial" if not pruned else f"it is {record.status}, but was pruned"
    yield from _of_status(record, norm)
    yield from _of_labels(record)
    yield from _of_counts(record, budget)


def _of_status(record: Record, norm: Norm) -> Iterator[str]:
    """The status against the distances and all that only an adversarial has."""
    status = record.status
    if status == Status.FOUND:
        if record.distance is None or record.distance != getattr(record, norm):
            yield f"its distance is not its {norm} distance"
    else:
        for name in ("distance", *NORMS):
            value = getattr(record, name)
            older = value is None and name in SPECS and SPECS[name].since > 1 and name != norm  # the row, than the norm
            if value != _DISTANCE[status] and not older:
                yield f"it is {status}, but its {name} is {value}"
        for name in ("adversarial", "best_query", "fragile"):
            if getattr(record, name) is not None:
                yield f"it is {status}, but has a value for {name}"
        if record.progress:
            yield f"it is {status}, but has a value for progress"
    if record.reason is None and status in (Status.REJECTED, Status.UNSTABLE, Status.ERROR):
        yield f"it is {status} without a reason"


def _of_labels(record: Record) -> Iterator[str]:
    """The status against the decisions and their margin."""
    status, own = record.status, record.label
    clean, decision = record.clean_label, record.adversarial_label
    if status == Status.ERROR:
        right = clean is None and decision is None
    elif status == Status.MISCLASSIFIED:
        right = clean == decision != own and clean is not None
    elif status == Status.FOUND:
        right = clean == own != decision and decision is not None
    else:
        right = clean == own and decision is None
    if not right:
        yield f"it is {status} with label {own}, clean label {clean} and adversarial label {decision}"
    decided = status in (Status.MISCLASSIFIED, Status.FOUND)
    if record.margin is not None and not (decided and 0 <= record.margin < math.inf):
        yield f"it is {status} with a margin of {record.margin:g}"


def _of_counts(record: Record, budget: int | None) -> Iterator[str]:
    """What was spent, and when what was found."""
    spent = record.queries + record.gradient_queries
    if record.queries < 0 or record.gradient_queries < 0 or (budget is not None and spent > budget):
        yield f"its queries are {record.queries} and {record.gradient_queries} for gradients, budget {budget}"
    if record.status in (Status.MISCLASSIFIED, Status.ERROR) and spent:
        yield f"it is {record.status}, but {spent} queries were spent"
    if not 0 <= record.masked <= max(record.gradient_queries, 0):
        yield f"its masked gradients are {record.masked} of {record.gradient_queries}"
    if record.best_query is not None and not 1 <= record.best_query <= spent:
        yield f"its best query is {record.best_query} of {spent}"
    if not 0 <= record.seconds < math.inf:
        yield f"its seconds are {record.seconds}"
    queries = [0, *(query for query, _ in record.progress), spent]
    distances = [math.inf, *(distance for _, distance in record.progress), 0]
    if queries != sorted(queries) or distances != sorted(distances, reverse=True) or math.inf in distances[1:]:
        yield "its progress does not come closer query by query"
