"""Several coordinators on one database: on PostgreSQL they share the jobs, of an SQLite file there is one."""

import os
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from stores import MNIST, attack, defense, place_on_server, record
from test_play import Honest, planned

from arena.errors import UserError
from arena.store.store import MatchKey, Unit, open_store
from arena.tournament import play as playing
from arena.tournament.play import play

MATCH = MatchKey(MNIST | {"seed": 0}, defense(), attack())


@pytest.fixture
def two():
    """Two stores on one PostgreSQL."""
    with place_on_server() as url, closing(open_store(url)) as one, closing(open_store(url)) as other:
        yield one, other


def test_a_job_is_claimed_once_and_comes_back_with_its_owner(two):
    one, other = two
    assert one.claim(MATCH, 0) and not other.claim(MATCH, 0)
    assert other.claim(MATCH, 10)
    assert other.claim(MatchKey(MATCH.conditions | {"seed": 1}, MATCH.defense, MATCH.attack), 0)
    one.release(MATCH, 0)
    assert other.claim(MATCH, 0) and not one.claim(MATCH, 0)
    other.close()
    assert one.claim(MATCH, 0)


def test_coordinators_share_a_tournament(two, monkeypatch):
    """Each job is played by one of them, and both end when all is settled."""
    monkeypatch.setattr(playing, "WAIT", 0.01)
    barrier, played = threading.Barrier(2), []

    class Slow(Honest):
        def submit(self, job):
            played.append(job.samples)
            return super().submit(job)

    def coordinate(store, plan):
        barrier.wait()
        over = [one.job.samples for one in play(plan, Slow())]
        assert len(over) == plan.total == 3

    threads = [threading.Thread(target=coordinate, args=(store, planned(store))) for store in two]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(played) == [(0, 1), (2, 3), (4, 5)]
    assert [row["sample"] for row in two[0].results()] == list(range(6))


def test_what_a_dead_coordinator_had_claimed_is_played(two, monkeypatch):
    monkeypatch.setattr(playing, "WAIT", 0.01)
    one, other = two
    plan = planned(one)
    key = plan.sink._match(next(iter(plan.jobs))).key
    assert other.claim(key, 0) and other.claim(key, 2)
    other.commit([Unit(key, [record(0), record(1)])])
    played = play(plan, Honest())
    assert next(played).job.samples == (4, 5)
    other.close()
    assert sorted(one.job.samples for one in played) == [(0, 1), (2, 3)]


HOLDS = """
import sys
from arena.store.store import open_store
from test_claims import MATCH
store = open_store(sys.argv[1])
assert store.claim(MATCH, 0)
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_second_coordinator_of_a_file_is_told_who_plays(tmp_path):
    file = tmp_path / "arena.db"
    path = os.pathsep.join(sys.path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": os.environ | {"PYTHONPATH": path}}
    with subprocess.Popen([sys.executable, "-c", HOLDS, file], **pipes) as first:
        assert first.stdout.readline() == b"claimed\n"
        with closing(open_store(str(file))) as store:
            with pytest.raises(UserError, match=f"process {first.pid} on .* plays this tournament already"):
                store.claim(MATCH, 10)
            assert store.claim(MatchKey(MATCH.conditions | {"seed": 1}, MATCH.defense, MATCH.attack), 0)
            first.kill()
            first.wait()
            assert store.claim(MATCH, 10) and store.claim(MATCH, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["arena.db"]
