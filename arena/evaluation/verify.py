"""Checks what is stored against a defense again, from its bytes, trusting nothing that was written beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from arena.data import load_played
from arena.errors import PluginError
from arena.evaluation.referee import fragile
from arena.geometry.distances import distance
from arena.geometry.norms import NORMS, SPECS, Norm
from arena.interface.contracts import Defense
from arena.interface.results import Evidence, Verification
from arena.target.logits import evaluate

TOLERANCE = 1e-9  # of a distance computed in float64 from float32 images
BOUND_TOLERANCE = 1e-4  # relative, of a lower bound: the scores that decide are float32


def verify(defense: Defense, rows: Sequence[Evidence], bounds: Mapping[tuple[int, Norm], float]) -> Verification:
    """Check adversarial and misclassified samples of one match: box, label, decision, and the distances in all norms,
    none of which may be less than the lower bound of its sample.

    defense: the one that was played; bounds: of the distances, by sample and norm. Raises UserError for a data set that
    cannot be had.
    """
    played = rows[0].conditions
    x, y = load_played(played["description"], played["split"], played["data_hash"])
    samples = [row.sample for row in rows]
    clean, labels = x[samples], y[samples]
    images = torch.stack(
        [
            image if row.adversarial is None else torch.tensor(row.adversarial)
            for row, image in zip(rows, clean, strict=True)
        ]
    )
    try:
        decisions = evaluate(defense, images.clamp(0, 1).nan_to_num()).argmax(1).tolist()
    except PluginError as failure:
        return Verification(len(rows), [f"samples {samples[0]} to {samples[-1]}: {failure}"], [])
    measured = {norm: distance(norm, images.double(), clean.double()).tolist() for norm in NORMS}
    result = Verification(len(rows), [], [])
    for i, row in enumerate(rows):
        distances = {norm: measured[norm][i] for norm in NORMS}
        below = _below(row, distances, bounds)
        if below and fragile(defense, images[i : i + 1], labels[i : i + 1]) == [True]:
            result.fragile.extend(f"{line}; but it is fragile" for line in below)
        else:
            result.failures.extend(below)
        faults = _faults(row, images[i], int(labels[i]), decisions[i], distances)
        result.failures.extend(f"sample {row.sample}: {fault}" for fault in faults)
    return result


def _faults(row: Evidence, image: Tensor, label: int, decision: int, distances: Mapping[Norm, float]) -> list[str]:
    """What of a row its image does not bear out."""
    faults = []
    if not bool(((image >= 0) & (image <= 1)).all()):  # also for NaN
        faults.append("it leaves the box [0, 1]")
    if row.label != label:
        faults.append(f"its label is {label}, stored as {row.label}")
    if decision == label or decision != row.adversarial_label:
        faults.append(f"it is classified as {decision}, stored as {row.adversarial_label}")
    for norm, measured in distances.items():
        stored = getattr(row, norm)
        if stored is None and norm != row.norm and SPECS[norm].since > 1:
            continue  # the row is older than the norm
        if stored is None or not math.isclose(measured, stored, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            faults.append(f"its {norm} distance is {measured:g}, stored as {stored}")
    if row.distance != getattr(row, row.norm):
        faults.append(f"its distance is not its {row.norm} distance")
    return faults


def _below(row: Evidence, distances: Mapping[Norm, float], bounds: Mapping[tuple[int, Norm], float]) -> list[str]:
    return [
        f"sample {row.sample}: its {norm} distance is {measured:g}, below the lower bound {bound:g}"
        for norm, measured in distances.items()
        if measured < (bound := bounds.get((row.sample, norm), 0.0)) * (1 - BOUND_TOLERANCE)
    ]
