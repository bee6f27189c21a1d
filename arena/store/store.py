"""What was played: one row a sample, appended unit by unit, read by leaderboards, notebooks and `arena verify`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import (
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    select,
    update,
)

from arena.errors import UserError
from arena.geometry.norms import Norm
from arena.interface.results import DatasetIdentity, Identity, Record, Status
from arena.store import identities, images, leaderboard, schema
from arena.store.blobs import PRUNED, pack
from arena.store.claims import Claims
from arena.store.engine import database_name, insert_new, open_engine, reading, reading_damaged, storable, writing
from arena.store.identities import as_json
from arena.store.migrations import prepare
from arena.store.views import current_match

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = tuple(field.name for field in fields(Record))


def open_store(url: str = "sqlite:///arena.db", create: bool = True) -> Store:
    """The store behind an SQLAlchemy URL or an SQLite file's path, its tables created or migrated.

    Without `create`, a database where nothing was played is an error. Raises UserError for a database that cannot be
    read or written, belongs to another program, or was written by a newer arena.
    """
    engine = open_engine(url, create)
    try:
        prepare(engine, create)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine)


@dataclass(frozen=True, slots=True)
class MatchKey:
    """What makes a match: the conditions of its tournament, who plays, and the queries per sample (None: no limit)."""

    conditions: Mapping[str, Any]
    defense: Identity
    attack: Identity
    budget: int | None = None
    dataset: DatasetIdentity | None = None  # what is true of the data: it is no condition


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows of a match that are committed together; `error` is the traceback, if they could not be played; `clean`: the
    images that were attacked, by sample, where adversarials may be stored as what differs from them."""

    match: MatchKey
    records: Sequence[Record]
    error: str | None = None
    clean: Mapping[int, np.ndarray] = field(default_factory=dict)


class Results(list[dict[str, Any]]):
    """Rows of results, one a sample and match."""

    def to_frame(self) -> DataFrame:
        """The rows as a pandas frame; raises UserError without pandas."""
        try:
            import pandas
        except ImportError:
            raise UserError("a frame needs pandas: `pip install pandas`") from None
        return pandas.DataFrame(self)


class Store:
    """Reads and writes one database. The coordinator of a tournament is its only writer; readers are welcome."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._claims = Claims(engine)
        self._registered: dict[str, identities.MatchIds] = {}  # of what this store has committed

    def __repr__(self) -> str:
        return f"<Store {self.name}>"

    @property
    def name(self) -> str:
        """How messages call the database; without its password."""
        return database_name(self._engine.url)

    @property
    def engine(self) -> Engine:
        """For what concerns the database as a whole."""
        return self._engine

    def close(self) -> None:
        self._claims.close()
        self._engine.dispose()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to one consistent snapshot, for queries that the store does not have."""
        return reading(self._engine)

    def reading_damaged(self) -> AbstractContextManager[Connection]:
        """As `reading`, for checks: text that is not UTF-8 is read with replacement characters instead of failing."""
        return reading_damaged(self._engine)

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection to one transaction, for the tables that have modules of their own."""
        return writing(self._engine)

    def find_tournament(self, conditions: Mapping[str, Any]) -> int | None:
        """The tournament of these conditions, if it is registered."""
        return self._find(schema.tournament, identities.tournament_key(conditions))

    def find_defense(self, identity: Identity) -> int | None:
        """The defense of this fingerprint, if it is registered."""
        return self._find(schema.defense, identities.plugin_key(identity))

    def find_attack(self, identity: Identity) -> int | None:
        """The attack of this fingerprint, if it is registered."""
        return self._find(schema.attack, identities.plugin_key(identity))

    def find_match(self, key: MatchKey) -> int | None:
        """The match of this key, if it is registered."""
        tables = (schema.tournament, schema.defense, schema.attack)
        keys = (identities.tournament_key(key.conditions), *map(identities.plugin_key, (key.defense, key.attack)))
        with self.reading() as connection:
            ids = [identities.find(connection, table, of) for table, of in zip(tables, keys, strict=True)]
            tournament_id, defense_id, attack_id = ids
            if tournament_id is None or defense_id is None or attack_id is None:
                return None
            of_match = identities.match_key(tournament_id, defense_id, attack_id, key.budget)
            return identities.find(connection, schema.match, of_match)

    def register_tournament(self, conditions: Mapping[str, Any], dataset: DatasetIdentity | None = None) -> int:
        """The tournament of these conditions, found or new. It counts for nothing until it is made current.

        conditions: everything that decides the rows, JSON; `dataset`, `split` and `data_hash` among them. Tournaments
        that agree on those three are counted together. The versions of the environment are recorded beside, and so is
        the data set, whose thresholds leaderboards read.
        """
        with self.writing() as connection:
            return identities.register_tournament(connection, conditions, dataset)

    def register_defense(self, identity: Identity) -> int:
        """The defense of this fingerprint, found or new. It counts for nothing until it is made current."""
        with self.writing() as connection:
            return identities.register_defense(connection, identity)

    def register_attack(self, identity: Identity) -> int:
        """The attack of this fingerprint, found or new."""
        with self.writing() as connection:
            return identities.register_attack(connection, identity)

    def register_match(
        self, tournament_id: int, defense_id: int, attack_id: int, norm: Norm, budget: int | None
    ) -> int:
        """The match of this key, found or new; budget: queries per sample, None for no limit.

        Raises UserError for a budget beyond 64 bits.
        """
        with self.writing() as connection:
            return identities.register_match(connection, tournament_id, defense_id, attack_id, norm, budget)

    def make_current(self, defense_id: int, tournament_id: int | None = None) -> None:
        """Leaderboards count this defense of its name from now on, and the data of this tournament if one is given."""
        with self.writing() as connection:
            identities.make_current(connection, defense_id, tournament_id)

    def commit(self, units: Sequence[Unit], current: bool = False) -> None:
        """Register what is new and store the units' rows, all or none, see `append`; one transaction is one fsync.

        current: their defenses and tournaments become those that leaderboards count, in the same transaction.
        """
        new: dict[str, identities.MatchIds] = {}  # a transaction that fails has registered nothing
        with self.writing() as connection:
            for unit in units:
                name = _name_of(unit.match)
                ids = self._registered.get(name) or new.get(name)
                if ids is None:
                    ids = new[name] = _register(connection, unit.match)
                _append(connection, ids.match, unit.records, unit.error, unit.clean)
                if current:
                    identities.make_current(connection, ids.defense, ids.tournament)
        self._registered |= new

    def claim(self, match: MatchKey, first_sample: int) -> bool:
        """Claim a job of a match for this program until it is released or ends; False if another program plays it.

        Raises UserError, naming the other program, if the database is an SQLite file and has another coordinator of the
        same tournament: only PostgreSQL can be shared by several.
        """
        self._claims.take_tournament(as_json(match.conditions))
        return self._claims.take(_name_of(match, sample=first_sample))

    def release(self, match: MatchKey, first_sample: int) -> None:
        """Give a claim back."""
        self._claims.give_back(_name_of(match, sample=first_sample))

    def settled(self, match_id: int) -> set[int]:
        """Samples that need no replay: those with a row of any status but error."""
        result = schema.result.c
        query = select(result.sample).where(result.match_id == match_id, result.status != Status.ERROR)
        with reading(self._engine) as connection:
            return set(connection.scalars(query))

    def append(self, match_id: int, records: Sequence[Record], error: str | None = None) -> None:
        """Store a unit, whole or not at all; its rows replace error rows of the same samples.

        Of samples that another run has settled meanwhile, its rows stay. error: the traceback, if the unit failed.
        """
        with writing(self._engine) as connection:
            _append(connection, match_id, records, error, {})

    def finish(self, match_id: int) -> None:
        """Mark a match as played, unless some of its units failed."""
        match = schema.match
        with writing(self._engine) as connection:
            playing = and_(match.c.id == match_id, match.c.status == "playing")
            connection.execute(update(match).where(playing).values(status="played"))

    def _find(self, table: Table, key: identities.Key) -> int | None:
        with self.reading() as connection:
            return identities.find(connection, table, key)

    def results(
        self,
        *,
        defense: str | None = None,
        attack: str | None = None,
        norm: Norm | None = None,
        adversarials: bool = False,
        progress: bool = False,
    ) -> Results:
        """The rows that leaderboards count, failed ones included; a filter left out takes all.

        Each is a dict of `defense, attack, norm, budget, match_id` and the fields of a `Record`; `adversarial`
        (float32 [C, H, W]; None without one, or where it was pruned) and `progress` only on demand. Raises UserError
        for a stored image that cannot be read.
        """
        current, result = current_match.c, schema.result
        left_out = {name for name, asked in (("adversarial", adversarials), ("progress", progress)) if not asked}
        wanted = {current.defense: defense, current.attack: attack, current.norm: norm}
        query = (
            select(
                *(current.defense, current.attack, current.norm, current.budget, result.c.match_id),
                *(result.c[name] for name in _COLUMNS if name not in left_out),
            )
            .join_from(result, current_match, current.id == result.c.match_id)
            .where(*(column == value for column, value in wanted.items() if value is not None))
            .order_by(result.c.match_id, result.c.sample)
        )
        with reading(self._engine) as connection:
            rows = Results(dict(row) for row in connection.execute(query).mappings())
            stored = images.Images(connection)
            for row in rows:
                if row.get("adversarial") == PRUNED:
                    row["adversarial"] = None
                elif row.get("adversarial") is not None:
                    row["adversarial"] = stored.read(row["match_id"], row["sample"], row["adversarial"])
                if "progress" in row:
                    row["progress"] = json.loads(row["progress"] or "[]")
        return rows

    def leaderboard(
        self,
        norm: Norm | None = None,
        by: leaderboard.By = "match",
        cross_norm: bool = False,
        thresholds: Mapping[str, float] | None = None,
        attacks: Collection[str] | None = None,
        curves: bool = False,
        against: str | None = None,
    ) -> list[leaderboard.LeaderboardRow]:
        """See `leaderboard.rows`."""
        with reading(self._engine) as connection:
            return leaderboard.rows(connection, norm, by, cross_norm, thresholds, attacks, curves, against)


def _name_of(match: MatchKey, **further: int) -> str:
    who = [match.defense.fingerprint, match.attack.fingerprint, match.budget]
    return as_json({"tournament": dict(match.conditions), "match": who} | further)


def _register(connection: Connection, match: MatchKey) -> identities.MatchIds:
    assert match.attack.norm is not None  # it is an attack's identity
    tournament_id = identities.register_tournament(connection, match.conditions, match.dataset)
    defense_id = identities.register_defense(connection, match.defense)
    attack_id = identities.register_attack(connection, match.attack)
    match_id = identities.register_match(
        connection, tournament_id, defense_id, attack_id, match.attack.norm, match.budget
    )
    return identities.MatchIds(tournament_id, defense_id, match_id)


def _append(
    connection: Connection,
    match_id: int,
    records: Sequence[Record],
    error: str | None,
    clean: Mapping[int, np.ndarray],
) -> None:
    """Looks only at the rows of the unit's samples and, by an index of their own, at those that failed."""
    kept = images.keep_clean(connection, match_id, clean)
    rows = [_row(match_id, record, kept.get(record.sample)) for record in records]
    if len({row["sample"] for row in rows}) < len(rows):
        raise ValueError(f"match {match_id}: a unit has one row a sample")
    result, match = schema.result, schema.match
    failures = and_(result.c.match_id == match_id, schema.FAILED)
    failed = select(exists().where(failures))
    if rows:
        if connection.scalar(failed):
            stale = delete(result).where(failures, result.c.sample == bindparam("stale"))
            connection.execute(stale, [{"stale": row["sample"]} for row in rows])
        insert_new(connection, result, rows)
    still = connection.scalar(failed)
    values: dict[str, str | None] = {"status": "failed" if still else "playing"}
    if error is not None or not still:
        values["error"] = None if error is None else storable(error)
    connection.execute(update(match).where(match.c.id == match_id).values(values))


def _row(match_id: int, record: Record, clean: np.ndarray | None) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in _COLUMNS}
    row = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    reason = None if record.reason is None else storable(record.reason)
    packed = None if record.adversarial is None else pack(record.adversarial, clean)
    progress = as_json(record.progress) if record.progress else None
    status = Status(record.status)
    return row | {
        "match_id": match_id,
        "status": status,
        "adversarial": packed,
        "progress": progress,
        "reason": reason,
    }
