"""Playing a plan: what is read, what is written, and when; answers are not believed. No process, no plugin: a fake
executor answers with rows of its own."""

import math
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_executor import CONFIG, LABELS, Dead, Honest, contestants, planned
from rich.console import Console
from sqlalchemy import event
from stores import bound, dataset, defense, record
from typed import present

from arena.cli import progress
from arena.errors import PluginError
from arena.interface.results import BoundKind, Status
from arena.store import bounds as bound_rows
from arena.store.store import Store, open_store
from arena.tournament import answers, worker
from arena.tournament.answers import Applicable, Identified
from arena.tournament.executors import Answer, Failure
from arena.tournament.jobs import ApplicableJob, IdentifyJob, Job, MatchJob
from arena.tournament.plan import plan_bounds
from arena.tournament.play import play
from arena.tournament.roster import Contestants


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(str(tmp_path / "arena.db"))) as store:
        yield store


def contents(store: Store) -> tuple[Any, ...]:
    """Every row of the tables of identities, and the number of results."""
    with store.reading() as connection:
        tables = ("defense", "attack", "tournament", "match")
        rows = [connection.exec_driver_sql(f"select * from {table} order by id").all() for table in tables]
        return rows, connection.exec_driver_sql("select count(*) from result").scalar()


def current(store: Store) -> str | None:
    """Fingerprint of the defense that leaderboards count."""
    with store.reading() as connection:
        return connection.exec_driver_sql("select fingerprint from defense order by last_used desc").scalar()


def test_planning_writes_nothing(store: Store) -> None:
    list(play(planned(store), Honest()))
    before, shown = contents(store), store.leaderboard()
    assert planned(store).total == 0 and planned(store, "b").total == 3
    assert contents(store) == before and store.leaderboard() == shown != []


def test_a_defense_is_current_from_its_first_commit_on(store: Store) -> None:
    list(play(planned(store), Honest()))
    events = play(planned(store, "b"), Honest())
    assert current(store) == "cnn a"
    next(events)
    assert current(store) == "cnn b"
    assert len(store.results()) == 4  # of two jobs: what is ready is committed together


def test_what_is_ready_is_one_transaction_and_a_failure_among_it_costs_itself_only(store: Store) -> None:
    class Mixed(Honest):
        workers = 2  # three jobs: all are ready at once

        def submit(self, job: Job) -> Future[Answer | Failure]:
            assert isinstance(job, MatchJob)
            if job.samples[0] != 2:
                return super().submit(job)
            future: Future[Answer | Failure] = Future()
            future.set_result(Answer({"rows": "nonsense", "seconds": 0.5}))
            return future

    plan = planned(store)
    commits: list[object] = []
    event.listen(store._engine, "commit", commits.append)
    played = list(play(plan, Mixed()))
    assert [bool(one.failure) for one in played] == [False, True, False]
    assert [row["status"] for row in store.results()] == ["found"] * 2 + ["error"] * 2 + ["found"] * 2
    assert len(commits) == 2  # the rows, and that the match is over


def test_a_defense_of_old_is_current_again_although_nothing_of_it_is_left_to_play(store: Store) -> None:
    for weights in ("a", "b"):
        list(play(planned(store, weights), Honest()))
    again = planned(store, "a")
    assert again.total == 0 and again.settled == 6 and current(store) == "cnn b"
    list(play(again, Honest()))
    assert current(store) == "cnn a"


def test_a_job_that_dies_leaves_error_rows_and_is_played_again(store: Store) -> None:
    failures = [present(played.failure).reason for played in play(planned(store), Dead())]
    assert failures == ["the worker process died (exit code 7)"] * 3
    assert {(row["status"], row["reason"]) for row in store.results()} == {("error", failures[0])}
    assert planned(store).total == 3
    assert [played.failure for played in play(planned(store), Honest())] == [None] * 3
    assert {row["status"] for row in store.results()} == {"found"}


class Text(str):
    """Its methods could run code."""


@pytest.mark.parametrize(
    "changes",
    [
        {"sample": 5},
        {"label": 2},
        {"status": "won"},
        {"status": "error"},
        {"status": "not_found"},  # at a finite distance
        {"distance": math.nan},
        {"distance": math.inf},
        {"distance": -1.0},
        {"distance": "1"},
        {"distance": True},
        {"l0": None},
        {"margin": math.inf},
        {"queries": 1.5},
        {"queries": 2**63},
        {"seconds": math.inf},
        {"progress": [[1, math.nan]]},
        {"progress": {}},
        {"reason": Text("a")},
        {"adversarial": None},
        {"adversarial": [[1, 28, 28], bytes(7)]},
        {"adversarial": [[-1, -4], bytes(16)]},
        {"adversarial": "image"},
        {"extra": 1},
    ],
)
def test_an_answer_that_was_not_asked_for_is_a_failed_job(store: Store, changes: dict[str, Any]) -> None:
    ended = list(play(planned(store), Honest(**changes)))
    assert len(ended) == 3 and all("not what was asked for" in present(played.failure).reason for played in ended)
    assert {row["status"] for row in store.results()} == {"error"}


@pytest.mark.parametrize(
    "value", [None, [], {"rows": []}, {"rows": None, "seconds": 1.0}, {"rows": [], "seconds": "1"}]
)
def test_what_is_no_answer_is_a_failed_job(store: Store, value: object) -> None:
    class Odd(Honest):
        def answer(self, _: Any) -> Answer:
            return Answer(value)

    assert all("not what was asked for" in present(played.failure).reason for played in play(planned(store), Odd()))


def test_rows_survive_the_journey() -> None:
    job = MatchJob(1.0, False, "cnn", "", "boundary", "", (0, 1, 2), 0, None)
    rows = [record(0, progress=[[3, 2.0], [7, 1.0]], fragile=False), record(1, "not_found"), record(2, "misclassified")]
    back = answers.records(job, LABELS, [answers.plain(row) for row in rows])
    for row, other in zip(rows, back, strict=True):
        assert answers.plain(row) == answers.plain(other) and isinstance(other.status, Status)
    roster, identified = contestants().roster, Identified(defense(), norms=("l2", "linf"))
    assert answers.roster(answers.plain(roster)) == roster
    about = IdentifyJob(1.0, False, "defense", "cnn", "bound")
    assert answers.identified(about, answers.plain(identified)) == identified
    with pytest.raises(answers.WrongAnswer, match="it is about abs"):
        answers.identified(about, answers.plain(Identified(defense("abs"))))


@pytest.mark.parametrize("changed", ["defense_fingerprint", "attack_fingerprint"])
def test_a_plugin_that_changed_since_it_was_planned_is_not_played(changed: str) -> None:
    planned: dict[str, Any] = {
        "defense_fingerprint": worker._defense("cnn").fingerprint,
        "attack_fingerprint": worker._attack("fgsm").fingerprint,
    }
    job: dict[str, Any] = {
        "timeout": 60.0,
        "foreign": False,
        "defense": "cnn",
        "attack": "fgsm",
        "samples": (0,),
        "seed": 0,
    }
    with pytest.raises(PluginError, match="not the one that was planned"):
        worker.perform(MatchJob(**job, **planned | {changed: "f00"}, budget=None))
    assert len(worker.perform(MatchJob(**job, **planned, budget=None))["rows"]) == 1


def test_a_log_gets_a_line_now_and_then(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(stderr=True)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0)
    assert progress.follow(planned(store), Honest(), console) == []
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{done} of 3 jobs done, 0 failed, about {left} s left" for done, left in ((1, 1), (2, 0), (3, 0))]
    monkeypatch.setattr(progress, "LOG_SECONDS", 3600)
    progress.follow(planned(store, "b"), Honest(), console)
    assert capsys.readouterr().err == ""


def test_what_failed_is_listed_and_told_by_the_exit_code(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    failures = progress.follow(planned(store), Dead(), Console(stderr=True, quiet=True))
    assert progress.finish(failures) == 1 and progress.finish([]) == 0
    first = "failed: boundary against cnn, samples 0 to 1: the worker process died (exit code 7)"
    assert capsys.readouterr().err.splitlines()[0] == first


def bounded(version: str = "a") -> Contestants:
    """The contestants, and two bounds: one speaks of the cnn, the other does not."""
    found = contestants()
    found.bounds = {name: Identified(bound(name, version), norms=("l2", "linf")) for name in ("joint", "slack")}
    found.applicable = {"cnn": [Applicable("joint", "estimate", None), Applicable("slack", None, "it is no minimum")]}
    return found


def test_bounds_are_planned_of_what_is_played_and_of_a_changed_bound_anew(store: Store) -> None:
    plan, (column,) = plan_bounds(CONFIG, store, bounded())  # the attack that is played is one of L2
    assert (column.bound.name, column.kind, column.norm, column.samples) == ("joint", "estimate", "l2", len(LABELS))
    (job,) = plan.jobs
    with pytest.raises(answers.WrongAnswer):
        plan.sink.take(job, [1.0, -1.0, *[2.0] * (job.size - 2)])
    plan.sink.take(job, [1.0] * job.size)
    assert plan_bounds(CONFIG, store, bounded())[0].total == 0
    changed, _ = plan_bounds(CONFIG, store, bounded("b"))
    (job,) = changed.jobs
    with store.reading() as connection:
        assert len(bound_rows.by_name(connection, defense().fingerprint, dataset().data_hash)) == job.size
    changed.sink.take(job, [2.0] * job.size)
    with store.reading() as connection:  # the old ones stay, and do not count
        assert set(bound_rows.by_name(connection, defense().fingerprint, dataset().data_hash).values()) == {2.0}
        assert connection.exec_driver_sql("select count(*) from bound_value").scalar() == 2 * job.size
    plan_bounds(CONFIG, store, bounded())[0].sink.begin()  # back to the old settings
    with store.reading() as connection:
        assert set(bound_rows.by_name(connection, defense().fingerprint, dataset().data_hash).values()) == {1.0}


def test_certificates_need_one_seed() -> None:
    found = bounded()
    found.roster = replace(found.roster, attacks={})
    cases: list[tuple[BoundKind, int]] = [("certificate", 1), ("estimate", 3)]
    for kind, seeds in cases:
        found.applicable = {"cnn": [Applicable("joint", kind, None)]}
        with closing(open_store("sqlite://")) as store:
            _, columns = plan_bounds(CONFIG, store, found, norm="linf", seeds=3)
        assert [(column.norm, column.seeds) for column in columns] == [("linf", seeds)]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Applicable("joint", None, None)],
        [Applicable("joint", "estimate", "no")],
        [Applicable("slack", None, "no")],
    ],
)
def test_whether_a_bound_applies_is_one_or_the_other(rows: list[Applicable]) -> None:
    job = ApplicableJob(1.0, False, "cnn", ("joint",))
    with pytest.raises(answers.WrongAnswer, match="whether it applies"):
        answers.applicable(job, [answers.plain(row) for row in rows])
