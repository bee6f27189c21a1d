"""Several coordinators on one database: on PostgreSQL they share the jobs, of an SQLite file there is one."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from fake_executor import Honest, planned
from stores import MNIST, attack, defense, place_on_server, record
from typed import present

from arena.errors import UserError
from arena.store.store import MatchKey, Store, Unit, open_store
from arena.tournament import play as playing
from arena.tournament.executors import Answer, Failure
from arena.tournament.jobs import Job, MatchJob
from arena.tournament.plan import Plan
from arena.tournament.play import Played, play
from arena.tournament.sinks import MatchSink

MATCH = MatchKey(MNIST | {"seed": 0}, defense(), attack())


def samples_of(played: Played) -> tuple[int, ...]:
    assert isinstance(played.job, MatchJob)
    return played.job.samples


@pytest.fixture
def two() -> Iterator[tuple[Store, Store]]:
    """Two stores on one PostgreSQL."""
    with place_on_server() as url, closing(open_store(url)) as one, closing(open_store(url)) as other:
        yield one, other


def test_a_job_is_claimed_once_and_comes_back_with_its_owner(two: tuple[Store, Store]) -> None:
    one, other = two
    assert one.claim(MATCH, 0) and not other.claim(MATCH, 0)
    assert other.claim(MATCH, 10)
    assert other.claim(MatchKey({**MATCH.conditions, "seed": 1}, MATCH.defense, MATCH.attack), 0)
    one.release(MATCH, 0)
    assert other.claim(MATCH, 0) and not one.claim(MATCH, 0)
    other.close()
    assert one.claim(MATCH, 0)


def test_coordinators_share_a_tournament(two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is played by one of them, and both end when all is settled."""
    monkeypatch.setattr(playing, "WAIT", 0.01)
    barrier, played = threading.Barrier(2), []

    class Slow(Honest):
        def submit(self, job: Job) -> Future[Answer | Failure]:
            assert isinstance(job, MatchJob)
            played.append(job.samples)
            return super().submit(job)

    def coordinate(store: Store, plan: Plan) -> None:
        barrier.wait()
        over = list(play(plan, Slow()))
        assert len(over) == plan.total == 3

    threads = [threading.Thread(target=coordinate, args=(store, planned(store))) for store in two]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(played) == [(0, 1), (2, 3), (4, 5)]
    assert [row["sample"] for row in two[0].results()] == list(range(6))


def test_what_a_dead_coordinator_had_claimed_is_played(
    two: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing, "WAIT", 0.01)
    one, other = two
    plan = planned(one)
    job = next(iter(plan.jobs))
    assert isinstance(plan.sink, MatchSink) and isinstance(job, MatchJob)
    key = plan.sink._match(job).key
    assert other.claim(key, 0) and other.claim(key, 2)
    other.commit([Unit(key, [record(0), record(1)])])
    played = play(plan, Honest())
    assert samples_of(next(played)) == (4, 5)
    other.close()
    assert sorted(map(samples_of, played)) == [(0, 1), (2, 3)]


HOLDS = """
import sys
from arena.store.store import open_store
from test_claims import MATCH
store = open_store(sys.argv[1])
assert store.claim(MATCH, 0)
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_second_coordinator_of_a_file_is_told_who_plays(tmp_path: Path) -> None:
    file = tmp_path / "arena.db"
    path = os.pathsep.join(sys.path)
    command, env = [sys.executable, "-c", HOLDS, str(file)], os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as first:
        assert present(first.stdout).readline() == b"claimed\n"
        with closing(open_store(str(file))) as store:
            with pytest.raises(UserError, match=f"process {first.pid} on .* plays this tournament already"):
                store.claim(MATCH, 10)
            assert store.claim(MatchKey({**MATCH.conditions, "seed": 1}, MATCH.defense, MATCH.attack), 0)
            first.kill()
            first.wait()
            assert store.claim(MATCH, 10) and store.claim(MATCH, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["arena.db"]
