"""What the figures draw, read from one snapshot of a store; images one by one, for only a few of them are drawn."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sqlalchemy import Connection, and_, func, select

from arena.data import load_played
from arena.errors import UserError
from arena.geometry.norms import NORMS, Norm
from arena.interface.results import Distal, Status
from arena.reporting.curves import median_progress
from arena.reporting.figures.style import PAPER_NORMS
from arena.store import bounds as bound_rows
from arena.store import datasets, schema
from arena.store import distals as distal_rows
from arena.store.images import Images
from arena.store.views import best_result, current_match

NOTHING = "the defenses, as they were last used, have no results: run `arena run`"
QUERIES = np.geomspace(1, 1e8, 401)  # where the progress of attacks is read


@dataclass(frozen=True, slots=True)
class Closest:
    """The least distance of each sample [N] over all attacks of a norm: 0 misclassified, infinity never found,
    not a number unstable.

    `matches` says where the adversarial is stored.
    """

    samples: np.ndarray
    labels: np.ndarray
    distances: np.ndarray
    matches: np.ndarray


@dataclass(frozen=True, slots=True)
class Adversarial:
    """A stored adversarial, float32 [C, H, W], and the class that the defense takes it for."""

    image: np.ndarray
    label: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How fast one match came close: the median distance [K] of the samples that were attacked after `queries` [K], up
    to the most that one of them took. No medians where the store kept no progress, as older ones did not.
    """

    norm: Norm
    attack: str
    queries: np.ndarray
    medians: np.ndarray | None


class FigureData:
    """The rows that leaderboards count.

    Raises UserError where there are none.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        data = schema.tournament.c
        played = select(current_match.c.tournament_id).limit(1).scalar_subquery()
        found = connection.execute(select(data.dataset, data.split, data.data_hash).where(data.id == played)).first()
        self.closest = _read_closest(connection)
        if found is None or not self.closest:
            raise UserError(f"nothing to draw: {NOTHING}")
        self._dataset, self._split, self._hash = found
        self.epsilons: dict[Norm, float] = datasets.thresholds(connection, self._hash)
        self.defenses = sorted({defense for defense, _ in self.closest})

    @property
    def norms(self) -> tuple[Norm, ...]:
        """A panel each: the paper's norms, and others that were played."""
        return (*PAPER_NORMS, *(norm for norm in NORMS if norm not in PAPER_NORMS and self.of_norm(norm)))

    def of_norm(self, norm: Norm) -> dict[str, Closest]:
        """The closest adversarials in a norm by defense, those without any result left out."""
        return {name: self.closest[name, norm] for name in self.defenses if (name, norm) in self.closest}

    @cached_property
    def bounds(self) -> bound_rows.LowerBounds:
        """The lower bound of each sample, by defense and norm."""
        return bound_rows.of_current_defenses(self._connection, self._hash)

    @cached_property
    def distals(self) -> dict[str, list[Distal]]:
        """The ascents from noise, by defense."""
        return distal_rows.read(self._connection)

    @cached_property
    def clean(self) -> np.ndarray | str:
        """The images that were attacked, float32 [N, C, H, W] in [0, 1], or why they cannot be had."""
        try:
            described = datasets.description(self._connection, self._dataset, self._hash)
            return load_played(described, self._split, self._hash)[0].numpy()
        except UserError as failure:
            return str(failure)

    def adversarial(self, match_id: int, sample: int) -> Adversarial:
        """A stored adversarial; raises UserError if its image cannot be read."""
        result = schema.result.c
        query = select(result.adversarial, result.adversarial_label)
        this = and_(result.match_id == int(match_id), result.sample == int(sample))
        blob, label = self._connection.execute(query.where(this)).one()
        return Adversarial(Images(self._connection).read(int(match_id), int(sample), blob), label)

    def progress(self, defense: str) -> Iterator[Progress]:
        """The progress of every match against a defense, one match in memory at a time."""
        matches = select(current_match.c.id, current_match.c.norm, current_match.c.attack)
        result = schema.result.c
        attacked = result.status.in_([Status.FOUND, Status.NOT_FOUND, Status.REJECTED])
        spent = func.max(result.queries + result.gradient_queries)
        of_defense = matches.where(current_match.c.defense == defense).order_by(current_match.c.attack)
        for match_id, norm, attack in self._connection.execute(of_defense).all():
            these = and_(result.match_id == match_id, attacked)
            most = self._connection.scalar(select(spent).where(these))
            rows = self._connection.execute(select(result.status, result.progress).where(these)).all()
            if most is not None:
                kept = all(row.progress for row in rows if row.status == Status.FOUND)
                progress = [json.loads(row.progress or "[]") for row in rows]
                queries = np.append(QUERIES[most > QUERIES], most)
                yield Progress(norm, attack, queries, median_progress(progress, queries) if kept else None)


def _read_closest(connection: Connection) -> dict[tuple[str, Norm], Closest]:
    best, result = best_result.c, schema.result.c
    same_row = and_(result.match_id == best.match_id, result.sample == best.sample)
    query = select(best.defense, best.norm, best.sample, result.label, best.distance, best.match_id)
    rows = defaultdict(list)
    of_best = connection.execute(query.join_from(best_result, schema.result, same_row))
    for defense, norm, sample, label, distance, match_id in of_best:
        rows[defense, norm].append((sample, label, np.nan if distance is None else distance, match_id))
    found = {}
    for key, values in rows.items():
        samples, labels, distances, matches = map(np.array, zip(*sorted(values), strict=True))
        found[key] = Closest(samples, labels, distances, matches)
    return found
