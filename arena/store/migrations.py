"""How an empty database or an older one becomes a current one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    cast,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.schema import CreateTable

from arena.errors import UserError
from arena.store.engine import NOTHING_PLAYED, database_name, is_immutable, lock, reading, upgrading, use_wal
from arena.store.schema import (
    attack,
    bound,
    bound_value,
    clean,
    dataset,
    defense,
    distal,
    match,
    metadata,
    result,
    schema_version,
    threshold,
)
from arena.store.views import VIEWS

# The table of versions 2 to 7, where whoever derived a bound was a word in the column `kind`.
_BOUND_BY_KIND = Table(
    "bound",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("defense_id", ForeignKey(defense.c.id), nullable=False),
    Column("data_hash", Text, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("norm", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("seed", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    UniqueConstraint("defense_id", "data_hash", "sample", "norm", "kind", "seed"),
    CheckConstraint("norm IN ('l0', 'l1', 'l2', 'linf')", name="norm_known"),
)


def _bounds_of_data_and_distals(connection: Connection) -> None:
    """Version 2. Nothing wrote bounds before, so their table is made anew rather than copied."""
    for column in ("fragile BOOLEAN", "progress TEXT"):
        connection.exec_driver_sql(f"ALTER TABLE result ADD COLUMN {column}")
    _BOUND_BY_KIND.drop(connection)
    _BOUND_BY_KIND.create(connection)
    distal.create(connection)


def _bounds_anew(connection: Connection) -> None:
    """Version 3: joint bounds go, for the search behind them overstated some; `arena bounds` computes them again."""
    connection.exec_driver_sql("DELETE FROM bound WHERE kind = 'joint'")


def _access(connection: Connection) -> None:
    """Version 4: what an attack may ask is called access everywhere."""
    connection.exec_driver_sql("ALTER TABLE attack RENAME COLUMN needs TO access")


def _unstable(connection: Connection) -> None:
    """Version 5: the status unstable, an index of failed rows, and integers of 64 bits on PostgreSQL too."""
    for table in (match, result, _BOUND_BY_KIND, distal):
        renew(connection, table)


def _l1(connection: Connection) -> None:
    """Version 6: L1. Of older adversarials it stays unknown, for the clean images are not in the database."""
    for table in (attack, match, result, _BOUND_BY_KIND):
        renew(connection, table)


def _thresholds_of_data(connection: Connection) -> None:
    """Version 7: thresholds belong to the data that they are of; those that held for all hold for what was played."""
    epsilons = connection.execute(text("SELECT norm, epsilon FROM threshold")).all()
    hashes = connection.scalars(text("SELECT DISTINCT data_hash FROM tournament")).all()
    connection.exec_driver_sql("DROP TABLE threshold")
    metadata.create_all(connection, [dataset, threshold])
    rows = [{"data_hash": played, "norm": norm, "epsilon": epsilon} for played in hashes for norm, epsilon in epsilons]
    if rows:
        connection.execute(insert(threshold), rows)
    renew(connection, result)  # an index of the samples with masked gradients


def _bounds_of_plugins(connection: Connection) -> None:
    """Version 8: whoever derives a bound has an identity. That of older values is not known: they count until a bound
    of the same name is computed, as estimates."""
    connection.exec_driver_sql("ALTER TABLE bound RENAME TO bound_by_kind")
    metadata.create_all(connection, [bound, bound_value])
    connection.exec_driver_sql(
        "INSERT INTO bound (name, fingerprint, package, version, settings, last_used)"
        " SELECT DISTINCT kind, 'before version 8: ' || kind, 'arena-robustness', 'unknown', '{}', 1 FROM bound_by_kind"
    )
    connection.exec_driver_sql(
        "INSERT INTO bound_value (defense_id, bound_id, data_hash, sample, norm, seed, kind, value)"
        " SELECT old.defense_id, bound.id, old.data_hash, old.sample, old.norm, old.seed, 'estimate', old.value"
        " FROM bound_by_kind AS old JOIN bound ON bound.name = old.kind"
    )
    connection.exec_driver_sql("DROP TABLE bound_by_kind")


def _clean_images(connection: Connection) -> None:
    """Version 9: adversarials may be stored as what differs from a clean image; those of older rows stay whole."""
    clean.create(connection)


# MIGRATIONS[n - 1] takes the tables of version n to version n + 1. A step is never edited once released.
MIGRATIONS: list[Callable[[Connection], None]] = [
    *(_bounds_of_data_and_distals, _bounds_anew, _access),
    *(_unstable, _l1, _thresholds_of_data, _bounds_of_plugins, _clean_images),
]


def renew(connection: Connection, table: Table) -> None:
    """Give a table the columns, conditions and indexes that the schema of today has; its rows stay.

    A column that is new is NULL. Whichever version a step belongs to, a table ends as today's, so that a step that
    renews it once more finds little to do.
    """
    if connection.dialect.name == "sqlite":
        _copy(connection, table)
    else:
        _alter(connection, table)
    for index in table.indexes:
        index.create(connection)


def _copy(connection: Connection, table: Table) -> None:
    """SQLite cannot change a condition, so that the rows move to a new table of the same name."""
    name = connection.dialect.identifier_preparer.format_table(table)
    present = {column["name"] for column in inspect(connection).get_columns(table.name)}
    kept = ", ".join(column.name for column in table.columns if column.name in present)
    definition = str(CreateTable(table).compile(dialect=connection.dialect))
    connection.exec_driver_sql(definition.replace(f"CREATE TABLE {name}", "CREATE TABLE renewed", 1))
    connection.exec_driver_sql(f"INSERT INTO renewed ({kept}) SELECT {kept} FROM {name}")
    connection.exec_driver_sql(f"DROP TABLE {name}")
    connection.exec_driver_sql(f"ALTER TABLE renewed RENAME TO {name}")


def _alter(connection: Connection, table: Table) -> None:
    present = inspect(connection)
    columns = {column["name"] for column in present.get_columns(table.name)}
    for index in present.get_indexes(table.name):
        if "duplicates_constraint" not in index:
            connection.exec_driver_sql(f"DROP INDEX {index['name']}")
    changes = [f"DROP CONSTRAINT {check['name']}" for check in present.get_check_constraints(table.name)]
    for column in table.columns:
        kind = column.type.compile(connection.dialect)
        if column.name not in columns:
            changes.append(f"ADD COLUMN {column.name} {kind}")
        elif isinstance(column.type, BigInteger):
            changes.append(f"ALTER COLUMN {column.name} TYPE {kind}")
    checks = (constraint for constraint in table.constraints if isinstance(constraint, CheckConstraint))
    changes += [f"ADD CONSTRAINT {check.name} CHECK ({check.sqltext})" for check in checks]
    if changes:
        connection.exec_driver_sql(f"ALTER TABLE {table.name} {', '.join(changes)}")


def current_version() -> int:
    return 1 + len(MIGRATIONS)


def prepare(engine: Engine, create: bool) -> None:
    """Create or migrate the tables and replace the views whose SQL differs, in one transaction.

    Raises UserError for another program's database, one of a newer arena and, without `create`, an empty one.
    """
    with reading(engine) as connection:
        version = _version(connection)
        done = version == current_version() and not any(_is_stale(connection, view) for view in VIEWS)
    if version == 0 and not create:
        raise UserError(f"database {database_name(engine.url)}: {NOTHING_PLAYED}")
    if version == 0:
        use_wal(engine)
    if not done and not (version == current_version() and is_immutable(engine)):  # only views differ
        with upgrading(engine) as connection:
            lock(connection, "schema")
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
    else:
        for step in MIGRATIONS[version - 1 :]:
            step(connection)
        connection.execute(update(schema_version).values(version=current_version()))
    for view in VIEWS:
        connection.exec_driver_sql(_definition(view))
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"COMMENT ON VIEW {view} IS '{_digest(view)}'")


def _is_stale(connection: Connection, view: str) -> bool:
    """Whether a view is missing or says something else than the code, without a new version of the tables."""
    if connection.dialect.name == "postgresql":  # it keeps no text, so that a comment on the view holds a digest
        kept = select(func.obj_description(cast(func.to_regclass(view), OID), "pg_class"))
        return connection.scalar(kept) != _digest(view)
    kept_text = text("SELECT sql FROM sqlite_master WHERE name = :view")
    return connection.scalar(kept_text, {"view": view}) != _definition(view)


def _definition(view: str) -> str:
    return f"CREATE VIEW {view} AS {VIEWS[view]}"


def _digest(view: str) -> str:
    return hashlib.sha256(_definition(view).encode()).hexdigest()
