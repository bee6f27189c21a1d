"""A PostgreSQL server of one's own on loopback, to be restarted at will."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]


@dataclass(frozen=True)
class Server:
    """A server whose data lie in a temporary folder."""

    programs: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Server | None]:
        """A server, stopped at the end; None where PostgreSQL is not installed."""
        if not PROGRAMS:
            yield None
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        server = cls(PROGRAMS[0], folder, port)
        try:
            if os.getuid() == 0:  # the server refuses to run as root
                shutil.chown(folder, "postgres")
            server._do("initdb", "-D", f"{folder}/db", "-A", "trust", "-U", "postgres")
            server._control("start")
            try:
                yield server
            finally:
                server._control("stop")
        finally:
            shutil.rmtree(folder)

    def restart(self) -> None:
        """As after a crash: no connection is closed in order."""
        self._control("stop")
        self._control("start")

    def _control(self, what: str) -> None:
        how = {"start": ["-o", f"-h 127.0.0.1 -p {self.port} -k {self.folder}", "-l", f"{self.folder}/log"]}
        self._do("pg_ctl", "-D", f"{self.folder}/db", "-w", *how.get(what, ["-m", "immediate"]), what)

    def _do(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        if os.getuid() == 0:
            command = ["su", "postgres", "-c", shlex.join(command)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
