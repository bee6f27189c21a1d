"""Results to rows: how robust each defense is, by attack and against the best of all attacks.

The conventions are Table 1's: a misclassified sample has distance 0, a failed attack infinity; the median and the
accuracy are over samples; "all" is the minimum over the attacks of a norm, sample by sample. Rows of status error are
no evidence: they are counted, nothing more. An unstable sample has no distance and never counts as robust. The view
`leaderboard` says the same in SQL.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from sqlalchemy import Connection, TableClause, select

from arena.errors import UserError
from arena.geometry.norms import NORMS, Norm
from arena.store import closest, datasets, intervals, masking, ranking, schema
from arena.store.closest import UNSTABLE, Closest, Defense
from arena.store.intervals import Interval
from arena.store.masking import Doubt
from arena.store.standing import Difference, Standing, difference, standings
from arena.store.views import lower_bound, statistical_bound

By = Literal["match", "defense", "attack"]
ALL = "all"

_Every = Mapping[tuple[Defense, Norm], dict[str, Closest]]  # by attack, and of ALL


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
    where the norm has no threshold. `median_distance` may be infinite. The intervals are those of `intervals`, None
    where their number is.
    `unstable` counts the samples without an adversarial that holds but with one that fooled the defense at first: they
    count in `accuracy`, as not robust, and have no distance to count elsewhere.
    `fragile` counts the samples whose closest adversarial vanishes once the defense's inference converges; where a
    solid one is equally close, it is not counted. `masked` counts the samples for which some gradient of the defense
    was zero everywhere or not finite: gradient attacks may then say little.
    `bracket` is None where no sample has both a result and a bound; `statistical` is that of bounds which fail with
    some probability. `rank` is None unless by="attack", `standing` unless by="defense", and `curve`, the
    (queries, median distance) of an attack (see `ranking.curve`), unless curves were asked for. `difference` is that
    from another defense under the same attack, if one was asked for. `warnings`, of "all": see `masking`.
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
    median_interval: Interval | None = None
    accuracy_interval: Interval | None = None
    bracket: Bracket | None = None
    statistical: Bracket | None = None
    rank: Rank | None = None
    standing: Standing | None = None
    difference: Difference | None = None
    warnings: tuple[Doubt, ...] = ()
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
    against: str | None = None,
) -> list[LeaderboardRow]:
    """The leaderboard of the current defenses on the current data (the view `current_match` says which).

    by="match": every attack, strongest first, then "all", for each norm and defense. by="defense": only "all", most
    robust first. by="attack": the attacks against each defense ranked by their optimality, without "all".
    cross_norm: every adversarial counts in all norms, whatever its attack minimised.
    thresholds: epsilon by norm, in place of the data set's. attacks: count these only.
    against: the defense that the others are compared with, attack by attack, on the samples that both have.
    curves: also distance against queries, of each attack in its own norm, so not with `cross_norm`.
    Raises UserError for an unknown norm, `by` or `against`.
    """
    for value, known in ((norm, (None, *NORMS)), (by, get_args(By))):
        if value not in known:
            raise UserError(f"leaderboard: unknown {value!r}: choose one of {', '.join(filter(None, known))}")
    epsilons: dict[Any, float] = {**datasets.thresholds(connection, datasets.latest_hash()), **(thresholds or {})}
    played = connection.scalar(select(schema.tournament.c.dataset).order_by(schema.tournament.c.last_used.desc()))
    bounds, chances = (_bounds(connection, view) for view in (lower_bound, statistical_bound))
    masked, accesses = _masked(connection), masking.Accesses(connection)
    every = {
        key: {**by_attack, ALL: closest.merge(list(by_attack.values()))}
        for key, by_attack in closest.read(connection, norm, cross_norm, attacks).items()
    }
    others = _of_defense(every, against) if against is not None else {}
    standings = _standings(every, epsilons) if by == "defense" else {}
    board = []
    for (defense, norm_of_row), by_attack in every.items():
        epsilon = epsilons.get(norm_of_row)
        other = others.get(norm_of_row, {}) if defense.name != against else {}
        best, played_by = by_attack[ALL], {name: of for name, of in by_attack.items() if name != ALL}
        ranks = _ranks(connection, played_by, best, epsilon) if by == "attack" else {}
        signs = () if cross_norm else masking.warnings(played_by, accesses, _count(masked, best), len(best.samples))
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
                unstable=int((found.distances == UNSTABLE).sum()),
                masked=_count(masked, found),
                bracket=_bracket(found, bounds[defense.id, norm_of_row]),
                statistical=_bracket(found, chances[defense.id, norm_of_row]),
                rank=ranks.get(attack),
                standing=standings.get((defense, norm_of_row)),
                difference=difference(found, other[attack], epsilon) if attack in other else None,
                warnings=signs if attack == ALL else (),
                dataset=played or "",
                curve=ranking.curve(connection, found.matches) if curves and not cross_norm and attack != ALL else None,
            )
            for attack, found in by_attack.items()
            if by == "match" or (by == "defense") == (attack == ALL)
        ]
    return sorted(board, key=_ORDERS[by])


def _of_defense(every: _Every, name: str) -> dict[Norm, dict[str, Closest]]:
    found = {norm: of for (defense, norm), of in every.items() if defense.name == name}
    if not found:
        known = sorted({defense.name for defense, _ in every})
        raise UserError(f"leaderboard: no results of {name!r}: choose one of {', '.join(known)}")
    return found


def _standings(every: _Every, epsilons: Mapping[Any, float]) -> dict[tuple[Defense, Norm], Standing | None]:
    """Of the defenses in each norm, under all attacks."""
    found: dict[tuple[Defense, Norm], Standing | None] = {}
    for norm in NORMS:
        of_norm = {key: of[ALL] for key, of in every.items() if key[1] == norm}
        if of_norm:
            found |= dict(zip(of_norm, standings(list(of_norm.values()), epsilons.get(norm)), strict=True))
    return found


def _ranks(
    connection: Connection, found: Mapping[str, Closest], best: Closest, epsilon: float | None
) -> dict[str, Rank]:
    """Each attack, ranked on the samples that it was played on."""
    unique: Mapping[str, int] = {}
    if epsilon is not None:
        reach = epsilon * schema.WITHIN
        within = {name: of.samples[(of.distances > 0) & (of.distances <= reach)] for name, of in found.items()}
        unique = ranking.unique(within)
    ranks = {}
    for name, of in found.items():
        optimality = ranking.optimality(*map(closest.as_failed, (of.distances, best.of(of.samples))))
        ranks[name] = Rank(optimality, unique.get(name), *ranking.median_costs(connection, of.matches))
    return ranks


def _statistics(distances: np.ndarray, epsilon: float | None) -> dict[str, Any]:
    if not len(distances):
        return {"clean_accuracy": None, "median_distance": None, "accuracy": None}
    measured = distances[distances != UNSTABLE]
    statistics: dict[str, Any] = {
        "clean_accuracy": float(np.mean(distances > 0)),
        "median_distance": float(np.median(measured)) if len(measured) else None,
        "median_interval": intervals.of_median(measured) if len(measured) else None,
        "accuracy": None,
    }
    if epsilon is not None:
        robust = int(np.sum(measured > epsilon * schema.WITHIN))
        statistics["accuracy"] = robust / len(distances)
        statistics["accuracy_interval"] = intervals.of_share(robust, len(distances))
    return statistics


def _bracket(found: Closest, bounds: Mapping[int, tuple[float, bool]]) -> Bracket | None:
    """What bounds, by sample and with whether they are certificates, and distances say together."""
    both = np.isin(found.samples, np.fromiter(bounds, float)) & (found.distances != UNSTABLE)
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
    for match_id, sample in connection.execute(select(result.match_id, result.sample).where(schema.MASKED)):
        samples[match_id].add(sample)
    return samples


def _count(masked: Mapping[int, set[int]], found: Closest) -> int:
    return len(set().union(*(masked.get(match, ()) for match in found.matches)))


def _bounds(connection: Connection, view: TableClause) -> dict[tuple[int, str], dict[int, tuple[float, bool]]]:
    """The bounds of each defense and norm, by sample, on the data that was last used; whether they are certificates."""
    bound = view.c
    of_data = bound.data_hash == datasets.latest_hash()
    query = select(bound.defense_id, bound.norm, bound.sample, bound.value, bound.kind).where(of_data)
    bounds: dict[tuple[int, str], dict[int, tuple[float, bool]]] = defaultdict(dict)
    for defense_id, norm, sample, value, kind in connection.execute(query):
        bounds[defense_id, norm][sample] = value, kind == "certificate"
    return bounds


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
