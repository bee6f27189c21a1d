"""`arena verify` believes bytes only: whatever was changed in the database is found."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stores import bound, store_bounds
from torch import Tensor
from typed import Batch, present

import arena
from arena import cli
from arena.data import data_hash
from arena.evaluation.verify import replay
from arena.geometry.norms import NORMS, Norm
from arena.store import evidence, integrity
from arena.store.blobs import PRUNED, pack, unpack
from arena.store.store import MatchKey, Store, Unit, open_store
from arena.tournament import answers, worker
from arena.tournament.jobs import VerifyJob
from arena.tournament.plan import job_seed
from arena.tournament.sinks import VerifySink
from arena.tournament.verification import plan_verification

SAMPLES = 12
CONDITIONS = {"dataset": "mnist", "split": "test", "seed": 0, "chunk": 20}

# What a plugin that wants the defense to look robust would write.
NOTHING_FOUND = (
    "status = 'not_found', clean_label = label, adversarial_label = null, margin = null, best_query = null,"
    " adversarial = null, progress = null, fragile = null,"
    " distance = 9e999, l0 = 9e999, l1 = 9e999, l2 = 9e999, linf = 9e999"
)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, mnist: Batch) -> Path:
    """A database in which fgsm met cnn, one of its samples misclassified."""
    file = tmp_path_factory.mktemp("played") / "arena.db"
    defense, attack = arena.load_defense("cnn"), arena.load_attack("fgsm")
    x, y = mnist
    wrong = int((defense.scores(x[:2000]).argmax(1) != y[:2000]).nonzero()[0])
    samples = [*range(SAMPLES - 1), wrong]
    with closing(open_store(str(file))) as store:
        conditions = CONDITIONS | {"data_hash": data_hash("mnist", "test")}
        match_id = store.register_match(
            store.register_tournament(conditions),
            store.register_defense(defense.identity),
            store.register_attack(attack.identity),
            "linf",
            None,
        )
        seed = job_seed(0, "cnn", "fgsm", 0)
        store.append(match_id, arena.play(defense, attack, x[samples], y[samples], samples=samples, seed=seed))
    return file


Database = Callable[..., SimpleNamespace]


@pytest.fixture
def database(played: Path, tmp_path: Path) -> Database:
    """A copy to tamper with: `database(sql, *parameters)` changes it, then gives the report."""
    copy = tmp_path / "arena.db"
    copy.write_bytes(played.read_bytes())

    def tamper(statement: str = "select 1", *parameters: bytes, **how: Any) -> SimpleNamespace:
        with closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("pragma ignore_check_constraints = on")
            connection.execute(statement, parameters)
        with closing(open_store(str(copy), create=False)) as store:
            return verified(store, **how)

    return tamper


def verified(store: Store, **how: Any) -> SimpleNamespace:
    """What the jobs of a verification come to, here all in this process: a line each names match and sample."""
    with store.reading_damaged() as connection:
        damage = list(integrity.faults(connection))
    sink = VerifySink()
    report = SimpleNamespace(damage=damage, checked=0, replayed=0, failures=[], fragile=[])
    for job in plan_verification(store, sink, timeout=60, **how).jobs:
        assert isinstance(job, VerifyJob)
        rows, _ = answers.rows_and_seconds(worker.perform(job))
        found, where = answers.verification(job, rows), f"{job.where}, "
        report.failures += [where + line for line in found.failures]
        report.fragile += [where + line for line in found.fragile]
        assert sink.take(job, rows) == [where + line for line in found.fragile + found.failures]
    assert (sink.failures, sink.fragile) == (len(report.failures), len(report.fragile))
    report.checked, report.replayed, report.pruned = sink.checked, sink.replayed, sink.pruned
    return report


def test_what_the_referee_stored_holds(database: Database) -> None:
    report = database(replays=5)
    assert (report.checked, report.damage, report.failures) == (SAMPLES, [], [])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("status = 'fnund'", "its status is 'fnund'"),
        ("status = cast(x'e66f756e64' as text)", "its status is"),
        ("status = 'not_found'", "it is not_found, but its distance is"),
        ("status = 'error'", "it is error, but its distance is"),
        ("distance = 'far'", "its distance is 'far'"),
        ("distance = null", "its distance is not its linf distance"),
        ("adversarial = null", "it is found, but has no adversarial"),
        ("adversarial_label = label", "it is found with label"),
        ("clean_label = (label + 1) % 10", "it is found with label"),
        ("margin = -1", "a margin of -1"),
        ("margin = 9e999", "a margin of inf"),
        ("margin = margin + 1", "its margin is stored as"),
        ("queries = -1", "its queries are -1"),
        ("fragile = 1", "it has a value for fragile"),
        ("masked = 99", "its masked gradients are 99"),
        ("best_query = 99", "its best query is 99"),
        ("seconds = -1", "its seconds are -1"),
        ("progress = '[[2, 1.0], [1, 0.5]]'", "its progress does not come closer"),
        ("progress = '[[1'", "its progress is"),
        ("adversarial = x'00'", "its adversarial is damaged"),
        ("label = 'seven'", "its label is 'seven'"),
    ],
)
def test_a_row_that_cannot_be_is_found(database: Database, change: str, complaint: str) -> None:
    report = database(f"update result set {change} where sample = 3")
    assert report.checked == SAMPLES
    assert report.failures and all("sample 3: " in line for line in report.failures)
    assert any(complaint in line for line in report.failures)


def test_a_pruned_image_is_no_damage_and_its_numbers_are_still_checked(
    database: Database, bounded: Callable[..., None]
) -> None:
    report = database("update result set adversarial = ? where sample < 4", PRUNED)
    assert (report.checked, report.pruned, report.failures) == (SAMPLES, 4, [])
    assert "sample 2: its label is 1" in database("update result set label = 8 where sample = 2").failures[-1]
    bounded({3: 0.9}, norm="linf")
    report = database()
    assert any(
        "sample 3: its linf distance is" in line and "below the lower bound 0.9" in line for line in report.failures
    )
    report = database(
        f"update result set {NOTHING_FOUND.replace('adversarial = null', 'margin = null')} where sample = 3"
    )
    assert any("sample 3: it is not_found, but was pruned" in line for line in report.failures)


def test_a_sample_beyond_the_data_set_is_found(database: Database) -> None:
    report = database("update result set sample = 70000 where sample = 3")
    assert [line for line in report.failures if "sample 70000: the data set has no such sample" in line]


def test_found_rows_rewritten_to_not_found_are_found_by_playing_again(database: Database) -> None:
    rewrite = f"update result set {NOTHING_FOUND} where status = 'found'"
    assert database(rewrite, replays=0).failures == []  # nothing that is stored says otherwise
    report = database(replays=1)
    assert report.replayed == SAMPLES - 1
    assert len(report.failures) == SAMPLES - 1
    assert all("played again it is found at " in line for line in report.failures)
    assert all("stored as not_found at inf" in line for line in report.failures)


def test_a_misclassified_sample_rewritten_to_not_found_is_found(database: Database) -> None:
    report = database(f"update result set {NOTHING_FOUND} where status = 'misclassified'")
    assert len(report.failures) == 1 and "its clean image is classified as" in report.failures[0]


def test_a_changed_distance_is_found_by_playing_again_unless_another_processor_explains_it(
    played: Path, mnist: Batch
) -> None:
    defense, attack = arena.load_defense("cnn"), arena.load_attack("fgsm")
    with closing(open_store(str(played))) as store, store.reading() as connection:
        [match] = evidence.matches(connection)
        rows = evidence.rows(connection, match.id, [0, 1])
    seed = job_seed(0, "cnn", "fgsm", 0)
    changed = []
    for row, change in zip(rows, (4e-7, 6e-7), strict=True):
        found = present(row.record)
        changed.append(replace(row, record=replace(found, distance=present(found.distance) * (1 + change))))
    assert replay(defense, attack, match, rows, seed, True).failures == []
    assert [line[:8] for line in replay(defense, attack, match, changed, seed, True).failures] == [
        "sample 0",
        "sample 1",
    ]
    [line] = replay(defense, attack, match, changed, seed, False).failures
    assert "sample 1: played again" in line and line.endswith("in another environment")


@pytest.mark.parametrize("split", [range(0, 6), range(0, 9)])
def test_a_chunk_played_in_parts_is_played_again_in_parts(tmp_path: Path, mnist: Batch, split: range) -> None:
    """Samples were added: the second part had a seed of its own."""
    defense, attack = arena.load_defense("cnn"), arena.load_attack("gaussian-noise")
    x, y = mnist
    with closing(open_store(str(tmp_path / "arena.db"))) as store:
        key = MatchKey(CONDITIONS | {"data_hash": data_hash("mnist", "test")}, defense.identity, attack.identity, 8)
        for part in (split, range(split.stop, SAMPLES)):
            samples, seed = list(part), job_seed(0, "cnn", "gaussian-noise", part.start)
            played = arena.play(defense, attack, x[samples], y[samples], samples=samples, seed=seed, budget=8)
            store.commit([Unit(key, played)])
        report = verified(store, replays=2)
    assert report.replayed in (len(split), SAMPLES - len(split))
    assert report.failures == []


def test_a_share_of_the_rows_is_chosen_by_a_seed(database: Database) -> None:
    report = database("update result set label = 'x'", rate=0.5)
    assert report.checked == SAMPLES // 2
    assert database(rate=0.5).failures == report.failures != database(rate=0.5, seed=1).failures


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        (
            "update result set status = 'fnund' where sample = 3",
            "sample 3: it does not meet the condition status_known",
        ),
        ("update result set distance = 9e999 where sample = 3", "it does not meet the condition distance_of_status"),
        ("update match set norm = 'l9'", "match 1: it does not meet the condition norm_known"),
        ("update match set norm = 'l2'", "match 1: its norm is not that of its attack"),
        ("update match set status = 'played'", None),
        ("update defense set settings = '{'", "match 1: what it refers to cannot be read"),
        ("delete from attack", "match 1: its attack is not there"),
        ("update result set match_id = 7 where sample = 3", "match 7, sample 3: its match is not there"),
        ("update result set sample = 'three' where sample = 3", "sample three: that is no number of a sample"),
        ("update tournament set data_hash = 'other'", "tournament 1: its conditions are not those"),
        ("update tournament set conditions = '{}'", "tournament 1: its conditions are not those"),
        (
            "insert into bound_value (defense_id, bound_id, data_hash, sample, norm, kind, value, seed)"
            " values (1, 1, '', 3, 'l2', 'estimate', -1, 0)",
            "bound_value 1: its value is -1",
        ),
    ],
)
def test_what_the_tables_would_refuse_is_found(database: Database, statement: str, complaint: str) -> None:
    damage = database(statement).damage
    assert any(complaint in line for line in damage) if complaint else damage == []


def test_an_index_that_does_not_say_what_its_table_says_is_found(
    database: Database, played: Path, tmp_path: Path
) -> None:
    """Leaderboards read the index alone."""
    with closing(sqlite3.connect(tmp_path / "arena.db")) as connection:
        connection.execute("pragma writable_schema = on")
        where = "where name = 'result_evidence'"
        [hidden] = connection.execute(f"select * from sqlite_master {where}").fetchall()
        connection.execute(f"delete from sqlite_master {where}")
        connection.commit()
    assert not database(f"update result set {NOTHING_FOUND} where sample = 3").failures
    with closing(sqlite3.connect(tmp_path / "arena.db")) as connection:
        connection.execute("pragma writable_schema = on")
        connection.execute("insert into sqlite_master values (?, ?, ?, ?, ?)", hidden)
        connection.commit()
    assert any("missing from index result_evidence" in line for line in database().damage)


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
def test_a_changed_number_is_found(database: Database, change: str, complaint: str) -> None:
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
def test_a_changed_image_is_found(
    database: Database, played: Path, mnist: Batch, change: Callable[[Tensor, Tensor], Any], complaint: str
) -> None:
    with closing(sqlite3.connect(played)) as connection:
        [(blob,)] = connection.execute("select adversarial from result where sample = 3")
    image = change(torch.from_numpy(unpack(blob).copy()), mnist[0][3])
    report = database("update result set adversarial = ? where sample = 3", pack(image))
    assert any(complaint in line for line in report.failures)


def test_a_sample_is_not_misclassified_because_a_row_says_so(database: Database) -> None:
    report = database(
        "update result set status = 'misclassified', distance = 0, l0 = 0, l2 = 0, linf = 0, adversarial = null "
        "where sample = 3"
    )
    assert [line for line in report.failures if "sample 3: it is classified as" in line]


@pytest.fixture
def bounded(database: Database, tmp_path: Path) -> Callable[..., None]:
    """`bounded(values, name, ...)` stores bounds of the cnn, of the played data unless told otherwise."""

    def store(values: dict[int, float], name: str = "joint", **how: Any) -> None:
        with closing(open_store(str(tmp_path / "arena.db"))) as opened:
            cnn, data = arena.load_defense("cnn").identity, data_hash("mnist", "test")
            usual: dict[str, Any] = {"of": cnn, "data_hash": data, "by": bound(name)}
            store_bounds(opened, values, **usual | how)

    return store


def of_sample_3(played: Path, column: str) -> float:
    with closing(sqlite3.connect(played)) as connection:
        return connection.execute(f"select {column} from result where sample = 3").fetchone()[0]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["certificate", "estimate"])
def test_an_adversarial_below_its_bound_is_found(
    database: Database, bounded: Callable[..., None], played: Path, norm: Norm, kind: str
) -> None:
    distance = of_sample_3(played, norm)
    bounded({3: 0.99 * distance}, "sound", norm=norm)
    bounded({3: 1.01 * distance}, "false", norm=norm, kind=kind)
    [line] = database().failures
    assert f"sample 3: its {norm} distance is" in line and "below the lower bound" in line
    assert line.endswith(f"(false, {kind})")


def test_a_fragile_adversarial_below_its_bound_is_told_apart(
    database: Database, bounded: Callable[..., None], played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound speaks of converged inference; here that of the cnn is made to find every label."""
    label = of_sample_3(played, "label")
    bounded({3: 1.0}, norm="linf")
    cnn = type(arena.load_defense("cnn"))
    monkeypatch.setattr(cnn, "converged_scores", lambda self, x: torch.eye(10)[[label] * len(x)], raising=False)
    report = database()
    [line] = report.fragile
    assert "sample 3: its linf distance is" in line
    assert "below the lower bound 1 (joint, estimate); but it is fragile" in line
    assert not report.failures


def test_what_does_not_bound_an_adversarial_does_not_accuse_it(
    database: Database, bounded: Callable[..., None], played: Path
) -> None:
    l2 = of_sample_3(played, "l2")
    bounded({3: 3 * l2}, by=bound("joint", "before it was mended"))
    bounded({3: 2 * l2})
    bounded({3: 0.9 * l2}, seed=1)  # another seed found less
    bounded({3: l2}, "separate")  # equal is no violation
    bounded({3: 2 * l2}, "chance", kind="statistical")  # it may fail
    bounded({3: 2 * l2}, data_hash="other data")
    assert database().failures == []


def test_another_defense_under_the_same_name_proves_nothing(database: Database) -> None:
    report = database("update defense set fingerprint = 'f00'")
    assert report.checked == SAMPLES
    assert len(report.failures) == 1 and "12 rows cannot be checked" in report.failures[0]


def test_a_row_older_than_a_norm_lacks_it(database: Database) -> None:
    assert database("update result set l1 = null where sample = 3").failures == []


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[object, str]:
    """Exit code and standard output of the command."""
    monkeypatch.setattr("sys.argv", ["arena", "verify", "--quiet", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, capsys.readouterr().out


def test_the_command_says_what_holds_and_what_does_not(
    played: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = command(monkeypatch, capsys, "--db", played)
    assert sound == (0, f"{SAMPLES} rows checked, 0 played again, 0 failures\n")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(played.read_bytes())
    with closing(sqlite3.connect(damaged)) as connection:
        [(page,)] = connection.execute("select rootpage from sqlite_master where name = 'result'")
        [(size,)] = connection.execute("pragma page_size")
    with damaged.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    code, out = command(monkeypatch, capsys, "--db", damaged, "--replay", 0)
    assert code == 1 and out.startswith("the file is damaged: ") and "not all rows were checked" in out
