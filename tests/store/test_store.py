"""What was played is kept: exactly, whole units only, and nothing twice."""

import math
import shutil
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from paths import ROOT
from sqlalchemy.exc import IntegrityError
from stores import MNIST, attack, defense, image, open_match, record
from typed import present

from arena.errors import UserError
from arena.interface.results import Record, Status
from arena.store import evidence
from arena.store.blobs import pack, unpack
from arena.store.identities import current_environment
from arena.store.store import MatchKey, Store, Unit, open_store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "arena.db"


def sql(store: Store, query: str) -> list[tuple[Any, ...]]:
    with store.writing() as connection:
        answer = connection.exec_driver_sql(query)
        return [tuple(row) for row in answer] if answer.returns_rows else []


def sql_of_file(file: Path, query: str, *values: bytes) -> list[tuple[Any, ...]]:
    with sqlite3.connect(file) as database:
        return database.execute(query, values).fetchall()


@pytest.fixture
def kept(file: Path) -> Iterator[Store]:
    """A store in an SQLite file."""
    with closing(open_store(str(file))) as store:
        yield store


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    kept = Record(
        sample=7,
        label=1,
        status=Status.FOUND,
        clean_label=1,
        adversarial_label=8,
        distance=1 / 3,
        l0=12.0,
        l2=1 / 3,
        linf=0.1,
        margin=1e-7,
        queries=1000,
        gradient_queries=10,
        best_query=900,
        seconds=0.25,
        adversarial=image(),
        reason="a line",
        fragile=True,
        progress=[[3, 1.5], [900, 1 / 3]],
    )
    match_id = open_match(store)
    store.append(match_id, [kept])
    (row,) = store.results(adversarials=True, progress=True)
    expected = {field.name: getattr(kept, field.name) for field in fields(Record)}
    expected |= {"match_id": match_id, "defense": "cnn", "attack": "boundary", "norm": "l2", "budget": None}
    assert np.array_equal(row.pop("adversarial"), expected.pop("adversarial"))
    assert row == expected


def test_results_filter_and_leave_images_out_unless_asked(store: Store) -> None:
    store.append(open_match(store), [record(0), record(1, "not_found")])
    store.append(open_match(store, attack=attack("fgsm", "linf")), [record(0)])
    assert [row["sample"] for row in store.results(norm="l2")] == [0, 1]
    assert [row["attack"] for row in store.results(attack="fgsm", defense="cnn")] == ["fgsm"]
    assert store.results(defense="abs") == []
    assert all("adversarial" not in row for row in store.results())
    assert [row["adversarial"] is None for row in store.results(norm="l2", adversarials=True)] == [False, True]


def test_infinity_is_a_real_number_to_sqlite(kept: Store, file: Path) -> None:
    kept.append(open_match(kept), [record(0, "not_found")])
    assert sql_of_file(file, "SELECT distance, typeof(distance), distance = 9e999 FROM result") == [
        (math.inf, "real", 1)
    ]


def test_numpy_numbers_are_stored_as_numbers(kept: Store, file: Path) -> None:
    number: Any = np.int64(3)
    kept.append(open_match(kept), [record(number, distance=np.float64(0.5))])
    assert sql_of_file(file, "SELECT typeof(sample), typeof(distance) FROM result") == [("integer", "real")]


@given(arrays(np.uint32, st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))))
def test_images_of_any_shape_keep_every_bit(bits: np.ndarray) -> None:
    """Not-a-numbers and denormals included."""
    back = unpack(pack(bits.view(np.float32)))
    assert back.shape == bits.shape and back.dtype == np.float32
    assert back.tobytes() == bits.tobytes()


def test_images_without_a_head_are_of_older_versions() -> None:
    assert np.array_equal(unpack(zlib.compress(image().tobytes())), image())


@pytest.mark.parametrize("wrong", [image().astype(np.float64), image()[0], (image() * 255).astype(np.uint8)])
def test_only_exact_images_are_packed(wrong: np.ndarray) -> None:
    with pytest.raises(TypeError, match="float32"):
        pack(wrong)


@pytest.mark.parametrize(
    "damage", [b"", b"no zlib", pack(image())[:-10], zlib.compress(b"too short"), b"\1" + b"\xff" * 12]
)
def test_a_damaged_image_is_named(kept: Store, file: Path, damage: bytes) -> None:
    match_id = open_match(kept)
    kept.append(match_id, [record(5), record(6)])
    sql_of_file(file, "UPDATE result SET adversarial = ? WHERE sample = 6", damage)
    with pytest.raises(UserError, match=f"match {match_id}, sample 6"):
        kept.results(adversarials=True)
    with kept.reading() as connection:
        sound, damaged = evidence.rows(connection, match_id, [5, 6])
    assert (
        present(sound.record).sample == 5
        and damaged.record is None
        and "its adversarial is damaged" in damaged.damage[0]
    )
    assert len(kept.results()) == 2


def test_everything_is_found_again_by_its_key(store: Store) -> None:
    match_id = open_match(store)
    assert open_match(store) == match_id
    others = [
        open_match(store, budget=100),
        open_match(store, seed=1),
        open_match(store, defense=defense(weights="b")),
        open_match(store, attack=attack(steps=2)),
    ]
    assert len({match_id, *others}) == 5
    assert open_match(store, budget=100) == others[0]


def test_conditions_and_environment_are_kept(store: Store) -> None:
    first = store.register_tournament(MNIST | {"seed": 1})
    assert store.register_tournament({"seed": 1} | MNIST) == first  # the order of keys is no condition
    ((conditions, environments),) = sql(store, "SELECT conditions, environments FROM tournament")
    assert '"seed": 1' in conditions
    assert environments.count('"torch"') == 1  # one environment, however often it was used


def test_finding_writes_nothing_and_registering_counts_for_nothing(store: Store) -> None:
    old, new, key = defense(weights="old"), defense(weights="new"), MatchKey(MNIST, defense(), attack())
    store.append(open_match(store, old), [record(0)])
    before, board = sql(store, "SELECT * FROM defense"), store.leaderboard()
    assert store.find_defense(new) is store.find_attack(attack("fgm")) is None
    assert store.find_tournament(MNIST | {"seed": 9}) is store.find_match(key) is None
    assert store.find_defense(old) == store.register_defense(old) == 1
    assert store.find_tournament(MNIST | {"seed": 0}) == 1
    assert sql(store, "SELECT * FROM defense") == before
    other = store.register_tournament(MNIST | {"data_hash": "another"})
    match_id = store.register_match(
        other, store.register_defense(new), present(store.find_attack(attack())), "l2", None
    )
    store.append(match_id, [record(0, distance=9.0)])
    assert store.leaderboard() == board and len(board) == 2
    store.make_current(present(store.find_defense(new)), other)
    assert [row.median_distance for row in store.leaderboard()] == [9.0, 9.0]


def test_a_commit_registers_appends_and_makes_current_at_once_or_not_at_all(store: Store) -> None:
    key = MatchKey(MNIST, defense(), attack())
    bad = Record(1, 1, Status.NOT_FOUND, distance=3.0)
    with pytest.raises(IntegrityError):
        store.commit([Unit(key, [record(0)]), Unit(MatchKey(MNIST, defense(), attack("fgm")), [bad])], current=True)
    assert store.find_tournament(MNIST) is store.find_defense(defense()) is store.find_match(key) is None
    store.commit([Unit(key, [record(0)])])
    assert store.leaderboard() == []
    store.commit([Unit(key, [record(1)]), Unit(key, [record(2, "error")], "Traceback: boom")], current=True)
    assert store.leaderboard()[0].samples == 2
    assert store.settled(present(store.find_match(key))) == {0, 1}
    assert sql(store, "SELECT status, error FROM match") == [("failed", "Traceback: boom")]


def test_settled_is_all_but_errors(store: Store) -> None:
    match_id = open_match(store)
    statuses = ["found", "misclassified", "not_found", "unstable", "error"]
    store.append(match_id, [record(sample, status) for sample, status in enumerate(statuses)])
    assert store.settled(match_id) == {0, 1, 2, 3}
    assert store.settled(open_match(store, seed=1)) == set()


def test_a_replay_replaces_errors_only(store: Store) -> None:
    match_id = open_match(store)
    store.append(match_id, [record(0), record(1, "error", reason="boom")], error="Traceback: boom")
    store.finish(match_id)
    assert sql(store, "SELECT status, error FROM match") == [("failed", "Traceback: boom")]
    store.append(match_id, [record(0, distance=0.1)])  # another run's row of a settled sample: the first stays
    assert [(row["status"], row["distance"]) for row in store.results()] == [("found", 1.0), ("error", None)]
    assert sql(store, "SELECT status FROM match") == [("failed",)]
    store.append(match_id, [record(1), record(0, distance=0.1)])
    assert sql(store, "SELECT status, error FROM match") == [("playing", None)]
    store.finish(match_id)
    assert sql(store, "SELECT status, error FROM match") == [("played", None)]
    assert [(row["sample"], row["status"], row["distance"]) for row in store.results()] == [
        (0, "found", 1.0),
        (1, "found", 1.0),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        Record(2, 1, "lucky", distance=1.0),  # type: ignore[arg-type]
        record(2, adversarial=None),
        record(2, distance=math.inf),
        record(2, distance=math.nan),
        record(2, distance=-1.0),
        Record(2, 1, Status.MISCLASSIFIED, distance=0.5),
        Record(2, 1, Status.NOT_FOUND, distance=3.0),
        Record(2, 1, Status.ERROR, distance=3.0),
        Record(2, 1, Status.UNSTABLE, distance=math.inf),
        Record(0, 1, Status.NOT_FOUND, distance=math.inf),  # sample 0 twice
    ],
)
def test_a_unit_with_a_row_that_cannot_be_is_not_stored_at_all(store: Store, bad: Record) -> None:
    match_id = open_match(store)
    store.append(match_id, [record(1, "error")], error="first")
    with pytest.raises((IntegrityError, ValueError)):
        store.append(match_id, [record(0), record(1), bad])
    assert sql(store, "SELECT sample, status FROM result") == [(1, "error")]
    assert sql(store, "SELECT error FROM match") == [("first",)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE result SET status = 'won'",
        "UPDATE match SET status = 'paused'",
        "UPDATE match SET norm = 'l3'",
        "UPDATE attack SET name = 'all'",
        "INSERT INTO match SELECT NULL, tournament_id, defense_id, attack_id, norm, NULL, status, error FROM match",
    ],
)
def test_the_tables_refuse_what_has_no_meaning(kept: Store, file: Path, statement: str) -> None:
    kept.append(open_match(kept), [record(0)])
    with pytest.raises(sqlite3.IntegrityError):
        sql_of_file(file, statement)


def test_evidence_comes_with_all_that_verification_needs(store: Store) -> None:
    old, new = defense(weights="old"), defense(weights="new")
    for identity in (old, new):
        store.append(open_match(store, defense=identity), [record(4, distance=0.5, linf=0.1), record(5, "not_found")])
        store.append(open_match(store, defense=identity), [record(6, "misclassified")])
    with store.reading_damaged() as connection:
        matches = evidence.matches(connection)
        assert [match.defense for match in matches] == [old, new]
        assert [evidence.samples(connection, match.id) for match in matches] == [[4, 5, 6]] * 2
        assert evidence.samples(connection, matches[0].id, [Status.NOT_FOUND]) == [5]
        assert evidence.counts(connection) == {match.id: 3 for match in matches}
        [kept, _] = evidence.rows(connection, matches[0].id, [4, 6])
    match = matches[0]
    assert (match.conditions, match.attack.name, match.norm, match.budget) == (
        MNIST | {"seed": 0},
        "boundary",
        "l2",
        None,
    )
    assert match.environments == [current_environment()] and match.environments[0]["isa"]
    stored = record(4, distance=0.5, linf=0.1)
    assert np.array_equal(present(present(kept.record).adversarial), image(4))
    assert replace(present(kept.record), adversarial=None) == replace(stored, adversarial=None)


def test_a_frame_needs_pandas(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        store.results().to_frame()


def test_results_become_a_frame(store: Store) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    store.append(open_match(store), [record(0), record(1, "not_found")])
    frame = store.results().to_frame()
    assert list(frame["distance"]) == [1.0, math.inf]


def test_a_reader_sees_whole_units_while_a_writer_appends(store: Store, store_url: str) -> None:
    match_id, unit = open_match(store), 20
    reader, done, counts = open_store(store_url, create=False), threading.Event(), []

    def read() -> None:
        while not done.is_set():
            counts.append(len(reader.results()))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for first in range(0, 30 * unit, unit):
            store.append(match_id, [record(sample, "not_found") for sample in range(first, first + unit)])
    finally:
        done.set()
        thread.join()
    reader.close()
    assert len(set(counts)) > 2  # it read while units came in
    assert counts == sorted(counts)
    assert all(count % unit == 0 for count in counts)


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from stores import open_match, record
from arena.store.store import open_store
store = open_store(sys.argv[2])
match_id = open_match(store)
first = max(store.settled(match_id), default=-1) + 1
while True:
    store.append(match_id, [record(sample) for sample in range(first, first + 20)])
    print(first, flush=True)
    first += 20
"""


def test_kill_minus_9_loses_no_unit_that_was_reported_and_leaves_none_half(file: Path) -> None:
    reported = -1
    for units in (1, 2, 5, 9):
        command = [sys.executable, "-c", KILLED, str(ROOT / "tests"), str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            for _ in range(units):
                reported = int(present(writer.stdout).readline())
            writer.kill()
        assert sql_of_file(file, "PRAGMA integrity_check") == [("ok",)]
        samples = [sample for (sample,) in sql_of_file(file, "SELECT sample FROM result ORDER BY sample")]
        assert samples == list(range(len(samples)))
        assert len(samples) % 20 == 0
        assert reported + 20 <= len(samples) <= reported + 40  # the unit being written may have made it


def test_readers_start_without_torch() -> None:
    heavy = {"torch", "foolbox", "pydantic"}
    code = f"import sys, arena.store.store, arena.reporting.columns; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_sqlite3_program_reads_what_is_open_for_writing(kept: Store, file: Path) -> None:
    if not (program := shutil.which("sqlite3")):
        pytest.skip("the sqlite3 program is not installed")
    kept.append(open_match(kept), [record(0, distance=0.5), record(1, "not_found"), record(2, distance=2.0)])
    query = "SELECT defense, attack, samples, median_distance, accuracy FROM leaderboard ORDER BY attack"
    printed = subprocess.check_output([program, file, query], text=True)
    assert [line.split("|")[:3] for line in printed.splitlines()] == [["cnn", "all", "3"], ["cnn", "boundary", "3"]]
    assert [float(number) for number in printed.split("\n")[0].split("|")[3:]] == pytest.approx([2.0, 2 / 3])
    printed = subprocess.check_output([program, file, "SELECT sample, distance, status FROM best_result"], text=True)
    assert printed.split() == ["0|0.5|found", "1|Inf|not_found", "2|2.0|found"]
