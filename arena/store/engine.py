"""A connection to a database: what SQLite needs to survive a kill, and errors that name the remedy."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from arena.errors import StoreLost, UserError

_LOG = logging.getLogger(__name__)

BUSY_SECONDS = 10  # how long a statement waits for another program's write

LEAST_SQLITE = (3, 30)  # NULLS LAST in the views

_WRITE = "BEGIN IMMEDIATE"

NOTHING_PLAYED = "no tournament has been played there yet: run `arena run`"

_REMEDIES = {
    "file is not a database": "it is no SQLite file: name another database",
    "unable to open database file": "it cannot be opened: make it and its folder writable, or name another database",
    "readonly database": "it cannot be written: make it and its folder writable, or name another database",
    "database is locked": "another program keeps it locked: wait until that ends, or name another database",
    "disk is full": "the disk is full: free some space and run again; what was committed is kept",
    "malformed": "the file is damaged: restore a copy, or name another database",
    "out of range": "an integer beyond 64 bits cannot be stored: choose a smaller one",
}


def open_engine(url: str, create: bool) -> Engine:
    """An engine for an SQLAlchemy URL or an SQLite file's path; raises UserError if no database can answer to it.

    Without `create`, a missing SQLite file is an error instead of a new, empty database.
    """
    try:
        parsed = make_url(url) if ":/" in url else URL.create("sqlite", database=url)
    except ArgumentError:
        hidden = re.sub(r"(?<=:)[^:/@]*(?=@)", "***", url)
        raise UserError(f"{hidden!r} is no database URL: write sqlite:///FILE, or the file's path") from None
    if parsed.get_backend_name() == "sqlite" and sqlite3.sqlite_version_info < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        raise UserError(f"SQLite {sqlite3.sqlite_version} is too old: arena needs {least} or later, or PostgreSQL")
    if (file := sqlite_file(parsed)) is not None:
        if not file.parent.is_dir():
            raise UserError(f"database {file}: its folder does not exist: create {file.parent} first")
        if file.is_dir():
            raise UserError(f"database {file}: that is a folder: name a file in it")
        if not create and not file.exists():
            raise UserError(f"database {file}: {NOTHING_PLAYED}")
        if not create and _is_immutable(file):
            parsed = parsed.set(database=f"file:{quote(str(file))}", query={"immutable": "1", "uri": "true"})
    try:
        engine = create_engine(parsed)
    except NoSuchModuleError:
        kind = parsed.drivername
        raise UserError(f"unknown kind of database {kind!r}: use sqlite:///FILE or postgresql+psycopg://...") from None
    except ModuleNotFoundError as missing:
        raise UserError(f"{parsed.drivername} needs a driver: `pip install {missing.name}`") from None
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
        if file is not None:
            _guard(engine, file)
    return engine


def _is_immutable(file: Path) -> bool:
    """Whether a finished database lies where nothing can be written, not even the files beside it that a log needs."""
    writable = os.access(file, os.W_OK) or os.access(file.parent, os.W_OK)
    unfinished = Path(f"{file}-wal")
    return not writable and not (unfinished.exists() and unfinished.stat().st_size)


def is_immutable(engine: Engine) -> bool:
    """Whether the database cannot be brought up to date."""
    return "immutable" in engine.url.query


def sqlite_file(url: URL) -> Path | None:
    """The file behind an SQLite URL; None for one in memory, a `file:` URI, or another database."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return Path(path)


def database_name(url: URL) -> str:
    """How messages call a database; without its password."""
    if "immutable" in url.query:
        return unquote(str(url.database).removeprefix("file:"))
    return str(sqlite_file(url) or url.render_as_string())


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot, undisturbed by a writer."""
    if engine.dialect.name == "postgresql":  # its default lets each statement see other commits
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with explained(engine.url), engine.connect() as connection:
        yield connection


@contextmanager
def reading_damaged(engine: Engine) -> Iterator[Connection]:
    """As `reading`; text of SQLite that is not UTF-8 is read with replacement characters instead of failing."""
    with reading(engine) as connection:
        driver: Any = connection.connection.driver_connection
        if engine.dialect.name != "sqlite":  # others cannot hold such text
            yield connection
            return
        driver.text_factory = lambda text: text.decode(errors="replace")
        try:
            yield connection
        finally:
            driver.text_factory = str


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction: whole, or not at all when the block raises or the process dies."""
    with explained(engine.url), engine.execution_options(begin=_WRITE).begin() as connection:
        yield connection


@contextmanager
def upgrading(engine: Engine) -> Iterator[Connection]:
    """As `writing`, but tables that others refer to may be made anew: what refers to them is checked at the end."""
    with writing(engine.execution_options(foreign_keys="OFF")) as connection:
        yield connection
        if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise UserError(f"database {database_name(engine.url)}: rows refer to others that are not there")


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turns what the database says about its file or its server into a UserError of one line."""
    try:
        yield
    except OverflowError as failure:  # of SQLite's driver
        raise UserError(f"database {database_name(url)}: {_REMEDIES['out of range']}") from failure
    except SQLAlchemyError as failure:
        said = str(getattr(failure, "orig", failure))
        remedy = next((remedy for symptom, remedy in _REMEDIES.items() if symptom in said), None)
        if remedy is None and isinstance(failure, OperationalError) and url.get_backend_name() != "sqlite":
            remedy = f"{said.splitlines()[0]}: check the URL and the server"
        if remedy is None:
            raise
        raise UserError(f"database {database_name(url)}: {remedy}") from failure


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows, but for those whose key another program has written already: its rows stay."""
    dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name]
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def lock(connection: Connection, name: str) -> None:
    """Let no other transaction pass here before this one ends. SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(key(name))))


def key(name: str) -> int:
    """The number of an advisory lock: they are shared by all programs that use the database."""
    return int.from_bytes(hashlib.sha256(f"arena {name}".encode()).digest()[:8], "big", signed=True)


def storable(text: str) -> str:
    """The text without what PostgreSQL or UTF-8 cannot hold: NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def use_wal(engine: Engine) -> None:
    """Lets readers of an SQLite file work while a tournament writes. It stays with the file.

    A file system without shared memory cannot have it: there readers and writers wait for each other.
    """
    if engine.dialect.name != "sqlite":
        return
    with explained(engine.url), engine.execution_options(begin=None).connect() as connection:
        try:
            mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar_one()
        except OperationalError:  # "locking protocol", "disk I/O error" or "unable to open database file"
            mode = connection.exec_driver_sql("PRAGMA journal_mode=DELETE").scalar_one()
    if mode not in ("wal", "memory"):
        _LOG.warning(
            "database %s: its file system has no shared memory, so that readers wait while a tournament writes",
            database_name(engine.url),
        )


def size(engine: Engine) -> int:
    """Bytes that an SQLite file takes, or that the results take on a server."""
    with reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            pages, page = (connection.exec_driver_sql(f"PRAGMA page_{of}").scalar_one() for of in ("count", "size"))
            return pages * page
        return connection.exec_driver_sql("SELECT pg_total_relation_size('result')").scalar_one()


def compact(engine: Engine) -> None:
    """Give the space of what was deleted back to the file system; other programs wait meanwhile."""
    with explained(engine.url):
        if engine.dialect.name == "sqlite":
            with engine.execution_options(begin=None).connect() as connection:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.exec_driver_sql("VACUUM (FULL) result")


def _prepare_sqlite(engine: Engine) -> None:
    """Foreign keys, patience with locks, durable commits, and transactions that begin when they are told to.

    A commit that a kill cuts short is dropped at the next opening. A kill leaves the system running, so
    `synchronous=NORMAL` would lose nothing to it; FULL keeps the last units through a power failure too, and its one
    fsync a commit is nothing beside the seconds that a unit takes.
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin only at the first write: too late for a snapshot
        for pragma in (f"busy_timeout={BUSY_SECONDS * 1000}", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if statement := options.get("begin", "BEGIN"):
            connection.exec_driver_sql(f"PRAGMA foreign_keys={options.get('foreign_keys', 'ON')}")
            connection.exec_driver_sql(statement)


def _guard(engine: Engine, file: Path) -> None:
    """Refuse to commit to a file that is no longer the one at its path: those rows would be lost unseen."""
    opened: list[tuple[int, int]] = []

    def check() -> None:
        try:
            found = file.stat()
        except FileNotFoundError:
            found = None
        if opened and (found is None or (found.st_dev, found.st_ino) != opened[0]):
            raise StoreLost(
                f"database {file} was moved or deleted while it was written to: put it back and run again; what was"
                " played since is lost"
            )
        if not opened and found is not None:
            opened.append((found.st_dev, found.st_ino))

    @event.listens_for(engine, "do_connect")
    def reconnect(*_: object) -> None:
        if opened:  # or a new, empty file would take its place
            check()

    @event.listens_for(engine, "connect")
    def connected(*_: object) -> None:
        check()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("begin") == _WRITE:  # the log beside it may be another file's by now
            check()

    @event.listens_for(engine, "commit")
    def commit(_connection: Connection) -> None:
        check()
