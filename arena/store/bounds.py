"""The table `bound`: lower bounds of adversarial distances, for each defense, sample, norm, kind and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, and_, func, insert, select

from arena.geometry.norms import Norm
from arena.store.schema import bound, defense
from arena.store.store import Store
from arena.store.views import current_match, lower_bound


@dataclass(frozen=True)
class Series:
    """The bounds of one defense that are computed alike."""

    defense_id: int
    data_hash: str
    norm: Norm
    kind: str
    seed: int


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A lower bound on the distances of one sample; `kind` says how it was derived."""

    value: float
    kind: str


LowerBounds = dict[tuple[str, Norm], dict[int, LowerBound]]  # of each sample, by defense and norm


def read(store: Store, series: Series) -> dict[int, float]:
    """The bounds of a series, by sample."""
    with store.reading() as connection:
        return _known(connection, series)


def append(store: Store, series: Series, values: Mapping[int, float]) -> None:
    """Store the bounds of some samples, all or none; of those that another program stored meanwhile, its own stay."""
    with store.writing() as connection:
        known = _known(connection, series)
        new = {sample: value for sample, value in values.items() if sample not in known}
        if new:
            columns = {column.name: value for column, value in _columns(series).items()}
            connection.execute(insert(bound), [columns | {"sample": s, "value": value} for s, value in new.items()])


def _known(connection: Connection, series: Series) -> dict[int, float]:
    same = and_(*(column == value for column, value in _columns(series).items()))
    rows = connection.execute(select(bound.c.sample, bound.c.value).where(same))
    return {row.sample: row.value for row in rows}


def _columns(series: Series) -> dict[Column[Any], Any]:
    """The columns that say which series a row belongs to."""
    return {
        bound.c.defense_id: series.defense_id,
        bound.c.data_hash: series.data_hash,
        bound.c.norm: series.norm,
        bound.c.kind: series.kind,
        bound.c.seed: series.seed,
    }


def by_kind(connection: Connection, fingerprint: str, data_hash: str) -> dict[tuple[int, Norm, str], float]:
    """By sample, norm and kind the bound, the least over seeds, of the defense with this fingerprint."""
    key = (bound.c.sample, bound.c.norm, bound.c.kind)
    query = (
        select(*key, func.min(bound.c.value))
        .join_from(bound, defense)
        .where(defense.c.fingerprint == fingerprint, bound.c.data_hash == data_hash)
        .group_by(*key)
    )
    return {(sample, norm, kind): value for sample, norm, kind, value in connection.execute(query)}


def of_current_defenses(connection: Connection, data_hash: str) -> LowerBounds:
    """The bounds that count (the view `lower_bound` says which) of the current defenses."""
    defenses = select(current_match.c.defense_id, current_match.c.defense).distinct().subquery()
    query = (
        select(defenses.c.defense, lower_bound.c.norm, lower_bound.c.sample, lower_bound.c.value, lower_bound.c.kind)
        .join_from(lower_bound, defenses, lower_bound.c.defense_id == defenses.c.defense_id)
        .where(lower_bound.c.data_hash == data_hash)
    )
    bounds: LowerBounds = defaultdict(dict)
    for name, norm, sample, value, kind in connection.execute(query):
        bounds[name, norm][sample] = LowerBound(value, kind)
    return bounds
