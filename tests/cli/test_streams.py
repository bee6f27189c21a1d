"""A command ends as it went, whatever becomes of its output."""

import os
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest
from stores import defense, open_match, record

from arena.store.store import open_store

ARENA = [sys.executable, "-m", "arena"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("streams") / "arena.db"
    with closing(open_store(str(file))) as store:
        store.append(open_match(store, defense("n\u00e4t\x1b[31m")), [record(0, "not_found")])
        store.append(open_match(store), [record(0)])
    return str(file)


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    ended: subprocess.CompletedProcess[bytes] = subprocess.run([*ARENA, *arguments], capture_output=True, **options)
    return ended


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv"])
def test_any_encoding_can_be_written(database: str, encoding: str, form: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ended = run("leaderboard", "--db", database, "--norm", "l2", "--format", form, env=environment)
    text = ended.stdout.decode(encoding)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "\x1b" not in text and ("?" in text) == (encoding == "ascii")
    infinity = "\N{INFINITY}" if encoding == "utf-8" else "inf"
    assert {"latex": r"\infty", "csv": "inf"}.get(form, infinity) in text
    if form == "table":
        lines = [line for line in text.splitlines() if line.endswith("[3, 100]")]
        assert len({len(line) for line in lines}) == 1  # the columns stand under one another


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "| true", "2>&1 | true"])
def test_nobody_needs_to_read_what_is_written(database: str, closed: str) -> None:
    command = f'"$0" -m arena leaderboard --db "$1" {closed}; exit ${{PIPESTATUS[0]}}'
    ended = subprocess.run(["bash", "-c", command, sys.executable, database], capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line(database: str) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run([*ARENA, "leaderboard", "--db", database], stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 2
    assert ended.stderr.count(b"\n") == 1 and b"No space left" in ended.stderr


def test_a_message_holds_no_escape_sequence() -> None:
    ended = run("leaderboard", "--db", "no\x1b[31m.db")
    assert ended.returncode == 2
    assert ended.stderr.startswith(rb"arena: database no\x1b[31m.db: no tournament")
