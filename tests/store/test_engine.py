"""Opening a database: what cannot be used is one line that says how to mend it; what is old is migrated."""

import re
import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from sqlalchemy import Connection, event, text
from stores import attack, bound, open_match, record, store_bounds

from arena.errors import StoreLost, UserError
from arena.store import bounds as bound_rows
from arena.store import engine as database
from arena.store import migrations, views
from arena.store.store import open_store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "arena.db"


def refusal(url: Path | str, create: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        open_store(str(url), create)
    message = str(caught.value)
    assert "\n" not in message
    return message


def version_of(file: Path) -> int:
    with sqlite3.connect(file) as connection:
        return connection.execute("SELECT version FROM schema_version").fetchone()[0]


@pytest.mark.parametrize("url", ["{}", "sqlite:///{}"])
def test_a_path_and_its_url_are_the_same_database(file: Path, url: str) -> None:
    open_store(url.format(file)).close()
    assert version_of(file) == migrations.current_version()
    open_store(str(file), create=False).close()


def test_reading_creates_nothing(file: Path) -> None:
    assert "run `arena run`" in refusal(f"sqlite:///{file}", create=False)
    assert not file.exists()
    file.touch()
    assert "run `arena run`" in refusal(file, create=False)
    assert file.stat().st_size == 0


@pytest.mark.parametrize("create", [True, False])
def test_a_text_file_is_not_touched(file: Path, create: bool) -> None:
    file.write_text("my notes " * 1000)
    assert re.search(r"arena\.db.*no SQLite file", refusal(file, create))
    assert file.read_text() == "my notes " * 1000


def test_the_database_of_another_program_is_not_touched(file: Path) -> None:
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE mail (id)")
    assert "another program" in refusal(file)
    with sqlite3.connect(file) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("mail",)]
        assert other.execute("PRAGMA journal_mode").fetchall() == [("delete",)]


def test_a_folder_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere" / "arena.db")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc, a folder that nobody can write")
def test_a_folder_that_cannot_be_written() -> None:
    assert "writable" in refusal("sqlite:////proc/arena.db")


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("oracel://host/name", "sqlite:///FILE"),
        ("sqlite:/arena.db", "write sqlite:///FILE"),
        ("mysql+pymysql://host/name", "pip install pymysql"),
    ],
)
def test_unknown_kinds_and_missing_drivers(url: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)  # as if it were not installed
    assert remedy in refusal(url)


def test_a_locked_database_says_so_in_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(str(file)).close()
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    holder = sqlite3.connect(file)
    holder.execute("BEGIN IMMEDIATE")
    store = open_store(str(file))  # reading needs no lock
    with pytest.raises(UserError, match=r"arena\.db: another program keeps it locked"):
        open_match(store)
    holder.rollback()
    open_match(store)
    store.close()


@pytest.mark.parametrize("loss", ["deleted", "moved", "replaced"])
def test_a_database_that_is_taken_away_gets_no_more_commits(file: Path, loss: str) -> None:
    store = open_store(str(file))
    match_id = open_match(store)
    if loss == "deleted":
        file.unlink()
    else:
        file.rename(file.with_name("moved.db"))
    if loss == "replaced":
        open_store(str(file)).close()
    with pytest.raises(StoreLost, match=r"arena\.db was moved or deleted"):
        store.append(match_id, [record(0)])
    assert file.exists() == (loss == "replaced")
    if loss == "moved":
        file.with_name("moved.db").rename(file)
        store.append(match_id, [record(0)])
        assert store.settled(match_id) == {0}
    store.close()


def test_without_shared_memory_there_is_a_rollback_journal_and_a_warning(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///file:{file}?vfs=unix-dotfile&uri=true"  # these locks have no shared memory
    store = open_store(url)
    assert "no shared memory" in caplog.text and "\n" not in caplog.records[0].getMessage()
    store.append(open_match(store), [record(0)])
    store.close()
    with sqlite3.connect(file) as kept:
        assert kept.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert kept.execute("SELECT COUNT(*) FROM result").fetchone() == (1,)


def test_a_finished_database_opens_where_nothing_can_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(file))
    store.append(open_match(store), [record(0)])
    store.close()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as read-only media answer, whoever asks
    monkeypatch.setitem(views.VIEWS, "lower_bound", views.VIEWS["lower_bound"] + " -- another arena")
    store = open_store(str(file), create=False)
    assert len(store.leaderboard()) == 2
    assert store.name == str(file)
    with pytest.raises(UserError, match=r"arena\.db: it cannot be written"):
        open_match(store)
    store.close()
    assert sorted(path.name for path in file.parent.iterdir()) == ["arena.db"]


def test_an_sqlite_that_is_too_old_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 29, 0))
    assert "3.30 or later" in refusal(file)


def test_no_statement_needs_an_sqlite_newer_than_stated(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RETURNING came with 3.35."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 30, 0))
    store, said = open_store(str(file)), []
    event.listen(store._engine, "before_cursor_execute", lambda c, cursor, statement, *_: said.append(statement))
    store.append(open_match(store), [record(0), record(1, "error")], "Traceback")
    store.append(open_match(store), [record(1)])
    store.leaderboard()
    store.close()
    assert said and not [statement for statement in said if "RETURNING" in statement]


def test_integers_beyond_64_bits_are_one_line(file: Path) -> None:
    store = open_store(str(file))
    with pytest.raises(UserError, match="budget = 100000000000000000000"):
        open_match(store, budget=10**20)
    with pytest.raises(UserError, match=r"arena\.db: an integer beyond 64 bits"):
        store.append(open_match(store), [replace(record(0), best_query=2**63)])
    store.close()


@pytest.mark.parametrize("url", ["postgresql:/me:secret@host/name", "sqlite:/me:secret@host"])
def test_a_password_is_not_printed(url: str) -> None:
    assert "secret" not in refusal(url)


def test_a_full_disk_costs_the_unit_and_nothing_before(file: Path) -> None:
    store = open_store(str(file))
    match_id = open_match(store)
    store.append(match_id, [record(0)])
    with database.writing(store._engine) as connection:  # the pool hands out this connection again
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(UserError, match=r"arena\.db: the disk is full: free some space"):
        store.append(match_id, [record(sample) for sample in range(1, 50)])
    assert store.settled(match_id) == {0}
    store.close()


def test_a_damaged_file_is_no_traceback(file: Path) -> None:
    store = open_store(str(file))
    store.append(open_match(store), [record(sample) for sample in range(50)])
    store.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    assert "damaged" in refusal(file)


def test_many_may_create_it_at_once(file: Path) -> None:
    barrier, failures = threading.Barrier(4), []

    def create() -> None:
        barrier.wait()
        try:
            open_store(str(file)).close()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert version_of(file) == migrations.current_version()


def test_a_newer_schema_is_refused(file: Path) -> None:
    open_store(str(file)).close()
    with sqlite3.connect(file) as newer:
        newer.execute("UPDATE schema_version SET version = 99")
    assert re.search(f"version 99.*knows {migrations.current_version()}.*upgrade", refusal(file))


def add_country(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE result ADD COLUMN country TEXT"))


def add_broken(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE result ADD COLUMN planet TEXT"))
    raise RuntimeError("step fails half way")


def test_an_older_database_is_migrated_step_by_step(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(file))
    store.append(open_match(store), [record(0)])
    before = store.leaderboard()
    store.close()
    seen = []
    released = list(migrations.MIGRATIONS)
    steps = [*released, add_country, lambda connection: seen.append("second")]
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    store = open_store(str(file), create=False)
    assert version_of(file) == 1 + len(steps)
    assert seen == ["second"]
    assert store.leaderboard() == before
    store.close()
    with sqlite3.connect(file) as migrated:
        assert migrated.execute("SELECT sample, country FROM result").fetchall() == [(0, None)]
        assert migrated.execute("SELECT COUNT(*) FROM leaderboard").fetchone() == (2,)
    open_store(str(file)).close()  # and only once
    assert seen == ["second"]


def layout(file: Path) -> dict[tuple[str, str], Any]:
    """Tables with their columns and conditions, indexes and views, however they came to be."""
    with sqlite3.connect(file) as connection:
        kept = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    definitions: dict[tuple[str, str], Any] = {(kind, name): re.sub(r'[\s"]+', " ", sql) for kind, name, sql in kept}
    for (kind, name), sql in definitions.items():
        if kind == "table":  # migrations leave their columns in another order
            head, body = sql.split("(", 1)
            definitions[kind, name] = head.strip(), sorted(part.strip() for part in body.rstrip(")").split(", "))
    return definitions


def old_database(file: Path, version: int) -> None:
    with sqlite3.connect(file) as old:
        old.executescript((ROOT / "tests" / "databases" / f"version{version}.sql").read_text())
    assert version_of(file) == version


@pytest.mark.parametrize("version", [1, 4, 7])
def test_an_old_database_becomes_what_a_new_one_is(file: Path, tmp_path: Path, version: int) -> None:
    old_database(file, version)
    store, new = open_store(str(file), create=False), tmp_path / "new.db"
    open_store(str(new)).close()
    assert version_of(file) == version_of(new)
    assert layout(file) == layout(new)
    first, second, *_ = store.results(adversarials=True)
    assert (first["status"], first["distance"]) == ("found", 1.0)
    assert (first["adversarial"] == 0.5).all()
    assert second["status"] == "not_found"
    match_id = open_match(store)
    store.append(match_id, [record(2, "unstable"), record(3)])
    assert store.leaderboard()[0].unstable == 1
    store.close()
    with sqlite3.connect(file) as migrated:
        assert migrated.execute("PRAGMA foreign_key_check").fetchall() == []
        assert migrated.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        migrated.execute("PRAGMA foreign_keys=ON")
        with pytest.raises(sqlite3.IntegrityError):
            migrated.execute("DELETE FROM match")


def test_version_5_keeps_every_row(file: Path) -> None:
    old_database(file, 4)
    kept = ("result", "distal", "match", "attack", "defense", "tournament", "threshold")

    def rows(connection: sqlite3.Connection) -> dict[str, list[dict[str, Any]]]:
        return {table: [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')] for table in kept}

    with sqlite3.connect(file) as connection:
        connection.row_factory = sqlite3.Row
        before = rows(connection)
        open_store(str(file), create=False).close()
        after = rows(connection)
    assert {(row.pop("masked"), row.pop("l1")) for row in after["result"]} == {(None, None)}  # what no row before had
    assert {row.pop("data_hash") for row in after["threshold"]} == {after["tournament"][0]["data_hash"]}
    assert after == before
    assert len(before["result"]) == 3


@pytest.mark.parametrize("version", [1, 4])
def test_version_6_takes_l1_and_leaves_it_unknown_in_older_rows(file: Path, version: int) -> None:
    old_database(file, version)
    store = open_store(str(file), create=False)
    store.append(open_match(store, attack=attack("ead", "l1")), [record(0, distance=2.0)])
    with sqlite3.connect(file) as migrated:
        found = migrated.execute("SELECT l1, l2 FROM result WHERE status = 'found' ORDER BY match_id").fetchall()
        assert found == [(None, 1.0), (2.0, 2.0)]
        with pytest.raises(sqlite3.IntegrityError, match="distance_of_status"):
            migrated.execute("UPDATE result SET l2 = NULL WHERE status = 'found'")
        board = "SELECT attack, median_distance, epsilon, accuracy FROM leaderboard WHERE norm = 'l1'"
        assert migrated.execute(board).fetchall() == [("ead", 2.0, None, None), ("all", 2.0, None, None)]
    rows = {row.attack: row for row in store.leaderboard("l1", cross_norm=True)}
    assert (rows["ead"].median_distance, rows["ead"].epsilon, rows["ead"].accuracy) == (2.0, None, None)
    store.close()


def test_version_3_computes_joint_bounds_anew(file: Path) -> None:
    old_database(file, 4)
    with sqlite3.connect(file) as old:  # version 2 had the same tables
        old.execute(
            "INSERT INTO bound (defense_id, data_hash, sample, norm, kind, value, seed) "
            "VALUES (1, '', 0, 'l2', 'separate', 1, 0)"
        )
        old.execute("ALTER TABLE attack RENAME COLUMN access TO needs")
        old.execute("UPDATE schema_version SET version = 2")
    open_store(str(file), create=False).close()
    with sqlite3.connect(file) as migrated:
        assert migrated.execute("SELECT name FROM bound").fetchall() == [("separate",)]
        assert migrated.execute("SELECT value FROM bound_value").fetchall() == [(1.0,)]


@pytest.mark.parametrize("version", [4, 7])
def test_version_8_counts_older_bounds_until_they_are_computed_anew(file: Path, version: int) -> None:
    old_database(file, version)
    joint = {0: 0.125 if version == 7 else 0.25, 1: 0.5}  # of two seeds the least
    with closing(open_store(str(file), create=False)) as store:
        with store.reading() as connection:
            assert bound_rows.of_current_defenses(connection, "5eed")["cnn", "l2"] == {
                sample: bound_rows.LowerBound(value, "joint", "estimate") for sample, value in joint.items()
            }
        store_bounds(store, {1: 0.75}, by=bound("joint"))
        with store.reading() as connection:
            anew = bound_rows.of_current_defenses(connection, "5eed")
        assert anew["cnn", "l2"] == {1: bound_rows.LowerBound(0.75, "joint", "estimate")}
        assert len(anew.get(("cnn", "l1"), ())) == (version == 7)  # the separate bound was not


def test_a_view_that_says_something_else_than_the_code_is_replaced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(views.VIEWS, "best_result", views.VIEWS["best_result"].replace("place = 1", "place = 2"))
    store = open_store(str(file))
    store.append(open_match(store), [record(0)])
    store.close()
    monkeypatch.undo()
    with sqlite3.connect(file) as stale:
        assert stale.execute("SELECT * FROM best_result").fetchall() == []
        stale.execute("DROP VIEW lower_bound")
    open_store(str(file), create=False).close()
    with sqlite3.connect(file) as replaced:
        assert len(replaced.execute("SELECT * FROM best_result").fetchall()) == 1
        assert replaced.execute("SELECT * FROM lower_bound").fetchall() == []
        replaced.execute("BEGIN IMMEDIATE")
        open_store(str(file)).close()  # nothing is left to replace, and reading needs no lock


def test_a_migration_that_fails_leaves_the_database_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(str(file)).close()
    monkeypatch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, add_country, add_broken])
    with pytest.raises(RuntimeError, match="half way"):
        open_store(str(file))
    monkeypatch.undo()
    assert version_of(file) == migrations.current_version()
    store = open_store(str(file))
    store.append(open_match(store), [record(0)])
    assert "country" not in store.results()[0]
    assert len(store.leaderboard()) == 2
    store.close()
