"""Who plays what, where several programs share a database: claims that end with the program that made them."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from arena.errors import UserError
from arena.store.engine import explained, key, sqlite_file

try:
    import fcntl
except ImportError:  # on Windows a second coordinator of an SQLite file is not noticed
    fcntl = None  # type: ignore[assignment]


class Claims:
    """The claims of one store. They are no rows: the database's session, or the system, holds them, and no clock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Connection | None = None
        self._locks: dict[Path, TextIO] = {}

    def take(self, job: str) -> bool:
        """Claim a job; False if another program has it. SQLite has claims on whole tournaments only."""
        if self._engine.dialect.name != "postgresql":
            return True
        with explained(self._engine.url):
            if self._session is None:
                self._session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            return bool(self._session.scalar(select(func.pg_try_advisory_lock(key(job)))))

    def give_back(self, job: str) -> None:
        """Let others have the job."""
        if self._session is not None:
            with explained(self._engine.url):
                self._session.scalar(select(func.pg_advisory_unlock(key(job))))

    def take_tournament(self, tournament: str) -> None:
        """Claim a whole tournament where the database is an SQLite file; raises UserError if another program has it."""
        file = sqlite_file(self._engine.url)
        if file is None or fcntl is None:
            return
        path = Path(f"{file}-{key(tournament) % 2**32:08x}.lock")
        if path not in self._locks:
            self._locks[path] = lock = _locked(path, str(file))
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()

    def close(self) -> None:
        """Give everything back."""
        if self._session is not None:
            with suppress(SQLAlchemyError):  # a session that is lost has none left
                self._session.scalar(select(func.pg_advisory_unlock_all()))
            self._session.close()
            self._session = None
        while self._locks:
            path, lock = self._locks.popitem()
            path.unlink(missing_ok=True)
            lock.close()


def _locked(path: Path, database: str) -> TextIO:
    while True:
        lock = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            who = lock.read() or "another program"
            lock.close()
            raise UserError(
                f"database {database}: {who} plays this tournament already: wait for it, or name another by --db"
            ) from None
        with suppress(FileNotFoundError):
            if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                return lock
        lock.close()  # its owner has removed it meanwhile
