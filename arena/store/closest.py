"""How close every attack came, sample by sample: what leaderboards, ensembles and warnings are computed from."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Connection, case, func, select

from arena.geometry.norms import NORMS, Norm
from arena.interface.results import Status
from arena.store import schema
from arena.store.views import current_match

# The distance of an unstable sample while minima are taken: any adversarial that holds is closer, and a failed attack,
# at infinity, is no evidence against it. The views do the same.
UNSTABLE = sys.float_info.max


class Defense(NamedTuple):
    id: int
    name: str
    fingerprint: str


class Closest(NamedTuple):
    """The least distance of each sample, ascending, whether only fragile adversarials have it, how many rows failed.

    A distance is 0 for a misclassified sample, infinity where nothing was found, `UNSTABLE` where the defense did not
    stand by its answer.
    """

    samples: np.ndarray
    distances: np.ndarray
    fragile: np.ndarray
    errors: int
    matches: tuple[int, ...]

    def of(self, samples: np.ndarray) -> np.ndarray:
        """The distances [N] of these samples, all of which it has."""
        return self.distances[np.searchsorted(self.samples, samples)]


def read(
    connection: Connection,
    norm: Norm | None = None,
    cross_norm: bool = False,
    attacks: Collection[str] | None = None,
) -> dict[tuple[Defense, Norm], dict[str, Closest]]:
    """What each attack found, by current defense and norm, then by attack; those without any row are left out.

    norm: this one only; cross_norm: every adversarial counts in all norms; attacks: count these only.
    """
    result, defense = schema.result.c, schema.defense.c
    failed = select(result.match_id, func.count()).where(result.status == Status.ERROR).group_by(result.match_id)
    errors = {row[0]: row[1] for row in connection.execute(failed)}
    fragile: dict[int, list[int]] = defaultdict(list)
    for match_id, sample in connection.execute(select(result.match_id, result.sample).where(result.fragile)):
        fragile[match_id].append(sample)
    matches = select(
        current_match.c.id, current_match.c.norm, current_match.c.attack, defense.id, defense.name, defense.fingerprint
    ).join_from(current_match, schema.defense, defense.id == current_match.c.defense_id)
    if attacks is not None:
        matches = matches.where(current_match.c.attack.in_(attacks))
    found: dict[tuple[Defense, Norm], dict[str, list[Closest]]] = defaultdict(lambda: defaultdict(list))
    for match_id, own, attack, *which in connection.execute(matches.order_by(current_match.c.id)):
        for target in NORMS if cross_norm else (own,):
            if norm in (None, target):
                measured = result[target] if cross_norm else result.distance
                samples, distances = _columns(connection, match_id, measured)
                if len(samples) or match_id in errors:
                    doubtful = np.isin(samples, fragile.get(match_id, []))
                    part = Closest(samples, distances, doubtful, errors.get(match_id, 0), (match_id,))
                    found[Defense(*which), target][attack].append(part)
    return {key: {attack: merge(parts) for attack, parts in of.items()} for key, of in found.items()}


def _columns(connection: Connection, match_id: int, measured: ColumnElement[float]) -> np.ndarray:
    """Samples and distances [2, N] of a match's rows, without errors; measured: the distance of what was found.

    A million rows come this way, so they are taken from the driver's cursor: SQLAlchemy's rows triple the time.
    """
    result = schema.result.c
    distance = case(
        (result.status == Status.FOUND, measured),
        (result.status == Status.UNSTABLE, UNSTABLE),
        else_=result.distance,
    )
    # Without a distance: errors, and in norms that came later adversarials that are older.
    query = select(result.sample, distance).where(result.match_id == match_id, distance.is_not(None))
    cursor = connection.execute(query.order_by(result.sample)).cursor
    assert cursor is not None
    return np.fromiter(chain.from_iterable(cursor.fetchall()), float).reshape(-1, 2).T


def merge(parts: Sequence[Closest]) -> Closest:
    """The closest of several, sample by sample; of equally close adversarials the solid one."""
    if len(parts) == 1:
        return parts[0]
    samples, place = np.unique(np.concatenate([part.samples for part in parts]), return_inverse=True)
    every, doubtful = (np.concatenate(of) for of in zip(*((p.distances, p.fragile) for p in parts), strict=True))
    distances, solid = np.full((2, len(samples)), np.inf)
    np.minimum.at(distances, place, every)
    np.minimum.at(solid, place[~doubtful], every[~doubtful])
    errors, matches = sum(part.errors for part in parts), sum((part.matches for part in parts), ())
    return Closest(samples, distances, distances < solid, errors, matches)


def table(found: Sequence[Closest], samples: np.ndarray) -> np.ndarray:
    """The distances [K, N] of these samples, infinity where one of the K has none."""
    distances = np.full((len(found), len(samples)), math.inf)
    for row, of in zip(distances, found, strict=True):
        has = np.isin(samples, of.samples)
        row[has] = as_failed(of.of(samples[has]))
    return distances


def as_failed(distances: np.ndarray) -> np.ndarray:
    """An attack earns nothing by a defense that does not stand by its answer."""
    return np.where(distances == UNSTABLE, math.inf, distances)
