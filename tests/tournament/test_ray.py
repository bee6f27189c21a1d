"""Tournaments on a real Ray cluster of three nodes on this machine: equal rows, whatever is lost meanwhile."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from executor_role import Call
from paths import ROOT
from plugin_packages import arena, install
from sqlalchemy import text
from stores import place_on_server
from test_executors import is_gone

from arena.errors import UserError
from arena.store.store import open_store
from arena.tournament.config import Config
from arena.tournament.executors import Answer, Failure
from arena.tournament.executors.opening import open_executor

SETTINGS = """
[tournament]
samples = 16
chunk = 4
defenses = ["cnn"]
attacks = ["fgsm", "deepfool-l2", "salt-and-pepper", "invert"]
[attack.salt-and-pepper]
restarts = 2
"""
ROWS = """
select defense.name, attack.name, sample, label, clean_label, adversarial_label, result.status, distance, l0, l2, linf,
       margin, queries, gradient_queries, best_query, adversarial, reason, defense.fingerprint, attack.fingerprint
from result join match on match.id = match_id join defense on defense.id = defense_id
     join attack on attack.id = attack_id
order by 1, 2, 3
"""
EXPECTED = 4 * 16
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]  # minutes; one cluster


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """Folder for PYTHONPATH with a foreign plugin."""
    return install(tmp_path_factory.mktemp("foreign") / "site", ROOT / "examples" / "arena-attack-invert")


@pytest.fixture(scope="module")
def cluster(plugins):
    """The cluster; its nodes see what this process sees."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed")
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        path = [str(plugins), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        for _ in range(2):
            cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


def on(cluster, grace=60, **run):
    """The executor of the tests' own role."""
    pytest.importorskip("ray")
    from arena.tournament.executors.ray import RayExecutor

    settings = {"memory": 1, "executor": "ray", "ray": {"address": cluster.address, "grace": grace}} | run
    return RayExecutor(Config.model_validate({"run": settings}), "executor_role")


@pytest.fixture(scope="module")
def executor(cluster):
    with on(cluster, grace=2) as executor:
        yield executor


def run(executor, function, *args, timeout=30, foreign=False):
    return executor.submit(Call(timeout, foreign, function, args)).result(timeout=60)


def test_a_worker_for_each_processor_of_three_nodes(executor):
    assert executor.workers == 3
    spans = [executor.submit(Call(30, False, "span", (0.5,))) for _ in range(3)]
    starts, ends = zip(*(span.result(timeout=60).value for span in spans), strict=True)
    assert max(starts) < min(ends)


def test_the_promises_of_one_machine_hold(executor):
    assert run(executor, "echo", {"a": [1, None, b"\xff"]}) == Answer({"a": [1, None, b"\xff"]})
    assert run(executor, "exits", 7) == Failure("the worker process died (exit code 7)")
    assert run(executor, "segfaults") == Failure("the worker process died (signal 11)")
    assert run(executor, "sleep", 100, timeout=0.3) == Failure("timed out after 0.3 s")
    assert run(executor, "hoards", False).reason == "ran out of memory"
    assert run(executor, "raises_usage", "no such thing") == Failure("no such thing", None, usage=True)
    assert [run(executor, "state", foreign=True).value["jobs"] for _ in range(2)] == [1, 1]
    assert run(executor, "state").value["db"] == ""


def test_a_job_that_is_lost_with_its_agent_is_played_again(executor, tmp_path):
    assert run(executor, "kills_agent", 1, str(tmp_path / "once")) == Answer(1)


def test_a_job_that_is_lost_again_and_again_is_an_error_of_its_own(executor, tmp_path):
    assert run(executor, "kills_agent", 99, str(tmp_path / "often")).reason.startswith("lost 4 times with the node")
    assert (tmp_path / "often").read_text() == "xxxx"
    assert run(executor, "echo", 1) == Answer(1)


def test_an_agent_that_answers_nothing_is_given_up(executor, tmp_path):
    """The job is out again meanwhile; what the first one would have said counts for nothing."""
    assert run(executor, "freezes_agent_once", str(tmp_path / "agent"), timeout=1) == Answer("answered")
    assert is_gone(int((tmp_path / "agent").read_text()))


def test_a_node_that_differs_is_refused_by_name(cluster, executor, monkeypatch, capfd):
    executor.__exit__()  # one coordinator a process
    monkeypatch.setenv("ARENA_TEST_TORCH", "1.9")
    with on(cluster) as other:
        outcome = run(other, "echo", 1)
    assert outcome.usage and "torch 2.0 instead of 1.9" in outcome.reason and socket.gethostname() in outcome.reason
    assert capfd.readouterr().err.count("is refused: torch 2.0 instead of 1.9") == 3


def test_signals_stay_ours(cluster):
    def handler(number, frame):
        raise AssertionError

    kept = signal.signal(signal.SIGTERM, handler)
    try:
        with on(cluster, workers=1):
            assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, kept)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("nonsense", "no Ray cluster answers at nonsense"),
        ("ray://127.0.0.1:1", "write HOST:PORT"),
    ],
)
def test_a_wrong_address_is_told_within_seconds(address, said):
    pytest.importorskip("ray")
    started = time.monotonic()
    with pytest.raises(UserError, match=said):
        open_executor(Config.model_validate({"run": {"executor": "ray", "ray": {"address": address}}}))
    assert time.monotonic() - started < 10


def test_without_ray_one_line_says_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "arena.tournament.executors.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'arena-robustness\[ray\]'"):
        open_executor(Config.model_validate({"run": {"executor": "ray"}}))


def rows_of(url):
    with closing(open_store(url, create=False)) as store, store.reading() as connection:
        return [tuple(row) for row in connection.execute(text(ROWS))]


def settings(folder):
    (folder / "arena.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def local_rows(plugins, tmp_path_factory):
    folder = settings(tmp_path_factory.mktemp("local"))
    assert arena("run", plugins=plugins, cwd=folder).returncode == 0
    rows = rows_of(f"sqlite:///{folder / 'arena.db'}")
    assert len(rows) == EXPECTED
    return rows


def there(cluster, url):
    return ["run", "--db", url, "--executor", "ray", "--address", cluster.address]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'arena.db'}"
    else:
        with place_on_server() as url:
            yield url


def test_rows_are_those_of_one_machine(cluster, plugins, local_rows, url, tmp_path):
    played = arena(*there(cluster, url), plugins=plugins, cwd=settings(tmp_path))
    assert played.returncode == 0, played.stderr
    assert rows_of(url) == local_rows


def agents_of(cluster):
    """Process ids of the agents and of all that they have started."""
    children = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            children.setdefault(int(entry.read_text().rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
        except OSError:
            continue
    found, waiting = [], []
    for node in cluster.list_all_nodes():
        own = children.get(node.all_processes["raylet"][0].process.pid, [])
        waiting += [pid for pid in own if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Agent")]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def start(cluster, plugins, folder, url):
    """The command in a process of its own, its agents at work."""
    command = [sys.executable, "-c", "from arena.cli import main; main()", *there(cluster, url), "--quiet"]
    path = os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(agents_of(cluster)) < 9 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return process


def test_sigterm_ends_it_in_order_and_leaves_no_process(cluster, plugins, tmp_path):
    process = start(cluster, plugins, settings(tmp_path), "arena.db")
    pids = agents_of(cluster)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143 and b"the same command goes on from there" in err
    assert pids and all(is_gone(pid, 10) for pid in pids)


def chaos(cluster, plugins, folder, seed):
    """Kill the coordinator, an agent or a worker at some moment, then play the rest; gives the rows."""
    moments = random.Random(seed)
    url = f"sqlite:///{settings(folder) / 'arena.db'}"
    process = start(cluster, plugins, folder, url)
    time.sleep(moments.uniform(0, 3))
    for victim in moments.sample([*agents_of(cluster), process.pid], 2):
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 1, -signal.SIGKILL), err
    again = arena(*there(cluster, url), plugins=plugins, cwd=folder)
    assert again.returncode == 0, again.stderr
    return rows_of(url)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_kills_the_rows_are_those_of_an_uninterrupted_run(cluster, plugins, local_rows, tmp_path, seed):
    assert chaos(cluster, plugins, tmp_path, seed) == local_rows


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 23))
def test_after_many_more_kills_too(cluster, plugins, local_rows, tmp_path, seed):
    assert chaos(cluster, plugins, tmp_path, seed) == local_rows
