"""Results to rows: how robust each defense is, by attack and against the best of all attacks.

The conventions are Table 1's: a misclassified sample has distance 0, a failed attack infinity; the median and the
accuracy are over samples; "all" is the minimum over the attacks of a norm, sample by sample. Rows of status error are
no evidence: they are counted, nothing more. An unstable sample has no distance and never counts as robust. The view
`leaderboard` says the same in SQL.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, TableClause, case, func, select

from arena.errors import UserError
from arena.geometry.norms import NORMS, Norm
from arena.interface.results import Status
from arena.store import datasets, ranking, schema
from arena.store.views import current_match, lower_bound, statistical_bound

By = Literal["match", "defense", "attack"]
ALL = "all"

# The distance of an unstable sample while minima are taken: any adversarial that holds is closer, and a failed attack,
# at infinity, is no evidence against it. The view does the same.
_UNSTABLE = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Bracket:
    """Lower bounds (the best, of each the least over seeds) and distances, over the samples that have both.

    `mean_distance` may be infinite. `tightness` is the median of bound / distance where the distance is not 0: at 1 the
    truth is known; None where all are 0. `proven` is the share of the samples whose bound is a certificate.
    """

    lower_bound_mean: float
    mean_distance: float
    tightness: float | None
    proven: float


@dataclass(frozen=True, slots=True)
class Rank:
    """One attack among those of its norm against one defense.

    `optimality`: see `ranking.optimality`; None also where nothing was found. `unique`: the samples that it alone
    brings within epsilon, None without one. The medians are of what a sample took, forward and gradient queries
    together; None without any.
    """

    optimality: float | None
    unique: int | None
    median_queries: float | None
    median_seconds: float | None


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """One attack, or the minimum over all of a norm, against one defense.

    Shares are in [0, 1], over the `samples` with a result; None where there is none. `errors` counts rows without
    one. `accuracy` is the share of samples whose distance is > `epsilon` (by a millionth of it, `schema.WITHIN`), None
    where the norm has no threshold. `median_distance` may be infinite.
    `unstable` counts the samples without an adversarial that holds but with one that fooled the defense at first: they
    count in `accuracy`, as not robust, and have no distance to count elsewhere.
    `fragile` counts the samples whose closest adversarial vanishes once the defense's inference converges; where a
    solid one is equally close, it is not counted. `masked` counts the samples for which some gradient of the defense
    was zero everywhere or not finite: gradient attacks may then say little.
    `bracket` is None where no sample has both a result and a bound; `statistical` is that of bounds which fail with
    some probability. `rank` is None unless by="attack", and `curve`, the
    (queries, median distance) of an attack (see `ranking.curve`), unless curves were asked for.
    """

    defense: str
    norm: Norm
    attack: str
    samples: int
    errors: int
    clean_accuracy: float | None
    median_distance: float | None
    epsilon: float | None
    accuracy: float | None
    fingerprint: str
    fragile: int = 0
    unstable: int = 0
    masked: int = 0
    bracket: Bracket | None = None
    statistical: Bracket | None = None
    rank: Rank | None = None
    curve: list[tuple[int, float]] | None = None
    dataset: str = ""


def rows(
    connection: Connection,
    norm: Norm | None = None,
    by: By = "match",
    cross_norm: bool = False,
    thresholds: Mapping[str, float] | None = None,
    attacks: Collection[str] | None = None,
    curves: bool = False,
) -> list[LeaderboardRow]:
    """The leaderboard of the current defenses on the current data (the view `current_match` says which).

    by="match": every attack, strongest first, then "all", for each norm and defense. by="defense": only "all", most
    robust first. by="attack": the attacks against each defense ranked by their optimality, without "all".
    cross_norm: every adversarial counts in all norms, whatever its attack minimised.
    thresholds: epsilon by norm, in place of the data set's. attacks: count these only.
    curves: also distance against queries, of each attack in its own norm, so not with `cross_norm`.
    Raises UserError for an unknown norm or `by`.
    """
    for value, known in ((norm, (None, *NORMS)), (by, get_args(By))):
        if value not in known:
            raise UserError(f"leaderboard: unknown {value!r}: choose one of {', '.join(filter(None, known))}")
    epsilons: dict[Any, float] = {**datasets.thresholds(connection, datasets.latest_hash()), **(thresholds or {})}
    played = connection.scalar(select(schema.tournament.c.dataset).order_by(schema.tournament.c.last_used.desc()))
    bounds, chances = (_bounds(connection, view) for view in (lower_bound, statistical_bound))
    masked = _masked(connection)
    board = []
    for (defense, norm_of_row), by_attack in _evidence(connection, norm, cross_norm, attacks).items():
        merged = {attack: _merge(parts) for attack, parts in by_attack.items()}
        best = _merge(list(merged.values()))
        epsilon = epsilons.get(norm_of_row)
        ranks = _ranks(connection, merged, best, epsilon) if by == "attack" else {}
        board += [
            LeaderboardRow(
                defense=defense.name,
                norm=norm_of_row,
                attack=attack,
                samples=len(found.samples),
                errors=found.errors,
                **_statistics(found.distances, epsilon),
                epsilon=epsilon,
                fingerprint=defense.fingerprint,
                fragile=int(found.fragile.sum()),
                unstable=int((found.distances == _UNSTABLE).sum()),
                masked=len(set().union(*(masked.get(match, ()) for match in found.matches))),
                bracket=_bracket(found, bounds[defense.id, norm_of_row]),
                statistical=_bracket(found, chances[defense.id, norm_of_row]),
                rank=ranks.get(attack),
                dataset=played or "",
                curve=ranking.curve(connection, found.matches) if curves and not cross_norm and attack != ALL else None,
            )
            for attack, found in [*merged.items(), (ALL, best)]
            if by == "match" or (by == "defense") == (attack == ALL)
        ]
    return sorted(board, key=_ORDERS[by])


class _Defense(NamedTuple):
    id: int
    name: str
    fingerprint: str


class _Distances(NamedTuple):
    """The least distance of each sample, ascending, whether only fragile adversarials have it, how many rows failed."""

    samples: np.ndarray
    distances: np.ndarray
    fragile: np.ndarray
    errors: int
    matches: tuple[int, ...]


def _evidence(
    connection: Connection, norm: Norm | None, cross_norm: bool, attacks: Collection[str] | None
) -> dict[tuple[_Defense, Norm], dict[str, list[_Distances]]]:
    """What each match that has rows found, by defense and norm, then by attack."""
    result, defense = schema.result.c, schema.defense.c
    failed = select(result.match_id, func.count()).where(result.status == Status.ERROR).group_by(result.match_id)
    errors = dict(_pairs(connection, failed))
    fragile: dict[int, list[int]] = defaultdict(list)
    for match_id, sample in _pairs(connection, select(result.match_id, result.sample).where(result.fragile)):
        fragile[match_id].append(sample)
    matches = select(
        current_match.c.id, current_match.c.norm, current_match.c.attack, defense.id, defense.name, defense.fingerprint
    ).join_from(current_match, schema.defense, defense.id == current_match.c.defense_id)
    if attacks is not None:
        matches = matches.where(current_match.c.attack.in_(attacks))
    found: dict[tuple[_Defense, Norm], dict[str, list[_Distances]]] = defaultdict(lambda: defaultdict(list))
    for match_id, own, attack, *which in connection.execute(matches.order_by(current_match.c.id)):
        for target in NORMS if cross_norm else (own,):
            if norm in (None, target):
                measured = result[target] if cross_norm else result.distance
                samples, distances = _columns(connection, match_id, measured)
                if len(samples) or match_id in errors:
                    doubtful = np.isin(samples, fragile.get(match_id, []))
                    part = _Distances(samples, distances, doubtful, errors.get(match_id, 0), (match_id,))
                    found[_Defense(*which), target][attack].append(part)
    return found


def _columns(connection: Connection, match_id: int, measured: ColumnElement[float]) -> np.ndarray:
    """Samples and distances [2, N] of a match's rows, without errors; measured: the distance of what was found.

    A million rows come this way, so they are taken from the driver's cursor: SQLAlchemy's rows triple the time.
    """
    result = schema.result.c
    distance = case(
        (result.status == Status.FOUND, measured),
        (result.status == Status.UNSTABLE, _UNSTABLE),
        else_=result.distance,
    )
    # Without a distance: errors, and in norms that came later adversarials that are older.
    query = select(result.sample, distance).where(result.match_id == match_id, distance.is_not(None))
    cursor = connection.execute(query.order_by(result.sample)).cursor
    assert cursor is not None
    return np.fromiter(chain.from_iterable(cursor.fetchall()), float).reshape(-1, 2).T


def _merge(parts: list[_Distances]) -> _Distances:
    if len(parts) == 1:
        return parts[0]
    samples, place = np.unique(np.concatenate([part.samples for part in parts]), return_inverse=True)
    every, doubtful = (np.concatenate(of) for of in zip(*((p.distances, p.fragile) for p in parts), strict=True))
    distances, solid = np.full((2, len(samples)), np.inf)
    np.minimum.at(distances, place, every)
    np.minimum.at(solid, place[~doubtful], every[~doubtful])
    errors, matches = sum(part.errors for part in parts), sum((part.matches for part in parts), ())
    return _Distances(samples, distances, distances < solid, errors, matches)


def _ranks(
    connection: Connection, merged: Mapping[str, _Distances], best: _Distances, epsilon: float | None
) -> dict[str, Rank]:
    """Each attack, ranked on the samples that it was played on."""
    unique: Mapping[str, int] = {}
    if epsilon is not None:
        reach = epsilon * schema.WITHIN
        within = {name: of.samples[(of.distances > 0) & (of.distances <= reach)] for name, of in merged.items()}
        unique = ranking.unique(within)
    ranks = {}
    for name, of in merged.items():
        least = best.distances[np.searchsorted(best.samples, of.samples)]
        optimality = ranking.optimality(_as_failed(of.distances), _as_failed(least))
        ranks[name] = Rank(optimality, unique.get(name), *ranking.median_costs(connection, of.matches))
    return ranks


def _as_failed(distances: np.ndarray) -> np.ndarray:
    """An attack earns nothing by a defense that does not stand by its answer."""
    return np.where(distances == _UNSTABLE, math.inf, distances)


def _statistics(distances: np.ndarray, epsilon: float | None) -> dict[str, Any]:
    if not len(distances):
        return {"clean_accuracy": None, "median_distance": None, "accuracy": None}
    measured = distances[distances != _UNSTABLE]
    return {
        "clean_accuracy": float(np.mean(distances > 0)),
        "median_distance": float(np.median(measured)) if len(measured) else None,
        "accuracy": None if epsilon is None else float(np.sum(measured > epsilon * schema.WITHIN) / len(distances)),
    }


def _bracket(found: _Distances, bounds: Mapping[int, tuple[float, bool]]) -> Bracket | None:
    """What bounds, by sample and with whether they are certificates, and distances say together."""
    both = np.isin(found.samples, np.fromiter(bounds, float)) & (found.distances != _UNSTABLE)
    if not both.any():
        return None
    distances = found.distances[both]
    lower, proven = np.array([bounds[sample] for sample in found.samples[both]]).T
    away = distances > 0
    with np.errstate(divide="ignore", invalid="ignore"):  # no image of another class, proven and found so
        ratio = np.where(lower == distances, 1.0, lower / distances)
    tightness = float(np.median(ratio[away])) if away.any() else None
    return Bracket(float(lower.mean()), float(distances.mean()), tightness, float(proven.mean()))


def _masked(connection: Connection) -> dict[int, set[int]]:
    """The samples of each match for which a gradient was zero everywhere or not finite."""
    result, samples = schema.result.c, defaultdict(set)
    for match_id, sample in _pairs(connection, select(result.match_id, result.sample).where(schema.MASKED)):
        samples[match_id].add(sample)
    return samples


def _bounds(connection: Connection, view: TableClause) -> dict[tuple[int, str], dict[int, tuple[float, bool]]]:
    """The bounds of each defense and norm, by sample, on the data that was last used; whether they are certificates."""
    bound = view.c
    of_data = bound.data_hash == datasets.latest_hash()
    query = select(bound.defense_id, bound.norm, bound.sample, bound.value, bound.kind).where(of_data)
    bounds: dict[tuple[int, str], dict[int, tuple[float, bool]]] = defaultdict(dict)
    for defense_id, norm, sample, value, kind in connection.execute(query):
        bounds[defense_id, norm][sample] = value, kind == "certificate"
    return bounds


def _pairs(connection: Connection, query: Select[Any]) -> list[tuple[Any, Any]]:
    return [(key, value) for key, value in connection.execute(query)]


def _strength(row: LeaderboardRow) -> tuple[float, float]:
    """Orders attacks: the strongest first, those without any result last."""
    if row.median_distance is None:
        return math.inf, math.inf
    return row.median_distance, row.accuracy or 0


def _optimality(row: LeaderboardRow) -> float:
    return (row.rank and row.rank.optimality) or 0


_ORDERS: dict[str, Callable[[LeaderboardRow], tuple[Any, ...]]] = {
    "match": lambda row: (row.norm, row.defense, row.attack == ALL, *_strength(row), row.attack),
    "defense": lambda row: (row.norm, -(row.accuracy or 0), -(row.median_distance or 0), row.defense),
    "attack": lambda row: (row.norm, row.defense, -_optimality(row), *_strength(row), row.attack),
}
