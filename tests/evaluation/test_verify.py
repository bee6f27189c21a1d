"""`arena verify` believes bytes only: whatever was changed in the database is found."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch

import arena
from arena.data import data_hash
from arena.geometry.norms import NORMS
from arena.store.blobs import pack, unpack
from arena.store.store import open_store
from arena.tournament import answers, worker
from arena.tournament.plan import plan_verification
from arena.tournament.sinks import VerifySink

SAMPLES = 12


@pytest.fixture(scope="module")
def played(tmp_path_factory, mnist):
    """A database in which fgsm met cnn, one of its samples misclassified."""
    file = tmp_path_factory.mktemp("played") / "arena.db"
    defense, attack = arena.load_defense("cnn"), arena.load_attack("fgsm")
    x, y = mnist
    wrong = int((defense.scores(x[:2000]).argmax(1) != y[:2000]).nonzero()[0])
    samples = [*range(SAMPLES - 1), wrong]
    with closing(open_store(str(file))) as store:
        conditions = {"dataset": "mnist", "split": "test", "data_hash": data_hash("mnist", "test")}
        match_id = store.register_match(
            store.register_tournament(conditions),
            store.register_defense(defense.identity),
            store.register_attack(attack.identity),
            "linf",
            None,
        )
        store.append(match_id, arena.play(defense, attack, x[samples], y[samples], samples=samples))
    return file


@pytest.fixture
def database(played, tmp_path):
    """A copy to tamper with: `database(sql, *parameters)` changes it, then gives the report."""
    copy = tmp_path / "arena.db"
    copy.write_bytes(played.read_bytes())

    def tamper(statement="select 1", *parameters):
        with closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("pragma ignore_check_constraints = on")
            connection.execute(statement, parameters)
        with closing(open_store(str(copy), create=False)) as store:
            return verified(store)

    return tamper


def verified(store):
    """What the jobs of a verification come to, here all in this process: a line each names match and sample."""
    sink = VerifySink()
    report = SimpleNamespace(checked=0, failures=[], fragile=[])
    for job in plan_verification(store, sink, timeout=60).jobs:
        rows, _ = answers.rows_and_seconds(worker.perform(job))
        found, where = answers.verification(job, rows), f"{job.match}, "
        report.checked += found.checked
        report.failures += [where + line for line in found.failures]
        report.fragile += [where + line for line in found.fragile]
        assert sink.take(job, rows) == [where + line for line in found.fragile + found.failures]
    assert (sink.checked, sink.failures, sink.fragile) == (
        report.checked,
        len(report.failures),
        len(report.fragile),
    )
    return report


def test_what_the_referee_stored_holds(database):
    report = database()
    assert report.checked == SAMPLES and report.failures == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("linf = linf * 0.9", "its linf distance"),
        ("l2 = l2 + 1e-6", "its l2 distance"),
        ("l0 = l0 - 1", "its l0 distance"),
        ("distance = l2", "its distance is not its linf distance"),
        ("adversarial_label = (adversarial_label + 1) % 10", "classified as"),
        ("label = (label + 1) % 10", "its label is"),
    ],
)
def test_a_changed_number_is_found(database, change, complaint):
    report = database(f"update result set {change} where sample = 3")
    assert report.failures and all("match 1, fgsm against cnn, sample 3" in line for line in report.failures)
    assert any(complaint in line for line in report.failures)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda image, clean: clean, "classified as"),
        (lambda image, clean: image + 1, "leaves the box"),
        (lambda image, clean: image * torch.nan, "leaves the box"),
    ],
)
def test_a_changed_image_is_found(database, played, mnist, change, complaint):
    with closing(sqlite3.connect(played)) as connection:
        [(blob,)] = connection.execute("select adversarial from result where sample = 3")
    image = change(torch.from_numpy(unpack(blob).copy()), mnist[0][3])
    report = database("update result set adversarial = ? where sample = 3", pack(image))
    assert any(complaint in line for line in report.failures)


def test_a_sample_is_not_misclassified_because_a_row_says_so(database):
    report = database(
        "update result set status = 'misclassified', distance = 0, l0 = 0, l2 = 0, linf = 0, adversarial = null "
        "where sample = 3"
    )
    assert [line for line in report.failures if "sample 3: it is classified as" in line]


@pytest.mark.parametrize("norm", NORMS)
def test_an_adversarial_below_its_bound_is_found(database, played, norm):
    with closing(sqlite3.connect(played)) as connection:
        [(distance, hashed)] = connection.execute(
            f"select r.{norm}, t.data_hash from result r join match m on m.id = r.match_id"
            " join tournament t on t.id = m.tournament_id where sample = 3"
        )
    report = database(
        "insert into bound (defense_id, data_hash, sample, norm, kind, value, seed)"
        f" values (1, '{hashed}', 3, '{norm}', 'separate', {0.99 * distance}, 0),"
        f" (1, '{hashed}', 3, '{norm}', 'joint', {1.01 * distance}, 0)"
    )
    [line] = report.failures
    assert f"sample 3: its {norm} distance is" in line and "below the lower bound" in line


def test_a_fragile_adversarial_below_its_bound_is_told_apart(database, played, monkeypatch):
    """A bound speaks of converged inference; here that of the cnn is made to find every label."""
    with closing(sqlite3.connect(played)) as connection:
        [(hashed, label)] = connection.execute(
            "select t.data_hash, r.label from result r join match m on m.id = r.match_id"
            " join tournament t on t.id = m.tournament_id where sample = 3"
        )
    cnn = type(arena.load_defense("cnn"))
    monkeypatch.setattr(cnn, "converged_scores", lambda self, x: torch.eye(10)[[label] * len(x)], raising=False)
    report = database(
        "insert into bound (defense_id, data_hash, sample, norm, kind, value, seed)"
        f" values (1, '{hashed}', 3, 'linf', 'joint', 1.0, 0)"
    )
    [line] = report.fragile
    assert "sample 3: its linf distance is" in line and "below the lower bound 1; but it is fragile" in line
    assert not report.failures


def test_what_does_not_bound_an_adversarial_does_not_accuse_it(database, played):
    with closing(sqlite3.connect(played)) as connection:
        [(hashed, l2)] = connection.execute(
            "select t.data_hash, r.l2 from result r join match m on m.id = r.match_id"
            " join tournament t on t.id = m.tournament_id where sample = 3"
        )
    rows = [
        (hashed, 3, "joint", 2 * l2, 0),  # another seed found less
        (hashed, 3, "joint", 0.9 * l2, 1),
        (hashed, 3, "separate", l2, 0),  # equal is no violation
        ("other data", 3, "joint", 2 * l2, 0),
    ]
    values = ", ".join(
        f"(1, '{of}', {sample}, 'l2', '{kind}', {value!r}, {seed})" for of, sample, kind, value, seed in rows
    )
    report = database(f"insert into bound (defense_id, data_hash, sample, norm, kind, value, seed) values {values}")
    assert report.failures == []


def test_another_defense_under_the_same_name_proves_nothing(database):
    report = database("update defense set fingerprint = 'f00'")
    assert report.checked == SAMPLES
    assert len(report.failures) == 1 and "12 rows cannot be checked" in report.failures[0]


def test_a_row_older_than_a_norm_lacks_it(database):
    assert database("update result set l1 = null where sample = 3").failures == []
