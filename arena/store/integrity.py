"""What a database says of itself: damage of its file, and rows that its tables would refuse today."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import CheckConstraint, Connection, Table, select
from sqlalchemy.exc import DatabaseError

from arena.store import evidence
from arena.store.identities import tournament_key
from arena.store.schema import match, metadata, result, tournament

MOST = 100  # lines of a kind

# What no constraint can say: the query finds the rows, a line names them by its columns.
_RULES = (
    (
        "match {}: its norm is not that of its attack",
        "SELECT m.id FROM match m JOIN attack a ON a.id = m.attack_id WHERE m.norm <> a.norm",
    ),
    (
        "match {}: it is {}, but rows of it failed",
        "SELECT m.id, m.status FROM match m WHERE m.status <> 'failed'"
        " AND EXISTS (SELECT 1 FROM result r WHERE r.match_id = m.id AND r.status = 'error')",
    ),
    (
        "match {}, sample {}: that is no number of a sample",
        "SELECT r.match_id, r.sample FROM result r WHERE CAST(r.sample AS INTEGER) <> r.sample",
    ),
    ("bound_value {}: its value is {}", "SELECT b.id, b.value FROM bound_value b WHERE NOT b.value >= 0"),
)


def faults(connection: Connection) -> Iterator[str]:
    """What is wrong, a line each, at most MOST of a kind.

    Of SQLite the file is checked, each index against its table too; of PostgreSQL that is `pg_amcheck`'s business. Of
    both every condition and every reference of the tables is asked again, past the indexes.
    """
    try:
        if connection.dialect.name == "sqlite":
            yield from _file(connection)
        for table in metadata.sorted_tables:
            yield from _conditions(connection, table)
            yield from _references(connection, table)
        for words, query in _RULES:
            yield from _found(connection, query, words)
        yield from _tournaments(connection)
        readable = {stored.id for stored in evidence.matches(connection)}
        for match_id in connection.scalars(select(match.c.id).order_by(match.c.id)).all():
            if match_id not in readable:
                yield f"match {match_id}: what it refers to cannot be read, none of its rows is checked"
    except DatabaseError as failure:
        if type(failure) is not DatabaseError:  # locked, out of memory and the like: no damage
            raise
        yield f"the file is damaged: {failure.orig}"


def _file(connection: Connection) -> Iterator[str]:
    for (said,) in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST})"):
        if said != "ok" and not said.startswith("CHECK constraint"):  # `_conditions` names the rows
            yield from (f"the file is damaged: {line}" for line in said.splitlines())


def _conditions(connection: Connection, table: Table) -> Iterator[str]:
    for check in sorted((c for c in table.constraints if isinstance(c, CheckConstraint)), key=lambda c: str(c.name)):
        query = f"SELECT {_keys(table)} FROM {_past_indexes(connection, table)} WHERE NOT ({check.sqltext})"
        yield from _found(connection, query, f"{_places(table)}: it does not meet the condition {check.name}")


def _references(connection: Connection, table: Table) -> Iterator[str]:
    for column in sorted(table.columns, key=lambda column: column.name):
        for reference in column.foreign_keys:
            other = reference.column.table.name
            query = (
                f"SELECT {_keys(table)} FROM {_past_indexes(connection, table)}"
                f" WHERE NOT EXISTS (SELECT 1 FROM {other} AS other WHERE other.id = {table.name}.{column.name})"
            )
            yield from _found(connection, query, f"{_places(table)}: its {other} is not there")


def _tournaments(connection: Connection) -> Iterator[str]:
    """What is stored of a tournament twice: its conditions, and what leaderboards read of them."""
    for row in connection.execute(select(tournament)):
        try:
            conditions = json.loads(row.conditions)
            agrees = tournament_key(conditions) == {"fingerprint": row.fingerprint} and all(
                conditions.get(name) == getattr(row, name) for name in ("dataset", "split", "data_hash")
            )
        except (ValueError, TypeError, AttributeError):
            agrees = False
        if not agrees:
            yield f"tournament {row.id}: its conditions are not those of its fingerprint and columns"


def _found(connection: Connection, query: str, words: str) -> Iterator[str]:
    for number, row in enumerate(connection.exec_driver_sql(f"{query} LIMIT {MOST + 1}")):
        yield words.format(*row) if number < MOST else "and more of this kind"


def _keys(table: Table) -> str:
    return ", ".join(f"{table.name}.{column.name}" for column in table.primary_key.columns)


def _places(table: Table) -> str:
    """How a line names a row, with a place for each column of the key."""
    if table is result:
        return "match {}, sample {}"
    return f"{table.name} {' '.join('{}' for _ in table.primary_key.columns)}"


def _past_indexes(connection: Connection, table: Table) -> str:
    """An index may be what is damaged."""
    return f"{table.name} NOT INDEXED" if connection.dialect.name == "sqlite" else table.name
