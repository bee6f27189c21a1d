"""The referee: one attack against one defense on one chunk of samples. Attacks propose; only this file measures."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from arena.errors import BudgetExhausted, PluginError, UserError
from arena.geometry.distances import distance
from arena.geometry.norms import NORMS, Norm
from arena.interface.contracts import Attack, Converges, Defense
from arena.interface.results import Record, Status
from arena.target.images import check_images
from arena.target.logits import check_scores, evaluate, margin
from arena.target.query_log import QueryLog, binarize
from arena.target.target import Target


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

    x: images, float32 [B, 1, 28, 28] in [0, 1]; y: labels, int64 [B]; budget: queries per sample, forward and gradient
    together; samples: the numbers to record them under (default 0 ... B - 1). The attack runs under `seed`, global
    random state is restored after. Returns B records in order. Raises UserError for bad input or if the attack does
    not apply to the defense, PluginError for a broken contract, and whatever the attack or the defense raises.
    """
    if not attack.applies_to(type(defense)):
        raise UserError(f"attack {attack.name} needs {attack.access}, which defense {defense.name} does not offer")
    x, y = _checked_batch(defense, x, y)
    scores = evaluate(defense, x)
    correct = (scores.argmax(1) == y).nonzero().flatten()
    rulings = iter(_rule(defense, attack, x[correct], y[correct], seed, budget) if len(correct) else [])
    records = []
    for row, sample in enumerate(samples if samples is not None else range(len(x))):
        label, clean_label = int(y[row]), int(scores[row].argmax())
        ruling = next(rulings) if clean_label == label else _misclassified(scores[row], label)
        records.append(Record(sample=sample, label=label, clean_label=clean_label, **ruling))
    return records


@dataclass
class _Proposal:
    """Images [B, ...] put forward for a unit, which of its rows claim anything, and when each was seen (0: never)."""

    images: Tensor
    claims: Tensor
    query: Tensor


def _rule(defense: Defense, attack: Attack, x: Tensor, y: Tensor, seed: int, budget: int | None) -> list[dict]:
    """Run the attack on correctly classified samples and rule on each: the fields of its record."""
    query_log = QueryLog(x, y, attack.norm, budget, defense.binary_threshold)
    started = time.perf_counter()
    candidates = _run(defense, attack, query_log, seed)
    seconds = (time.perf_counter() - started) / len(x)

    faults = _faults(candidates, x)
    proposals = _proposals(query_log, candidates, torch.tensor([fault is None for fault in faults], device=x.device))
    distances = torch.stack(
        [_measured(attack.norm, x, proposal.images, proposal.claims) for proposal in proposals]
    )  # [proposals, B]
    labels, margins = _verify(defense, x, y, proposals, distances)
    distances[labels == y] = torch.inf  # did not hold
    nearest, winners = distances.min(0)
    images = torch.stack([proposals[winner].images[row] for row, winner in enumerate(winners.tolist())])
    found = nearest.isfinite()
    vanishing = iter(fragile(defense, images[found], y[found]))
    progress = query_log.seen.progress(), query_log.binarized.progress()
    rulings = []
    for row, winner in enumerate(winners.tolist()):
        spent = {"queries": int(query_log.queries[row]), "gradient_queries": int(query_log.gradient_queries[row])}
        if found[row]:
            ruling = _found(attack, x[row], images[row]) | {
                "adversarial_label": int(labels[winner, row]),
                "margin": float(margins[winner, row]),
                "best_query": int(proposals[winner].query[row]) or None,
                "progress": progress[winner // 2][row],  # proposals come in pairs
                "fragile": next(vanishing),
            }
        else:
            claimed = any(bool(proposal.claims[row]) for proposal in proposals)
            fault = faults[row] or ("the defense classifies it correctly" if claimed else None)
            ruling = _failed(fault)
        rulings.append(ruling | spent | {"seconds": seconds})
    return rulings


def _run(defense: Defense, attack: Attack, query_log: QueryLog, seed: int) -> Tensor:
    """The attack's candidates [B, ...] as float32; the clean images (no claim) if its budget ended it."""
    target = Target(defense, query_log, attack.access)
    x, y = query_log.x.clone(), query_log.y.clone()
    with isolated_random_state(seed) as rng, torch.enable_grad():
        try:
            candidates = attack.run(target, x, y, rng)
        except BudgetExhausted:
            candidates = query_log.x
    if not (torch.equal(x, query_log.x) and torch.equal(y, query_log.y)):
        raise PluginError(f"attack {attack.name} modified its input")
    if (
        not isinstance(candidates, Tensor)
        or candidates.shape != query_log.x.shape
        or not candidates.is_floating_point()
    ):
        got = f"{candidates.dtype} {tuple(candidates.shape)}" if isinstance(candidates, Tensor) else type(candidates)
        raise PluginError(f"attack {attack.name} returned {got} for images {tuple(query_log.x.shape)}")
    return candidates.detach().to(query_log.x)


def _proposals(query_log: QueryLog, candidates: Tensor, sound: Tensor) -> list[_Proposal]:
    """What the target saw and what the attack returned, each also post-processed if the defense binarises."""
    never = torch.zeros_like(query_log.y)
    returned = sound & (candidates != query_log.x).flatten(1).any(1)
    proposals = [
        _Proposal(query_log.seen.images, query_log.seen.distance.isfinite(), query_log.seen.query),
        _Proposal(candidates, returned, never),
    ]
    if query_log.binary_threshold is not None:
        kept = query_log.binarized
        processed = binarize(candidates, query_log.x, query_log.binary_threshold)
        proposals += [
            _Proposal(kept.images, kept.distance.isfinite(), kept.query),
            _Proposal(processed, returned, never),
        ]
    return proposals


def _faults(candidates: Tensor, x: Tensor) -> list[str | None]:
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


def _measured(norm: Norm, x: Tensor, images: Tensor, claims: Tensor) -> Tensor:
    """Distances, float64 [B]; infinity where nothing is claimed."""
    distances = distance(norm, images.double(), x.double())
    return torch.where(claims, distances, torch.inf)


def _verify(
    defense: Defense, x: Tensor, y: Tensor, proposals: list[_Proposal], distances: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels and margins [proposals, B] of everything claimed, asked again at another batch size than the attack's."""
    which, row = distances.isfinite().nonzero(as_tuple=True)
    images = torch.stack([proposal.images for proposal in proposals])[which, row]
    labels, margins = y.repeat(len(proposals), 1), torch.zeros_like(distances)
    # The extra clean image makes two rows even of a single proposal.
    scores = evaluate(defense, torch.cat([images, x[:1]]), rows=max(len(x) // 2, 1) if len(x) > 1 else 2)[:-1]
    labels[which, row] = scores.argmax(1)
    margins[which, row] = margin(scores, y[row]).double()
    return labels, margins


def fragile(defense: Defense, images: Tensor, y: Tensor) -> list[bool | None]:
    """Whether each adversarial [n, ...] vanishes once the defense's inference converges; None: it has none."""
    if not len(images) or not isinstance(defense, Converges):
        return [None] * len(images)
    vanishing: list[bool | None] = []
    for part, labels in zip(images.split(defense.batch_size), y.split(defense.batch_size), strict=True):
        with torch.no_grad():
            scores = defense.converged_scores(part)
        check_scores(defense, scores, len(part))
        vanishing += (scores.argmax(1) == labels).tolist()
    return vanishing


def _found(attack: Attack, clean: Tensor, image: Tensor) -> dict:
    norms = {norm: float(distance(norm, image[None].double(), clean[None].double())) for norm in NORMS}
    stored = image.cpu().numpy().copy()
    return {"status": Status.FOUND, "distance": norms[attack.norm], "adversarial": stored, **norms}


def _failed(fault: str | None) -> dict:
    status = Status.REJECTED if fault else Status.NOT_FOUND
    return {"status": status, "reason": fault, "distance": numpy.inf, **dict.fromkeys(NORMS, numpy.inf)}


def _misclassified(scores: Tensor, label: int) -> dict:
    clean_margin = float(margin(scores[None], torch.tensor([label], device=scores.device)))
    return {
        "status": Status.MISCLASSIFIED,
        "adversarial_label": int(scores.argmax()),
        "margin": clean_margin,
        "distance": 0.0,
        **dict.fromkeys(NORMS, 0.0),
    }


def _checked_batch(defense: Defense, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    try:
        check_images(x, x.shape[1:])
    except (PluginError, AttributeError) as failure:
        raise UserError(f"x: {failure}") from None
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.shape != (len(x),):
        raise UserError(f"y: labels must be int64 [{len(x)}], one for each image")
    return x.to(defense.device), y.to(defense.device)


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
