"""Which attacks suffice: the fewest that come as close as all of them, and what leaving each one out costs.

Against one defense in one norm an attack reaches a sample if it comes within 1 % of the closest adversarial that any
attack found. The ensemble is the fewest attacks that together reach 99 % of the samples, of those the ones that took
the least time. It is a partial set cover, solved to proven optimality by branch and bound (HiGHS, Huangfu and Hall
2018, through SciPy) over one binary variable an attack.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse
from sqlalchemy import Connection, func, select

from arena.geometry.norms import Norm
from arena.store import closest, schema
from arena.store.closest import Closest, as_failed, merge

WITHIN = 1.01  # times the least distance, or less, reaches a sample
SHARE = 0.99  # of the samples are to be reached
_EQUAL = 1e-9  # distances that differ by less, relatively, are equal


@dataclass(frozen=True, slots=True)
class Member:
    """One attack. It took `seconds` a sample, in the mean, and reaches `reached` samples by itself.

    Left out of the ensemble (one that is not `chosen`: of all attacks), `lost` samples are reached no more, and the
    distance of one grows up to `worst` times: infinity where nothing else found any, 1 where it makes no difference.
    """

    attack: str
    chosen: bool
    seconds: float
    reached: int
    lost: int
    worst: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """What suffices against a defense in a norm: the attacks, chosen ones first, of each the most useful first.

    `samples` have an adversarial; the chosen attacks reach `reached` of them, in `seconds` a sample of the
    `all_seconds` that all take. `least` is the proven least number of attacks that suffice: as many as are chosen,
    unless the search was cut off.
    """

    defense: str
    norm: Norm
    samples: int
    reached: int
    least: int
    seconds: float
    all_seconds: float
    members: tuple[Member, ...]

    @property
    def chosen(self) -> list[Member]:
        return [member for member in self.members if member.chosen]


def ensembles(connection: Connection, norm: Norm | None = None) -> list[Ensemble]:
    """The ensemble against each current defense in each norm in which any adversarial was found."""
    taken = _seconds(connection)
    found = []
    for (defense, of_norm), by_attack in closest.read(connection, norm).items():
        seconds = {
            name: sum(taken[match] for match in of.matches) / max(1, len(of.samples)) for name, of in by_attack.items()
        }
        if (ensemble := _ensemble(defense.name, of_norm, by_attack, seconds)) is not None:
            found.append(ensemble)
    return sorted(found, key=lambda ensemble: (ensemble.norm, ensemble.defense))


def _seconds(connection: Connection) -> dict[int, float]:
    result = schema.result.c
    rows = connection.execute(select(result.match_id, func.sum(result.seconds)).group_by(result.match_id))
    return defaultdict(float, {row[0]: row[1] for row in rows})


def _ensemble(
    defense: str, norm: Norm, by_attack: Mapping[str, Closest], seconds: Mapping[str, float]
) -> Ensemble | None:
    names = sorted(by_attack)
    best = merge([by_attack[name] for name in names])
    least = as_failed(best.distances)
    found = (least > 0) & np.isfinite(least)
    samples = best.samples[found]
    if not len(samples):
        return None
    distances = closest.table([by_attack[name] for name in names], samples)
    reaches = distances <= least[found] * WITHIN * (1 + _EQUAL)
    costs = [seconds[name] for name in names]
    chosen, fewest = cover(reaches, math.ceil(SHARE * len(samples)), costs)
    members = [_member(place, names, distances, reaches, chosen, costs) for place in range(len(names))]
    members.sort(key=lambda of: (not of.chosen, -of.lost, -of.reached, of.seconds, of.attack))
    reached = int(reaches[chosen].any(axis=0).sum())
    of_chosen = sum(member.seconds for member in members if member.chosen)
    return Ensemble(defense, norm, len(samples), reached, fewest, of_chosen, sum(costs), tuple(members))


def _member(
    place: int,
    names: Sequence[str],
    distances: np.ndarray,
    reaches: np.ndarray,
    chosen: np.ndarray,
    costs: Sequence[float],
) -> Member:
    group = chosen if chosen[place] else np.ones_like(chosen)
    others = group & (np.arange(len(names)) != place)
    lost = reaches[group].any(axis=0) & ~reaches[others].any(axis=0)
    with_it, without = (distances[of].min(axis=0, initial=math.inf) for of in (group, others))
    grows = with_it < without
    worst = float(np.max(without[grows] / with_it[grows], initial=1.0))
    return Member(names[place], bool(chosen[place]), costs[place], int(reaches[place].sum()), int(lost.sum()), worst)


def cover(reaches: np.ndarray, needed: int, costs: Sequence[float], limit: float = 5.0) -> tuple[np.ndarray, int]:
    """The fewest attacks that together reach `needed` samples, the cheapest of such, and the proven least number.

    reaches: bool [A, N], all attacks together reach `needed` of the N; costs: [A], >= 0. Gives a bool [A]. limit: of
    the search, in seconds: after it the number is a lower bound, and what was found the greedy cover or better.
    """
    columns, counts = np.unique(reaches, axis=1, return_counts=True)
    attacks, patterns = columns.shape
    # All costs together count less than one attack, so that they only decide between covers of as many.
    shares = np.array(costs) / (2 * (sum(costs) or 1))
    objective = np.concatenate([1 + shares, np.zeros(patterns)])
    reached = sparse.hstack([sparse.csr_array(-columns.T.astype(float)), sparse.eye_array(patterns)])
    enough = np.concatenate([np.zeros(attacks), counts])[None]
    solution = optimize.milp(
        objective,
        integrality=np.concatenate([np.ones(attacks), np.zeros(patterns)]),
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(reached, ub=0),
            optimize.LinearConstraint(enough, lb=needed),
        ],
        options={"time_limit": limit, "mip_rel_gap": 0},
    )
    covers = [_greedy(reaches, needed)]
    if solution.x is not None:
        covers.append(solution.x[:attacks] > 0.5)
    chosen = min(covers, key=lambda cover: float(objective[:attacks][cover].sum()))
    bound = 1.0 if solution.mip_dual_bound is None else solution.mip_dual_bound
    return chosen, max(1, math.ceil(bound - 0.5 - _EQUAL))


def _greedy(reaches: np.ndarray, needed: int) -> np.ndarray:
    """The attack that reaches most of what is left, until enough is reached."""
    chosen = np.zeros(len(reaches), bool)
    while (reached := reaches[chosen].any(axis=0)).sum() < needed:
        chosen[np.sum(reaches & ~reached, axis=1).argmax()] = True
    return chosen
