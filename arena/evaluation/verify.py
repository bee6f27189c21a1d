"""Checks what is stored against a defense again, from its bytes, trusting nothing that was written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from arena.data import load_played
from arena.errors import PluginError
from arena.evaluation.consistency import contradictions
from arena.evaluation.referee import fragile, play
from arena.geometry.distances import distance
from arena.geometry.norms import NORMS, SPECS, Norm
from arena.interface.contracts import Attack, Converges, Defense
from arena.interface.results import Evidence, Record, Status, StoredMatch, Verification
from arena.target.logits import ROUNDING, evaluate, margin, size

TOLERANCE = 1e-9  # of a distance computed in float64 from float32 images
BOUND_TOLERANCE = 1e-4  # relative, of a lower bound: the scores that decide are float32
PROCESSOR = 5e-7  # relative: how far rows of processors with other instruction sets (AVX2, AVX-512) lie apart

Bounds = Mapping[tuple[int, Norm, str, str], float]  # by sample, norm, name and kind


def verify(defense: Defense | None, match: StoredMatch, rows: Sequence[Evidence], bounds: Bounds) -> Verification:
    """Check rows of one match: their fields against each other; label and adversarial against the data set (box,
    distances in all norms, lower bounds); and what the defense decides, on the clean images too. Of a pruned row the
    adversarial is not there to be checked; its stored distances are held against the bounds.

    defense: the one that was played; None: it cannot be had, and its decisions are not checked. Raises UserError for a
    data set that cannot be had.
    """
    x, y = _data(match)
    result = Verification(len(rows), [], [])
    records = []
    for row in rows:
        faults = list(row.damage)
        if not isinstance(row.sample, int) or not 0 <= row.sample < len(x):
            faults.append("the data set has no such sample")
        elif row.record is not None:
            record, label = row.record, int(y[row.sample])
            faults += contradictions(record, match.norm, match.budget, row.pruned)
            if record.label != label:
                faults.append(f"its label is {label}, stored as {record.label}")
            if record.adversarial is not None and record.adversarial.shape != x.shape[1:]:
                faults.append(f"its adversarial is {record.adversarial.shape}, its image {tuple(x.shape[1:])}")
            else:
                records.append(record)
        result.failures.extend(f"sample {row.sample}: {fault}" for fault in faults)
    if records:
        numbers = [record.sample for record in records]
        _check_images(defense, match, records, x[numbers], y[numbers], bounds, result)
    if defense is not None and records:
        try:
            result.failures.extend(_refuted(defense, match, records, x, y))
        except PluginError as failure:
            result.failures.append(f"samples {records[0].sample} to {records[-1].sample}: {failure}")
    return result


def replay(
    defense: Defense, attack: Attack, match: StoredMatch, rows: Sequence[Evidence], seed: int, same_environment: bool
) -> Verification:
    """Play the rows of a chunk again: each must come to the same status and distance.

    seed: that of the chunk. same_environment: the rows come from one like this, else distances may differ by PROCESSOR.
    Raises UserError for a data set that cannot be had, and whatever the attack or the defense raises.
    """
    x, y = _data(match)
    samples = [row.sample for row in rows]
    played = play(defense, attack, x[samples], y[samples], seed=seed, budget=match.budget, samples=samples)
    tolerance, remark = (0.0, "") if same_environment else (PROCESSOR, " in another environment")
    return Verification(
        len(rows),
        [
            f"sample {row.sample}: played again it is {_outcome(again)}, stored as {_outcome(row.record)}{remark}"
            for row, again in zip(rows, played, strict=True)
            if row.record is None or not _same(row.record, again, tolerance)
        ],
        [],
    )


def _data(match: StoredMatch) -> tuple[Tensor, Tensor]:
    return load_played(match.description, match.conditions["split"], match.conditions["data_hash"])


def _same(stored: Record, again: Record, tolerance: float) -> bool:
    if stored.distance is None or again.distance is None:
        return stored.status == again.status and stored.distance == again.distance
    close = math.isclose(stored.distance, again.distance, rel_tol=tolerance, abs_tol=0.0)
    return stored.status == again.status and close


def _outcome(record: Record | None) -> str:
    if record is None:
        return "damaged"
    return str(record.status) if record.distance is None else f"{record.status} at {record.distance:.9g}"


def _check_images(
    defense: Defense | None,
    match: StoredMatch,
    records: Sequence[Record],
    clean: Tensor,
    labels: Tensor,
    bounds: Bounds,
    result: Verification,
) -> None:
    """Box and distances of what is stored for the clean images [N, C, H, W], where it is one, against the bounds."""
    for record, image, label in zip(records, clean.split(1), labels.split(1), strict=True):
        where, stored = f"sample {record.sample}: ", image
        if _is_pruned(record):
            claims = {norm: value for norm in NORMS if (value := getattr(record, norm)) is not None}
            said = result.fragile if record.fragile else result.failures
            said.extend(f"{where}{line}" for line in _below(record, claims, bounds))
            continue
        if record.adversarial is None and record.status != Status.MISCLASSIFIED:
            continue
        if record.adversarial is not None:
            stored = torch.tensor(record.adversarial)[None]
            if not bool(((stored >= 0) & (stored <= 1)).all()):  # also for NaN
                result.failures.append(f"{where}it leaves the box [0, 1]")
        measured = {norm: float(distance(norm, stored.double(), image.double())) for norm in NORMS}
        for norm, value in measured.items() if record.adversarial is not None else ():
            claimed = getattr(record, norm)
            if claimed is None and norm != match.norm and SPECS[norm].since > 1:
                continue  # the row is older than the norm
            if claimed is None or not math.isclose(value, claimed, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                result.failures.append(f"{where}its {norm} distance is {value:g}, stored as {claimed}")
        below = [f"{where}{line}" for line in _below(record, measured, bounds)]
        if below and defense is not None and fragile(defense, stored, label) == [True]:
            result.fragile.extend(f"{line}; but it is fragile" for line in below)
        else:
            result.failures.extend(below)


def _is_pruned(record: Record) -> bool:
    """Whether its image was removed: its distances are claims that nothing can be held against."""
    return record.status == Status.FOUND and record.adversarial is None


def _below(record: Record, measured: Mapping[Norm, float], bounds: Bounds) -> Iterator[str]:
    """Every bound that a row is below."""
    for (sample, norm, name, kind), bound in bounds.items():
        if sample == record.sample and measured.get(norm, math.inf) < bound * (1 - BOUND_TOLERANCE):
            yield f"its {norm} distance is {measured[norm]:g}, below the lower bound {bound:g} ({name}, {kind})"


def _refuted(defense: Defense, match: StoredMatch, records: Sequence[Record], x: Tensor, y: Tensor) -> Iterator[str]:
    """The decisions that the defense does not make; x, y: the whole data set. Raises PluginError for a broken defense.

    A decision that loses by no more than PROCESSOR, relative to the logits, may be another processor's.
    """
    known = _clean_logits(defense, match.conditions["data_hash"])
    asked = [record.sample for record in records if record.sample not in known]
    if asked:
        known.update(zip(asked, evaluate(defense, x[asked]).cpu(), strict=True))
    found = [record for record in records if record.adversarial is not None]
    images = [torch.tensor(record.adversarial).clamp(0, 1).nan_to_num() for record in found]
    answers = iter(evaluate(defense, torch.stack(images)).cpu() if found else ())
    for record in records:
        clean, where = known[record.sample], f"sample {record.sample}: "
        logits = clean if record.adversarial is None else next(answers)
        if record.clean_label is not None and not _stands(clean, record.clean_label):
            yield f"{where}its clean image is classified as {int(clean.argmax())}, stored as {record.clean_label}"
        if record.fragile is not None and not isinstance(defense, Converges):
            yield f"{where}it has a value for fragile, but the defense's inference does not converge"
        if record.adversarial_label is not None and not _is_pruned(record):
            if not _stands(logits, record.adversarial_label):
                yield f"{where}it is classified as {int(logits.argmax())}, stored as {record.adversarial_label}"
            elif record.margin is not None and not _has_margin(logits, int(y[record.sample]), record.margin):
                yield f"{where}its margin is stored as {record.margin:g}, which it is not"


@cache
def _clean_logits(defense: Defense, data_hash: str) -> dict[int, Tensor]:
    """Logits [classes] of clean images that this process has asked for, by sample: every match needs them again."""
    return {}


def _stands(logits: Tensor, label: int) -> bool:
    """Whether a class wins, or loses by no more than processors differ."""
    return 0 <= label < len(logits) and float(logits.max() - logits[label]) <= PROCESSOR * float(size(logits[None]))


def _has_margin(logits: Tensor, label: int, stored: float) -> bool:
    """Whether a margin is the stored one, up to what rounding at another batch size can do."""
    if not 0 <= label < len(logits):
        return False
    actual = float(margin(logits[None], torch.tensor([label])))
    return abs(actual - stored) <= ROUNDING * float(size(logits[None]))
