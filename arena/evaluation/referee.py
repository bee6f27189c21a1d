"""The referee: one attack against one defense on one chunk of samples. Attacks propose; only this file measures."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy
import torch
from torch import Tensor

from arena.errors import BudgetExhausted, PluginError, UserError
from arena.evaluation.claims import Answer, judge
from arena.geometry.distances import distance
from arena.geometry.norms import NORMS, Norm
from arena.interface.contracts import Attack, Converges, Defense
from arena.interface.results import Record, Status
from arena.target.images import check_images, plain
from arena.target.logits import check_scores, evaluate
from arena.target.query_log import QueryLog
from arena.target.target import Target

REFUTED = "the defense classifies what was claimed correctly"


def play(
    defense: Defense,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    *,
    seed: int = 0,
    budget: int | None = None,
    samples: Sequence[int] | None = None,
) -> list[Record]:
    """Play the attack against the defense and measure every sample.

    x: images, float32 [B, C, H, W] in [0, 1]; y: labels, int64 [B], where one that the defense has no class for is
    misclassified; budget: queries per sample, forward and gradient together; samples: the numbers to record them under
    (default 0 ... B - 1). The attack runs under `seed`, global random state is restored after. Returns B records in
    order. Raises UserError for bad input or if the attack does not apply to the defense, PluginError for a broken
    contract, and whatever the attack or the defense raises.
    """
    if not attack.applies_to(type(defense)):
        raise UserError(f"attack {attack.name} needs {attack.access}, which defense {defense.name} does not offer")
    x, y = _checked_batch(defense, x, y)
    numbers = list(range(len(x)) if samples is None else samples)
    logits = evaluate(defense, x)
    correct = logits.argmax(1) == y
    attacked = correct.nonzero().flatten().tolist()
    ruled = {}
    if attacked:
        records = _rule(defense, attack, x[correct], y[correct], [numbers[row] for row in attacked], seed, budget)
        ruled = dict(zip(attacked, records, strict=True))
    return [
        ruled[row] if row in ruled else _misclassified(number, int(y[row]), logits[row])
        for row, number in enumerate(numbers)
    ]


def _rule(
    defense: Defense, attack: Attack, x: Tensor, y: Tensor, numbers: Sequence[int], seed: int, budget: int | None
) -> list[Record]:
    """Run the attack on correctly classified samples of these numbers, and rule on each."""
    query_log = QueryLog(x, y, attack.norm, budget, defense.binary_threshold)
    started = time.perf_counter()
    candidates = _run(defense, attack, query_log, seed)
    seconds = (time.perf_counter() - started) / len(x)

    faults = _faults(candidates)
    verdict = judge(defense, query_log, candidates, torch.tensor([fault is None for fault in faults], device=x.device))
    progress = {log: log.progress() for log in (query_log.seen, query_log.binarized)}
    records = []
    for row, (number, label) in enumerate(zip(numbers, y.tolist(), strict=True)):
        records.append(
            Record(
                sample=number,
                label=label,
                status=Status.NOT_FOUND,
                clean_label=label,
                **_distances(math.inf),
                queries=int(query_log.queries[row]),
                gradient_queries=int(query_log.gradient_queries[row]),
                seconds=seconds,
                masked=int(query_log.masked[row]),
            )
        )
        if (accusation := verdict.unstable[row]) is not None:
            records[row] = replace(records[row], status=Status.UNSTABLE, reason=accusation, **_distances(None))
        elif verdict.found[row]:
            winner = verdict.winner(row)
            records[row] = _found(records[row], attack.norm, x[row], winner, row, progress[winner.claim.log][row])
        elif (fault := faults[row]) is not None:
            records[row] = replace(records[row], status=Status.REJECTED, reason=fault)
        elif verdict.claimed[row]:
            records[row] = replace(records[row], reason=REFUTED)
    return _with_fragility(defense, records, y)


def _run(defense: Defense, attack: Attack, query_log: QueryLog, seed: int) -> Tensor:
    """The referee's own copy of the attack's candidates [B, ...], float32; the clean images (no claim) if its budget
    ended it."""
    target = Target(defense, query_log, attack.access)
    x, y = query_log.x.clone(), query_log.y.clone()
    with isolated_random_state(seed) as rng, torch.enable_grad():
        try:
            candidates = attack.run(target, x, y, rng)
        except BudgetExhausted:
            candidates = query_log.x
    if not (torch.equal(x, query_log.x) and torch.equal(y, query_log.y)):
        raise PluginError(f"attack {attack.name} modified its input")
    if not isinstance(candidates, Tensor):
        raise PluginError(f"attack {attack.name} returned {type(candidates)} for images {tuple(query_log.x.shape)}")
    candidates = plain(candidates).detach()
    if candidates.shape != query_log.x.shape or not candidates.is_floating_point():
        got = f"{candidates.dtype} {tuple(candidates.shape)}"
        raise PluginError(f"attack {attack.name} returned {got} for images {tuple(query_log.x.shape)}")
    return candidates.to(query_log.x, copy=True).contiguous()


def _faults(candidates: Tensor) -> list[str | None]:
    """For each candidate why it is no image (one line), or None."""
    faults: list[str | None] = []
    for image in candidates.flatten(1):
        if not bool(image.isfinite().all()):
            faults.append("the candidate is not finite")
        elif not bool(((image >= 0) & (image <= 1)).all()):
            faults.append(f"the candidate leaves the box [0, 1]: [{float(image.min()):g}, {float(image.max()):g}]")
        else:
            faults.append(None)
    return faults


def _found(record: Record, norm: Norm, clean: Tensor, answer: Answer, row: int, progress: list[list[float]]) -> Record:
    """The record of a sample with the claim that won, measured from the image that is stored."""
    claim, image = answer.claim, answer.claim.images[row]
    query = int(claim.query[row]) or None
    norms: dict[str, Any] = {name: float(distance(name, image[None].double(), clean[None].double())) for name in NORMS}
    return replace(
        record,
        status=Status.FOUND,
        adversarial=image.cpu().numpy().copy(),
        distance=norms[norm],
        **norms,
        adversarial_label=int(answer.labels[row]),
        margin=_finite(answer.margins[row]),
        best_query=query,
        progress=progress or [[query or record.queries + record.gradient_queries, float(f"{norms[norm]:.6g}")]],
    )


def _with_fragility(defense: Defense, records: list[Record], y: Tensor) -> list[Record]:
    """The records, those of adversarials that were found saying whether they are fragile."""
    found = [row for row, record in enumerate(records) if record.status == Status.FOUND]
    if not found:
        return records
    images = torch.stack([torch.from_numpy(records[row].adversarial) for row in found]).to(y.device)
    records = list(records)
    for row, vanishes in zip(found, fragile(defense, images, y[found]), strict=True):
        records[row] = replace(records[row], fragile=vanishes)
    return records


def fragile(defense: Defense, images: Tensor, y: Tensor) -> list[bool | None]:
    """Whether each adversarial [n, ...] vanishes once the defense's inference converges; None: it has none."""
    if not len(images) or not isinstance(defense, Converges):
        return [None] * len(images)
    vanishing: list[bool | None] = []
    for part, labels in zip(images.split(defense.batch_size), y.split(defense.batch_size), strict=True):
        with torch.no_grad():
            scores = defense.converged_scores(part)
        vanishing += (check_scores(defense, scores, len(part)).argmax(1) == labels).tolist()
    return vanishing


def _misclassified(number: int, label: int, logits: Tensor) -> Record:
    """The record of a sample that needs no perturbation; the defense may have no class for its label."""
    known = 0 <= label < len(logits)
    predicted = int(logits.argmax())
    return Record(
        sample=number,
        label=label,
        status=Status.MISCLASSIFIED,
        clean_label=predicted,
        adversarial_label=predicted,
        **_distances(0.0),
        margin=_finite(logits[predicted] - logits[label]) if known else None,
    )


def _distances(value: float | None) -> dict[str, Any]:
    """The same distance in the attack's norm and in all others."""
    return dict.fromkeys(("distance", *NORMS), value)


def _finite(margin: Tensor) -> float | None:
    """The margin as a number; None where the label's class is masked."""
    return float(margin) if bool(margin.isfinite()) else None


def _checked_batch(defense: Defense, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    try:
        check_images(x, x.shape[1:])
    except (PluginError, AttributeError) as failure:
        raise UserError(f"x: {failure}") from None
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (len(x),):
        raise UserError(f"y: labels must be int64 [{len(x)}], one for each image")
    return plain(x).detach().to(defense.device), plain(y).to(defense.device)


@contextmanager
def isolated_random_state(seed: int) -> Iterator[torch.Generator]:
    """Seed Python's, numpy's and torch's global generators and restore them after; yields a CPU generator."""
    python, legacy = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield torch.Generator().manual_seed(seed)
        finally:
            random.setstate(python)
            numpy.random.set_state(legacy)
