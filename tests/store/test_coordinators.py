"""Several programs on one database: one snapshot a reader, nothing twice, no tie, no failure to start together."""

import threading
from collections.abc import Callable

from sqlalchemy import text
from stores import MNIST, open_match, record

from arena.store import migrations, schema, views
from arena.store.engine import upgrading
from arena.store.store import Store, open_store


def at_once(*functions: Callable[[], object]) -> list[Exception]:
    """Run them together; returns what they raised."""
    barrier = threading.Barrier(len(functions))
    failures: list[Exception] = []

    def run(function: Callable[[], object]) -> None:
        barrier.wait()
        try:
            function()
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_they_may_create_it_together(store_url: str) -> None:
    assert at_once(*[lambda: open_store(store_url).close()] * 4) == []


def test_a_reader_sees_one_snapshot(store: Store, store_url: str) -> None:
    count = text("SELECT COUNT(*) FROM tournament")
    with store.reading() as connection:
        before = connection.scalar(count)
        writer = open_store(store_url)
        writer.register_tournament(MNIST)
        writer.close()
        assert connection.scalar(count) == before


def test_two_that_register_the_same_get_one_row_and_no_tie(store: Store, store_url: str) -> None:
    others = [open_store(store_url), open_store(store_url)]
    for seed in range(5):
        settings = [{"seed": seed, "split": split} for split in ("test", "train")]
        calls = [lambda s=s, c=c: open_match(s, **c) for s, c in zip(others, settings, strict=True)]
        assert at_once(*calls) == []
    with store.reading() as connection:
        used = connection.scalars(text("SELECT last_used FROM tournament")).all()
        assert len(set(used)) == len(used) == 10
        assert connection.scalar(text("SELECT COUNT(*) FROM defense")) == 1
    for other in others:
        other.close()


def test_the_same_samples_are_stored_once(store: Store, store_url: str) -> None:
    match_id, other = open_match(store), open_store(store_url)
    rows = [record(sample) for sample in range(20)]
    assert at_once(lambda: store.append(match_id, rows), lambda: other.append(match_id, rows)) == []
    assert [row["sample"] for row in store.results()] == list(range(20))
    other.close()


def test_text_that_a_database_cannot_hold_is_replaced(store: Store) -> None:
    store.append(open_match(store), [record(0, "error", reason="a\0b \udce9")], "Traceback: a\0b \udce9")
    assert store.results()[0]["reason"] == "a\N{REPLACEMENT CHARACTER}b ?"


def test_renewing_the_tables_changes_nothing(store: Store) -> None:
    """What migrations do to tables that are current already."""
    store.append(open_match(store, budget=10**12), [record(0), record(1, "unstable"), record(2, "error")])
    before = store.leaderboard()
    with upgrading(store._engine) as connection:
        for view in reversed(views.VIEWS):
            connection.exec_driver_sql(f"DROP VIEW {view}")
        for table in schema.metadata.sorted_tables:
            migrations.renew(connection, table)
    migrations.prepare(store._engine, create=False)
    assert store.leaderboard() == before
