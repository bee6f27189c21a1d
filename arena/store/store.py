"""What was played: one row a sample, appended unit by unit, read by leaderboards, notebooks and `arena verify`."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, Engine, Table, and_, bindparam, delete, exists, func, insert, select, update

from arena.errors import UserError
from arena.geometry.norms import Norm
from arena.interface.results import Identity, Record, Status
from arena.store import leaderboard, schema
from arena.store.blobs import pack, unpack
from arena.store.engine import open_engine, reading, writing
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
class Evidence:
    """A row that counts against a defense, with all that is needed to check it again.

    `conditions` are those of its tournament; `adversarial` is float32 [1, 28, 28], or None where the clean image
    itself is misclassified.
    """

    match_id: int
    conditions: dict[str, Any]
    defense: Identity
    attack: str
    norm: Norm
    sample: int
    label: int
    adversarial_label: int | None
    status: Status
    distance: float | None
    l0: float | None
    l2: float | None
    linf: float | None
    adversarial: np.ndarray | None


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

    def __repr__(self) -> str:
        return f"<Store {self._engine.url.render_as_string()}>"

    def close(self) -> None:
        self._engine.dispose()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to one consistent snapshot, for queries that the store does not have."""
        return reading(self._engine)

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection to one transaction, for the tables that have modules of their own."""
        return writing(self._engine)

    def tournament_id(self, conditions: Mapping[str, Any]) -> int:
        """The tournament of these conditions, found or new; it becomes the last used.

        conditions: everything that decides the rows, JSON; `dataset`, `split` and `data_hash` among them. Tournaments
        that agree on those three are counted together. The versions of the environment are recorded beside.
        """
        as_text = _json(conditions)
        key = {"fingerprint": hashlib.sha256(as_text.encode()).hexdigest()}
        data = {name: conditions[name] for name in ("dataset", "split", "data_hash")}
        values = {**data, "conditions": as_text, "environments": "[]"}
        with writing(self._engine) as connection:
            identifier = _find_or_insert(connection, schema.tournament, key, values)
            this = schema.tournament.c.id == identifier
            environments = json.loads(
                connection.execute(select(schema.tournament.c.environments).where(this)).scalar_one()
            )
            if (environment := _environment()) not in environments:
                environments = _json([*environments, environment])
                connection.execute(update(schema.tournament).where(this).values(environments=environments))
            return identifier

    def defense_id(self, identity: Identity) -> int:
        """The defense of this fingerprint, found or new; it becomes the one of its name that leaderboards count."""
        with writing(self._engine) as connection:
            key = {"fingerprint": identity.fingerprint}
            return _find_or_insert(connection, schema.defense, key, _plugin_values(identity))

    def attack_id(self, identity: Identity) -> int:
        """The attack of this fingerprint, found or new."""
        values = _plugin_values(identity) | {"norm": identity.norm, "access": identity.access}
        with writing(self._engine) as connection:
            return _find_or_insert(connection, schema.attack, {"fingerprint": identity.fingerprint}, values)

    def match_id(self, tournament_id: int, defense_id: int, attack_id: int, norm: Norm, budget: int | None) -> int:
        """The match of this key, found or new; budget: queries per sample, None for no limit."""
        key = {"tournament_id": tournament_id, "defense_id": defense_id, "attack_id": attack_id, "budget": budget}
        with writing(self._engine) as connection:
            return _find_or_insert(connection, schema.match, key, {"norm": norm, "status": "playing"})

    def settled(self, match_id: int) -> set[int]:
        """Samples that need no replay: those with a row of any status but error."""
        result = schema.result.c
        query = select(result.sample).where(result.match_id == match_id, result.status != Status.ERROR)
        with reading(self._engine) as connection:
            return set(connection.scalars(query))

    def append(self, match_id: int, records: Sequence[Record], error: str | None = None) -> None:
        """Store a unit, whole or not at all; its rows replace error rows of the same samples.

        error: the traceback, if the unit failed. Raises UserError if a sample is settled already.
        """
        rows = [_row(match_id, record) for record in records]
        result, this = schema.result, schema.result.c.match_id == match_id
        failures = and_(this, result.c.status == Status.ERROR)
        with writing(self._engine) as connection:
            if rows:
                stale = delete(result).where(failures, result.c.sample == bindparam("stale"))
                connection.execute(stale, [{"stale": row["sample"]} for row in rows])
                present = set(connection.scalars(select(result.c.sample).where(this)))
                if twice := sorted(present.intersection(row["sample"] for row in rows)):
                    raise UserError(
                        f"match {match_id}, sample {twice[0]}: played already: is another `arena run` writing to this"
                        " database? Let one end before the next"
                    )
                connection.execute(insert(result), rows)
            failed = connection.scalar(select(exists().where(failures)))
            values: dict[str, str | None] = {"status": "failed" if failed else "playing"}
            if error is not None or not failed:
                values["error"] = error
            connection.execute(update(schema.match).where(schema.match.c.id == match_id).values(values))

    def finish(self, match_id: int) -> None:
        """Mark a match as played, unless some of its units failed."""
        match = schema.match
        with writing(self._engine) as connection:
            playing = and_(match.c.id == match_id, match.c.status == "playing")
            connection.execute(update(match).where(playing).values(status="played"))

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
        (float32 [1, 28, 28], or None) and `progress` only on demand. Raises UserError for a stored image that cannot be
        read.
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
        for row in rows:
            if row.get("adversarial") is not None:
                row["adversarial"] = stored_image(row["match_id"], row["sample"], row["adversarial"])
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
    ) -> list[leaderboard.LeaderboardRow]:
        """See `leaderboard.rows`."""
        with reading(self._engine) as connection:
            return leaderboard.rows(connection, norm, by, cross_norm, thresholds, attacks, curves)

    def evidence(self) -> Iterator[Evidence]:
        """Every adversarial and every misclassified sample, match by match, those of superseded defenses included.

        Raises UserError, naming match and sample, for an image that cannot be read.
        """
        matches = (
            select(schema.match, schema.tournament.c.conditions, schema.attack.c.name.label("attack"))
            .join_from(schema.match, schema.tournament)
            .join(schema.attack)
            .order_by(schema.match.c.id)
        )
        result = schema.result.c
        of_row = [result[field.name] for field in fields(Evidence) if field.name in _COLUMNS]
        kept = select(*of_row).where(result.status.in_([Status.FOUND, Status.MISCLASSIFIED]))
        with reading(self._engine) as connection:
            for match in connection.execute(matches).all():
                conditions, defense = json.loads(match.conditions), _defense(connection, match.defense_id)
                shared = (match.id, conditions, defense, match.attack, match.norm)
                query = kept.where(result.match_id == match.id).order_by(result.sample)
                for row in connection.execute(query, execution_options={"yield_per": 1000}).mappings():
                    blob = row["adversarial"]
                    image = None if blob is None else stored_image(match.id, row["sample"], blob)
                    yield Evidence(*shared, **{**row, "status": Status(row["status"]), "adversarial": image})


def _find_or_insert(connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> int:
    """Id of the row with this key; a table that keeps `last_used` has it set either way."""
    found = and_(*(table.c[name] == value for name, value in key.items()))
    identifier = connection.scalar(select(table.c.id).where(found))
    used = {}
    if "last_used" in table.c:
        used["last_used"] = select(func.coalesce(func.max(table.c.last_used), 0) + 1).scalar_subquery()
    if identifier is None:
        insertion = insert(table).values(**key, **values, **used).returning(table.c.id)
        return connection.execute(insertion).scalar_one()
    if used:
        connection.execute(update(table).where(found).values(used))
    return identifier


def _plugin_values(identity: Identity) -> dict[str, Any]:
    return {
        "name": identity.name,
        "package": identity.package,
        "version": identity.version,
        "settings": _json(identity.settings),
    }


def _environment() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in ("arena-robustness", "torch", "numpy", "foolbox")}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}


def _row(match_id: int, record: Record) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in _COLUMNS}
    row = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    packed = None if record.adversarial is None else pack(record.adversarial)
    progress = _json(record.progress) if record.progress else None
    return row | {"match_id": match_id, "status": Status(record.status), "adversarial": packed, "progress": progress}


def stored_image(match_id: int, sample: int, blob: bytes) -> np.ndarray:
    """The adversarial of a row, float32 [1, 28, 28]; raises UserError, naming the row, for bytes that are none."""
    try:
        return unpack(blob)
    except ValueError as failure:
        raise UserError(
            f"match {match_id}, sample {sample}: the stored adversarial is damaged ({failure}): delete that row of"
            " the table result and run again"
        ) from failure


def _defense(connection: Connection, defense_id: int) -> Identity:
    row = connection.execute(select(schema.defense).where(schema.defense.c.id == defense_id)).one()
    return Identity(row.name, row.fingerprint, row.package, row.version, json.loads(row.settings))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
