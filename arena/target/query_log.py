"""The query log: what each sample has cost so far, and the closest adversarials seen for it."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.errors import BudgetExhausted
from arena.geometry.distances import distance
from arena.geometry.norms import Norm
from arena.target.logits import ROUNDING, margin, size

SOLID = 0.01  # margin of a safe adversarial, in sizes of the logits: far beyond any rounding
NOTABLE = 0.99  # a closer adversarial enters the progress if it takes off 1 %: some attacks creep for 25 000 queries


class BestAdversarials:
    """The closest adversarial seen for each sample: images [B, ...], distance [B] (inf: none), query [B] (when) and
    margin [B] (then).

    clean: the images [B, ...], which stand where there is none.
    """

    def __init__(self, clean: Tensor) -> None:
        self.images = clean.clone()
        self.distance = torch.full_like(clean[:, 0, 0, 0], torch.inf)
        self.query = torch.zeros(len(clean), dtype=torch.int64, device=clean.device)
        self.margin = torch.zeros_like(self.distance)
        self._notable = self.distance.clone()  # the distance of each sample that the next of its notes has to reach
        self._notes: list[tuple[Tensor, Tensor, Tensor]] = []  # samples, queries and distances that took off 1 %

    def keep(self, x: Tensor, index: Tensor, distances: Tensor, margins: Tensor, queries: Tensor) -> None:
        """Take over the rows x (of the samples `index`, which may repeat) that are closer than what is kept."""
        closer = (distances < self.distance[index]).nonzero().flatten()
        if not len(closer):
            return
        closer = closer[distances[closer].argsort(stable=True).flip(0)]
        # The last of a sample's rows stays: its closest, of equally close ones the first.
        rows = dict(zip(index[closer].tolist(), closer.tolist(), strict=True))
        samples, chosen = torch.tensor([list(rows), list(rows.values())], device=x.device)
        self.images[samples] = x[chosen]
        self.distance[samples] = distances[chosen]
        self.query[samples] = queries[samples]
        self.margin[samples] = margins[chosen]
        self._note(samples)

    def _note(self, samples: Tensor) -> None:
        distances = self.distance[samples]
        notable = distances <= self._notable[samples]
        if bool(notable.any()):
            samples, distances = samples[notable], distances[notable]
            self._notable[samples] = NOTABLE * distances
            self._notes.append((samples, self.query[samples], distances))

    def progress(self) -> list[list[list[float]]]:
        """For each sample [query, distance] of its first adversarial, of each at least 1 % closer than the one before
        in this list, and of the closest; distances have 6 digits. Empty where nothing was seen."""
        seen = self.distance.isfinite().nonzero().flatten()
        rows: list[list[list[float]]] = [[] for _ in self.images]
        for columns in [*self._notes, (seen, self.query[seen], self.distance[seen])]:
            for sample, query, closer in zip(*(column.tolist() for column in columns), strict=True):
                entry = [query, float(f"{closer:.6g}")]
                if rows[sample][-1:] != [entry]:
                    rows[sample].append(entry)
        return rows


class QueryLog:
    """Counts queries per sample, enforces the budget and keeps the closest adversarials.

    x: clean images, float32 [B, C, H, W] in [0, 1]; y: labels, int64 [B]; norm: in which "closest" is meant;
    budget: queries allowed for each sample, forward and gradient together (None: no limit).
    """

    def __init__(
        self, x: Tensor, y: Tensor, norm: Norm, budget: int | None = None, binary_threshold: float | None = None
    ) -> None:
        self.x, self.y, self.norm, self.budget = x.clone(), y.clone(), norm, budget
        self.binary_threshold = binary_threshold
        self.queries = torch.zeros_like(self.y)
        self.gradient_queries = torch.zeros_like(self.y)
        self.masked = torch.zeros_like(self.y)  # gradient queries answered by nothing: zero everywhere, or not finite
        self.seen = BestAdversarials(self.x)
        self.solid = BestAdversarials(self.x)  # of those whose margin is solid
        self.boundary = BestAdversarials(self.x)  # where none was seen: what missed by rounding alone, by how much
        self._standing = True  # whether there is a sample of which none was seen
        self.binarized = BestAdversarials(self.x)  # the same as seen, after `binarize`: stays empty without a threshold

    @property
    def spent(self) -> Tensor:
        """Queries of each sample [B], of both kinds."""
        return self.queries + self.gradient_queries

    def charge(self, index: Tensor, *, gradient: bool = False) -> Tensor | None:
        """Bill one query to each row's sample; gives the rows [N] that are paid, or None where all are.

        A sample that cannot pay for all its rows pays for none. Raises BudgetExhausted if none of them can pay.
        """
        bill, paid = torch.ones_like(index), None
        if self.budget is not None:
            cost = torch.zeros_like(self.y).index_add_(0, index, bill)
            within_budget = self.spent + cost <= self.budget
            if not bool(within_budget.all()):
                paid = within_budget[index]
                bill = paid.long()
                if not bool(paid.any()):
                    raise BudgetExhausted(f"the budget of {self.budget} queries per sample is spent")
        (self.gradient_queries if gradient else self.queries).index_add_(0, index, bill)
        return paid

    def remember(self, x: Tensor, index: Tensor, scores: Tensor) -> None:
        """Keep those of the answered images x [N, ...] that are misclassified and closer than any before; while a
        sample has none, the one that came closest to it."""
        wrong = (scores.argmax(1) != self.y[index]).nonzero().flatten()
        if len(wrong) == len(x):
            self._remember_adversarials(x, index, scores)
        elif len(wrong):
            self._remember_adversarials(x[wrong], index[wrong], scores[wrong])
        if self._standing:
            self._remember_boundary(x, index, scores)

    def _remember_adversarials(self, x: Tensor, index: Tensor, scores: Tensor) -> None:
        clean = self.x[index]
        distances = distance(self.norm, x, clean)
        if self.binary_threshold is not None:
            flipped, margins = binarize(x, clean, self.binary_threshold), margin(scores, self.y[index])
            self.binarized.keep(flipped, index, distance(self.norm, flipped, clean), margins, self.spent)
        near = (distances < self.solid.distance[index]).nonzero().flatten()  # what is solid was seen, too
        if not len(near):
            return
        x, index, scores, distances = x[near], index[near], scores[near], distances[near]
        margins, spent = margin(scores, self.y[index]), self.spent
        self.seen.keep(x, index, distances, margins, spent)
        self._standing = self._standing and bool((self.seen.distance == torch.inf).any())
        solid = (margins > SOLID * size(scores)).nonzero().flatten()
        self.solid.keep(x[solid], index[solid], distances[solid], margins[solid], spent)

    def _remember_boundary(self, x: Tensor, index: Tensor, scores: Tensor) -> None:
        margins = margin(scores, self.y[index])
        tied = (-margins <= ROUNDING * size(scores)) & (self.seen.distance[index] == torch.inf)
        rows = tied.nonzero().flatten()
        if len(rows):
            self.boundary.keep(x[rows], index[rows], -margins[rows], margins[rows], self.spent)


def binarize(x: Tensor, clean: Tensor, threshold: float) -> Tensor:
    """The closest images to `clean` that a model binarising at `threshold` cannot tell from x (paper section 5,
    "Postprocessing"): each pixel is the clean one if it is on the same side, else just across the threshold."""
    below = torch.nextafter(torch.tensor(threshold), torch.tensor(0.0)).item()
    bright = x >= threshold
    return torch.where(bright == (clean >= threshold), clean, torch.where(bright, threshold, below))
