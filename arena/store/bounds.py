"""The tables `bound` and `bound_value`: lower bounds on adversarial distances, and who derived them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, select

from arena.geometry.norms import Norm
from arena.interface.results import BoundKind, Identity
from arena.store import identities
from arena.store.schema import bound, bound_value, defense
from arena.store.store import Store
from arena.store.views import current_bound, current_match, lower_bound


@dataclass(frozen=True)
class Series:
    """The values of one bound for one defense that are computed alike; `kind` is what they are worth."""

    defense: Identity
    bound: Identity
    kind: BoundKind
    data_hash: str
    norm: Norm
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A lower bound on the distances of one sample; `bound` says whose, `kind` what it is worth."""

    value: float
    bound: str
    kind: str


LowerBounds = dict[tuple[str, Norm], dict[int, LowerBound]]  # of each sample, by defense and norm


def read(store: Store, series: Series) -> dict[int, float]:
    """The values of a series, by sample."""
    with store.reading() as connection:
        defense_id = identities.find(connection, defense, identities.plugin_key(series.defense))
        bound_id = identities.find(connection, bound, identities.plugin_key(series.bound))
        if defense_id is None or bound_id is None:
            return {}
        return _known(connection, _key(series, defense_id, bound_id))


def commit(store: Store, series: Series, values: Mapping[int, float], current: bool = False) -> None:
    """Register what is new and store the values of some samples, all or none; of those that another program stored
    meanwhile, its own stay.

    current: defense and bound become those of their names that count, in the same transaction.
    """
    with store.writing() as connection:
        defense_id = identities.register_defense(connection, series.defense)
        bound_id = identities.register_bound(connection, series.bound)
        key = _key(series, defense_id, bound_id)
        known = _known(connection, key)
        new = [key | {"kind": series.kind, "sample": s, "value": v} for s, v in values.items() if s not in known]
        if new:
            connection.execute(insert(bound_value), new)
        if current:
            identities.make_current(connection, defense_id, bound_id=bound_id)


def make_current(store: Store, identity: Identity) -> None:
    """What this bound has computed counts from now on, if there is anything."""
    with store.reading() as connection:
        bound_id = identities.find(connection, bound, identities.plugin_key(identity))
    if bound_id is not None:
        with store.writing() as connection:
            identities.make_current(connection, None, bound_id=bound_id)


def _known(connection: Connection, key: identities.Key) -> dict[int, float]:
    same = and_(*(bound_value.c[name] == value for name, value in key.items()))
    rows = connection.execute(select(bound_value.c.sample, bound_value.c.value).where(same))
    return {row.sample: row.value for row in rows}


def _key(series: Series, defense_id: int, bound_id: int) -> identities.Key:
    """The columns that say which series a row belongs to."""
    of = {"data_hash": series.data_hash, "norm": series.norm, "seed": series.seed}
    return {"defense_id": defense_id, "bound_id": bound_id} | of


def by_name(connection: Connection, fingerprint: str, data_hash: str) -> dict[tuple[int, Norm, str, str], float]:
    """By sample, norm, name and kind the bounds that count of the defense with this fingerprint, without statistical
    ones, which may fail."""
    key = (current_bound.c.sample, current_bound.c.norm, current_bound.c.bound, current_bound.c.kind)
    query = (
        select(*key, current_bound.c.value)
        .join_from(current_bound, defense, defense.c.id == current_bound.c.defense_id)
        .where(
            defense.c.fingerprint == fingerprint,
            current_bound.c.data_hash == data_hash,
            current_bound.c.kind != "statistical",
        )
    )
    return {(sample, norm, name, kind): value for sample, norm, name, kind, value in connection.execute(query)}


def of_current_defenses(connection: Connection, data_hash: str) -> LowerBounds:
    """The best bound of each sample (the view `lower_bound` says which) of the current defenses."""
    defenses = select(current_match.c.defense_id, current_match.c.defense).distinct().subquery()
    best = lower_bound.c
    query = (
        select(defenses.c.defense, best.norm, best.sample, best.value, best.bound, best.kind)
        .join_from(lower_bound, defenses, best.defense_id == defenses.c.defense_id)
        .where(best.data_hash == data_hash)
    )
    bounds: LowerBounds = defaultdict(dict)
    for name, norm, sample, *of_sample in connection.execute(query):
        bounds[name, norm][sample] = LowerBound(*of_sample)
    return bounds
