"""What a database says of itself, over every kind of database."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from stores import attack, open_match, record

from arena.store import integrity
from arena.store.store import Store, open_store


def faults(store: Store) -> list[str]:
    with store.reading_damaged() as connection:
        return list(integrity.faults(connection))


def test_a_sound_database_has_no_faults(store: Store) -> None:
    statuses = ("found", "misclassified", "not_found", "rejected", "unstable")
    store.append(open_match(store), [record(sample, status) for sample, status in enumerate(statuses)])
    assert faults(store) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE match SET norm = 'linf'", "match 1: its norm is not that of its attack"),
        ("UPDATE match SET status = 'played'", "match 1: it is played, but rows of it failed"),
        ("UPDATE tournament SET split = 'train'", "tournament 1: its conditions are not those of its fingerprint"),
        ("UPDATE tournament SET conditions = '[]'", "match 1: what it refers to cannot be read"),
        ("UPDATE attack SET settings = 'none'", "match 1: what it refers to cannot be read"),
    ],
)
def test_what_no_condition_says_is_named(store: Store, change: str, fault: str) -> None:
    store.append(open_match(store), [record(0), record(1, "error")], error="why")
    assert faults(store) == []
    with store.writing() as connection:
        connection.exec_driver_sql(change)
    assert any(line.startswith(fault) for line in faults(store))


def test_faults_of_a_kind_are_listed_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "MOST", 3)
    file = tmp_path / "arena.db"
    with closing(open_store(str(file))) as store:
        for steps in range(2):
            store.append(open_match(store, attack=attack(steps=steps)), [record(sample) for sample in range(5)])
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("pragma ignore_check_constraints = on")
            connection.execute("update result set status = 'fnund'")
        lines = faults(store)
    named = [line for line in lines if line.endswith("the condition status_known")]
    assert len(named) == 3 and "and more of this kind" in lines
