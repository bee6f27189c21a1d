"""Claims: images put forward as adversarials of the samples of a chunk, and what the defense says when asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arena.geometry.distances import distance
from arena.interface.contracts import Defense
from arena.target.images import hair_beyond
from arena.target.logits import ROUNDING, evaluate, margin, size
from arena.target.query_log import BestAdversarials, QueryLog, binarize

CHANGED = "the target saw an image fool the defense, and asked again at another batch size it does not"
RANDOM = "the target saw an image fool the defense, which gives two answers when asked the same twice"


@dataclass(frozen=True)
class Claim:
    """Images [B, ...], and the rows [B] for which they are claimed to fool.

    seen: what the target saw of the very images (None: it did not see them). log: where their progress was noted.
    query [B]: queries spent when the evidence was seen (0: the attack returned it without asking).
    """

    images: Tensor
    made: Tensor
    log: BestAdversarials
    query: Tensor
    seen: BestAdversarials | None = None


@dataclass(frozen=True)
class Answer:
    """What the defense says of a claim when asked again, for each sample [B]: label, margin, the size of its logits,
    and the distance, float64, of what still fools it (infinity: nothing does)."""

    claim: Claim
    labels: Tensor
    margins: Tensor
    sizes: Tensor
    distances: Tensor


@dataclass(frozen=True)
class Verdict:
    """For each sample [B] the closest claim that held (`closest`, an index of `answers`) where any did (`found`),
    whether there was any (`claimed`), and what accuses the defense of being unstable, in one line (None: nothing)."""

    answers: Sequence[Answer]
    closest: Tensor
    found: Tensor
    claimed: Tensor
    unstable: Sequence[str | None]

    def winner(self, row: int) -> Answer:
        """The answer about the closest claim that held for a sample."""
        return self.answers[int(self.closest[row])]


def judge(defense: Defense, query_log: QueryLog, candidates: Tensor, sound: Tensor) -> Verdict:
    """Ask the defense about everything claimed: what its target saw, and the attack's candidates [B, ...] where they
    are `sound` images [B]. Where what the target saw does not hold, safer images stand in for it; where nothing holds,
    a hair beyond the image that came closest to fooling, should it have missed by rounding alone."""
    answers = _ask(defense, query_log, _claims(query_log, candidates, sound))
    seen = answers[0]
    doubtful = seen.claim.made & seen.distances.isinf()
    if bool(doubtful.any()):
        answers += _ask(defense, query_log, _safer(query_log, doubtful))
    claimed = torch.stack([answer.claim.made for answer in answers]).any(0)
    edge = query_log.boundary
    missed = edge.distance.isfinite() & torch.stack([answer.distances for answer in answers]).isinf().all(0)
    if bool(missed.any()):
        beyond = hair_beyond(query_log.x, edge.images)
        answers += _ask(defense, query_log, [Claim(beyond, missed, query_log.seen, edge.query)])
    nearest, closest = torch.stack([answer.distances for answer in answers]).min(0)
    found = nearest.isfinite()
    return Verdict(answers, closest, found, claimed, _instability(defense, query_log, answers, found))


def _claims(query_log: QueryLog, candidates: Tensor, sound: Tensor) -> list[Claim]:
    """What the target saw and what the attack returned, each also post-processed if the defense binarises."""
    never = torch.zeros_like(query_log.y)
    seen, kept = query_log.seen, query_log.binarized
    returned = sound & (candidates != query_log.x).flatten(1).any(1)
    claims = [
        Claim(seen.images, seen.distance.isfinite(), seen, seen.query, seen),
        Claim(candidates, returned, seen, never),
    ]
    if query_log.binary_threshold is not None:
        processed = binarize(candidates, query_log.x, query_log.binary_threshold)
        claims += [
            Claim(kept.images, kept.distance.isfinite(), kept, kept.query),
            Claim(processed, returned, kept, never),
        ]
    return claims


def _safer(query_log: QueryLog, rows: Tensor) -> list[Claim]:
    """For the rows [B] whose closest adversarial does not hold: a hair beyond it, and an earlier one that was solid."""
    seen, solid = query_log.seen, query_log.solid
    kept = rows & solid.distance.isfinite()
    claims = [
        Claim(hair_beyond(query_log.x, seen.images), rows, seen, seen.query),
        Claim(solid.images, kept, seen, solid.query, solid),
    ]
    if query_log.binary_threshold is not None:
        processed = binarize(solid.images, query_log.x, query_log.binary_threshold)
        claims.append(Claim(processed, kept, query_log.binarized, solid.query))
    return claims


def _ask(defense: Defense, query_log: QueryLog, claims: Sequence[Claim]) -> list[Answer]:
    """The answers to everything claimed, asked at another batch size than the attack's."""
    x, y = query_log.x, query_log.y
    which, row = torch.stack([claim.made for claim in claims]).nonzero(as_tuple=True)
    images = torch.stack([claim.images for claim in claims])[which, row]
    asked = min(len(x), defense.batch_size)  # at once by the attack
    rows = max(asked // 2, 1) if asked > 1 else min(2, defense.batch_size)
    # The extra clean image makes two rows even of a single claim.
    logits = evaluate(defense, torch.cat([images, x[:1]]), rows=rows)[:-1]
    length = distance(query_log.norm, images.double(), x[row].double())
    answers = []
    for number, claim in enumerate(claims):
        mine = which == number
        labels, margins, sizes = y.clone(), torch.zeros_like(x[:, 0, 0, 0]), torch.zeros_like(x[:, 0, 0, 0])
        distances = torch.full_like(margins, torch.inf, dtype=torch.float64)
        labels[claim.made] = logits[mine].argmax(1)
        margins[claim.made] = margin(logits[mine], y[claim.made])
        sizes[claim.made] = size(logits[mine])
        distances[claim.made] = length[mine]
        answers.append(Answer(claim, labels, margins, sizes, distances.masked_fill(labels == y, torch.inf)))
    return answers


def _instability(defense: Defense, query_log: QueryLog, answers: Sequence[Answer], found: Tensor) -> list[str | None]:
    """For each sample what accuses the defense, or None.

    Either nothing holds, and the margin of an image that the target saw fool has moved by more than rounding can; or
    something holds, but the margin has moved and the same batch asked twice does not get the same answer.
    """
    moved = torch.zeros_like(found)
    for answer in answers:
        if answer.claim.seen is not None:
            shift = (answer.claim.seen.margin - answer.margins).abs()
            moved |= answer.claim.made & (shift > ROUNDING * answer.sizes)
    random = torch.zeros_like(found)
    if bool(moved.any()):
        images, y = query_log.seen.images[moved], query_log.y[moved]
        first, second = evaluate(defense, images), evaluate(defense, images)
        random[moved] = (margin(first, y) - margin(second, y)).abs() > ROUNDING * size(first)
    changed = moved & ~found
    return [RANDOM if random[row] else CHANGED if changed[row] else None for row in range(len(found))]
