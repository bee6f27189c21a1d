"""How an empty database or an older one becomes a current one."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from arena.errors import UserError
from arena.store.engine import NOTHING_PLAYED, database_name, reading, use_wal, writing
from arena.store.schema import THRESHOLDS, bound, distal, metadata, result, schema_version, threshold
from arena.store.views import VIEWS


def _bounds_of_data_and_distals(connection: Connection) -> None:
    """Version 2. Nothing wrote bounds before, so their table is made anew rather than copied.

    A later version that changes one of these tables first copies its definition of today to here.
    """
    for column in ("fragile BOOLEAN", "progress TEXT"):
        connection.exec_driver_sql(f"ALTER TABLE result ADD COLUMN {column}")
    (evidence,) = (index for index in result.indexes if index.name == "result_evidence")
    evidence.drop(connection)
    evidence.create(connection)
    bound.drop(connection)
    metadata.create_all(connection, [bound, distal])


def _bounds_anew(connection: Connection) -> None:
    """Version 3: joint bounds go, for the search behind them overstated some; `arena bounds` computes them again."""
    connection.exec_driver_sql("DELETE FROM bound WHERE kind = 'joint'")


def _access(connection: Connection) -> None:
    """Version 4: what an attack may ask is called access everywhere."""
    connection.exec_driver_sql("ALTER TABLE attack RENAME COLUMN needs TO access")


# MIGRATIONS[n - 1] takes the tables of version n to version n + 1. A step is never edited once released.
MIGRATIONS: list[Callable[[Connection], None]] = [_bounds_of_data_and_distals, _bounds_anew, _access]


def current_version() -> int:
    return 1 + len(MIGRATIONS)


def prepare(engine: Engine, create: bool) -> None:
    """Create or migrate the tables, in one transaction.

    Raises UserError for another program's database, one of a newer arena and, without `create`, an empty one.
    """
    with reading(engine) as connection:
        version = _version(connection)
    if version == 0 and not create:
        raise UserError(f"database {database_name(engine.url)}: {NOTHING_PLAYED}")
    if version == 0:
        use_wal(engine)
    if version < current_version():
        with writing(engine) as connection:
            _upgrade(connection, _version(connection))  # read again: another process may have done it meanwhile


def _version(connection: Connection) -> int:
    """Version of the tables; 0 for an empty database."""
    tables = inspect(connection).get_table_names()
    name = database_name(connection.engine.url)
    if not tables:
        return 0
    if schema_version.name not in tables:
        raise UserError(f"database {name}: it belongs to another program: name another database")
    version = connection.execute(select(schema_version.c.version)).scalar_one()
    if version > current_version():
        raise UserError(
            f"database {name}: it has schema version {version}, this arena knows {current_version()}: upgrade arena"
        )
    return version


def _upgrade(connection: Connection, version: int) -> None:
    for view in reversed(VIEWS):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view}")
    if version == 0:
        metadata.create_all(connection)
        connection.execute(insert(schema_version).values(version=current_version()))
        connection.execute(insert(threshold), [{"norm": n, "epsilon": epsilon} for n, epsilon in THRESHOLDS.items()])
    else:
        for step in MIGRATIONS[version - 1 :]:
            step(connection)
        connection.execute(update(schema_version).values(version=current_version()))
    for view, query in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {view} AS {query}")
