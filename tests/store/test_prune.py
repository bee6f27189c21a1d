"""`arena store prune --keep best`: the closest adversarial of each sample keeps its image, every row its numbers."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from stores import attack, defense, image, open_match, record
from typed import present

from arena import cli
from arena.store import evidence
from arena.store.prune import keep_best
from arena.store.store import Store, open_store


def fill(store: Store) -> None:
    """Two attacks in L2 and one in Linf against cnn, one in L2 against another defense: samples 0 to 2."""
    far, near = attack("boundary", steps=1), attack("fmn-l2", steps=1)
    store.append(open_match(store, attack=far), [record(0, distance=2.0), record(1, distance=1.0), record(2)])
    store.append(
        open_match(store, attack=near), [record(0, distance=1.5), record(1, distance=3.0), record(2, "not_found")]
    )
    store.append(open_match(store, attack=attack("fgsm", "linf")), [record(0, distance=0.2)])
    store.append(open_match(store, defense("other"), far), [record(0, distance=9.0), record(1, "misclassified")])


def images(store: Store) -> set[tuple[str, str, int]]:
    """Where an image is, by defense, attack and sample."""
    rows = store.results(adversarials=True)
    return {(row["defense"], row["attack"], row["sample"]) for row in rows if row["adversarial"] is not None}


def numbers(store: Store) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "adversarial"} for row in store.results()]


def test_the_closest_of_each_sample_norm_and_defense_stays(store: Store) -> None:
    fill(store)
    before = numbers(store), store.leaderboard()
    assert (keep_best(store, dry_run=True).pruned, len(images(store))) == (2, 7)
    found = keep_best(store)
    assert (found.pruned, found.kept) == (2, 5)
    assert images(store) == {
        ("cnn", "fmn-l2", 0),
        ("cnn", "boundary", 1),
        ("cnn", "boundary", 2),
        ("cnn", "fgsm", 0),
        ("other", "boundary", 0),
    }
    assert (numbers(store), store.leaderboard()) == before
    assert keep_best(store).pruned == 0


def test_a_closer_one_that_comes_later_takes_the_place(store: Store) -> None:
    fill(store)
    keep_best(store)
    store.append(open_match(store, attack=attack("ddn")), [record(0, distance=0.5)])
    assert keep_best(store).pruned == 1
    assert ("cnn", "ddn", 0) in images(store) and ("cnn", "fmn-l2", 0) not in images(store)


def test_a_pruned_row_is_no_damaged_row(store: Store) -> None:
    fill(store)
    keep_best(store)
    with store.reading() as connection:
        (first, *_) = evidence.rows(connection, 1, [0])
    kept = present(first.record)
    assert first.pruned and not first.damage and kept.distance == 2.0 and kept.adversarial is None


def test_the_file_shrinks_by_what_the_command_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "arena.db"
    with closing(open_store(str(file))) as store:
        for steps in range(20):
            rows = [record(sample, distance=1.0 + steps, adversarial=image(steps)) for sample in range(10)]
            store.append(open_match(store, attack=attack(steps=steps)), rows)
    command = ["store", "prune", "--keep", "best", "--db", str(file)]
    cli.cli.main([*command, "--dry-run"], standalone_mode=False)
    assert capsys.readouterr().out.startswith("190 of 200 images would be removed: 0.5 MB")
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = file.stat().st_size
    cli.cli.main(command, standalone_mode=False)
    assert capsys.readouterr().out.startswith("190 of 200 images removed, the database is")
    assert file.stat().st_size < before / 4
    with closing(open_store(str(file))) as store:
        (kept, *_) = store.results(adversarials=True)
        assert np.array_equal(kept["adversarial"], image(0))


def test_what_to_keep_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.MissingParameter):
        cli.cli.main(["store", "prune"], standalone_mode=False)
