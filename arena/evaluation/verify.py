"""Checks what is stored against a defense again, from its bytes, trusting nothing that was written beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch

from arena.data import load_data
from arena.errors import PluginError, UserError
from arena.evaluation.referee import fragile
from arena.geometry.distances import distance
from arena.geometry.norms import NORMS, Norm
from arena.interface.contracts import Defense
from arena.interface.registry import load_defense
from arena.interface.results import Identity
from arena.store import bounds as bound_rows
from arena.store.store import Evidence, Store
from arena.target.logits import evaluate

TOLERANCE = 1e-9  # of a distance computed in float64 from float32 images
BOUND_TOLERANCE = 1e-4  # relative, of a lower bound: the scores that decide are float32


@dataclass
class Verification:
    """How many rows were checked, one line for each that does not hold, and one for each that is below a bound but
    vanishes once the defense's inference converges: of that inference alone the bounds speak."""

    checked: int = 0
    failures: list[str] = field(default_factory=list)
    fragile: list[str] = field(default_factory=list)


def verify_store(store: Store) -> Verification:
    """Check every adversarial and misclassified sample: box, label, decision, and the distances in all three norms,
    none of which may be less than the stored lower bound of its sample.

    The defenses are loaded afresh, by name, weights and settings; one whose fingerprint is not the stored one (other
    code, weights or version) is reported as a failure, for nothing can be said about its rows.
    """
    report = Verification()
    defenses: dict[str, Defense | str] = {}
    for match_id, group in groupby(store.evidence(), key=lambda stored: stored.match_id):
        rows = list(group)
        identity = rows[0].defense
        if identity.fingerprint not in defenses:
            defenses[identity.fingerprint] = _load(identity)
        defense = defenses[identity.fingerprint]
        report.checked += len(rows)
        where = f"match {match_id}, {rows[0].attack} against {identity.name}"
        if isinstance(defense, str):
            report.failures.append(f"{where}: {len(rows)} rows cannot be checked: {defense}")
        else:
            with store.reading() as connection:
                bounds = bound_rows.best(connection, identity.fingerprint, rows[0].conditions["data_hash"])
            failures, vanishing = _check(defense, rows, bounds)
            report.failures += [f"{where}, {line}" for line in failures]
            report.fragile += [f"{where}, {line}" for line in vanishing]
    return report


def _load(identity: Identity) -> Defense | str:
    """The defense as it was played, or why it cannot be had."""
    try:
        defense = load_defense(identity.name, **identity.settings)
    except UserError as failure:
        return str(failure)
    if defense.fingerprint != identity.fingerprint:
        return f"the installed {identity.name} is not the one that was played (other code, weights or version)"
    return defense


def _check(
    defense: Defense, rows: Sequence[Evidence], bounds: Mapping[tuple[int, Norm], float]
) -> tuple[list[str], list[str]]:
    """The `failures` and `fragile` of a report on one match's rows; bounds: of the distances, by sample and norm."""
    conditions = rows[0].conditions
    x, y = load_data(conditions["dataset"], conditions["split"])
    samples = [row.sample for row in rows]
    clean, labels = x[samples], y[samples].tolist()
    images = torch.stack(
        [
            image if row.adversarial is None else torch.from_numpy(row.adversarial)
            for row, image in zip(rows, clean, strict=True)
        ]
    )
    inside = [bool(((image >= 0) & (image <= 1)).all()) for image in images]  # also false for NaN
    try:
        decisions = evaluate(defense, images.clamp(0, 1).nan_to_num()).argmax(1).tolist()
    except PluginError as failure:
        return [str(failure)], []
    measured = {norm: distance(norm, images.double(), clean.double()).tolist() for norm in NORMS}
    failures, vanishing = [], []
    for i, row in enumerate(rows):
        faults = []
        if not inside[i]:
            faults.append("it leaves the box [0, 1]")
        if row.label != labels[i]:
            faults.append(f"its label is {labels[i]}, stored as {row.label}")
        if decisions[i] == labels[i] or decisions[i] != row.adversarial_label:
            faults.append(f"it is classified as {decisions[i]}, stored as {row.adversarial_label}")
        for norm in NORMS:
            stored = getattr(row, norm)
            if stored is None or not math.isclose(measured[norm][i], stored, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                faults.append(f"its {norm} distance is {measured[norm][i]:g}, stored as {stored}")
        if row.distance != getattr(row, row.norm):
            faults.append(f"its distance is not its {row.norm} distance")
        below = [
            f"sample {row.sample}: its {norm} distance is {measured[norm][i]:g}, below the lower bound {bound:g}"
            for norm in NORMS
            if measured[norm][i] < (bound := bounds.get((row.sample, norm), 0.0)) * (1 - BOUND_TOLERANCE)
        ]
        if below and fragile(defense, images[i : i + 1], y[row.sample : row.sample + 1]) == [True]:
            vanishing += [f"{line}; but it is fragile" for line in below]
        else:
            failures += below
        failures += [f"sample {row.sample}: {fault}" for fault in faults]
    return failures, vanishing
