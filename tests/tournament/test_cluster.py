"""Commands on Ray clusters of three nodes: the rows of one machine, into SQLite and PostgreSQL, and no process left."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_packages import arena
from processes import descendants, is_gone
from ray_nodes import BOUNDS, DISTALS, SETTINGS, ThreeNodes, rows_of, seen_by_nodes, started_by_hand, wait_until

pytestmark = pytest.mark.cluster
DISTAL = ["distal", "--steps", "20"]


def settings(folder: Path, more: str = "") -> Path:
    (folder / "arena.toml").write_text(SETTINGS + more)
    return folder


@pytest.fixture(scope="module")
def local(foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that this machine's workers fill."""
    folder = settings(tmp_path_factory.mktemp("local"))
    for command in (["run"], DISTAL):
        played = arena(*command, plugins=foreign, cwd=folder)
        assert played.returncode == 0, played.stderr
    assert len(rows_of(f"sqlite:///{folder / 'arena.db'}")) == 4 * 16
    return folder / "arena.db"


def there(address: str, *command: str, plugins: Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return arena(*command, "--executor", "ray", "--address", address, plugins=plugins, cwd=cwd)


def test_rows_are_those_of_one_machine(
    cluster: ThreeNodes, foreign: Path, local: Path, store_url: str, tmp_path: Path
) -> None:
    played = there(cluster.address, "run", "--db", store_url, plugins=foreign, cwd=settings(tmp_path))
    assert played.returncode == 0, played.stderr
    assert rows_of(store_url) == rows_of(f"sqlite:///{local}")


def test_a_cluster_that_is_started_by_hand(foreign: Path, local: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with seen_by_nodes(foreign), started_by_hand(port) as address:
        played = there(address, "run", plugins=foreign, cwd=settings(tmp_path))
    assert played.returncode == 0, played.stderr
    assert rows_of(f"sqlite:///{tmp_path / 'arena.db'}") == rows_of(f"sqlite:///{local}")


def test_bounds_and_distals_are_those_of_one_machine(
    cluster: ThreeNodes, foreign: Path, local: Path, tmp_path: Path
) -> None:
    folder = settings(tmp_path, "[run]\nworkers = 1\n")  # on one node: starting is what takes time
    for command in (["bounds", "--bound", "lipschitz"], DISTAL):
        played = there(cluster.address, *command, plugins=foreign, cwd=folder)
        assert played.returncode == 0, played.stderr
    for query, count in ((BOUNDS, 2 * 16), (DISTALS, 10)):
        rows = rows_of(f"sqlite:///{folder / 'arena.db'}", query)
        assert len(rows) == count and rows == rows_of(f"sqlite:///{local}", query)


def test_verify_finds_there_what_does_not_hold(cluster: ThreeNodes, foreign: Path, local: Path, tmp_path: Path) -> None:
    shutil.copy(local, tmp_path)
    with sqlite3.connect(tmp_path / "arena.db") as damaged:
        damaged.execute("update result set l2 = l2 / 2, distance = l2 / 2 where sample = 3 and match_id = 1")
    damaged.close()
    checked = there(cluster.address, "verify", "--quiet", plugins=foreign, cwd=tmp_path)
    assert checked.returncode == 1, checked.stderr
    assert "sample 3" in checked.stdout and "64 rows checked" in checked.stdout and "1 failure" in checked.stdout


def test_sigterm_ends_it_in_order_and_leaves_no_process(cluster: ThreeNodes, foreign: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "arena", "run", "--quiet", "--executor", "ray", "--address", cluster.address]
    path = os.pathsep.join(filter(None, [str(foreign), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        command, cwd=settings(tmp_path), env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE
    )

    def at_work() -> list[int]:
        return [pid for agent in cluster.agents() for pid in (agent, *descendants(agent))]

    assert wait_until(lambda: len(at_work()) >= 9 or process.poll() is not None, 60)  # each with two below it
    pids = at_work()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143 and b"the same command goes on from there" in err
    assert pids and all(is_gone(pid, 30) for pid in pids)
