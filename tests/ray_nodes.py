"""Ray clusters of three nodes on this machine, and one small tournament to be played on them and beside them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from arena.store.store import open_store

NODES = 3
MISSING = "Ray is not installed: pip install 'arena-robustness[ray]'"
SETTINGS = """
[tournament]
samples = 16
chunk = 4
defenses = ["cnn"]
attacks = ["fgsm", "deepfool-l2", "salt-and-pepper", "invert"]
[attack.salt-and-pepper]
restarts = 2
"""
RESULTS = """
select defense.name, attack.name, sample, label, clean_label, adversarial_label, result.status, distance, l0, l2, linf,
       margin, queries, gradient_queries, best_query, adversarial, reason, defense.fingerprint, attack.fingerprint
from result join match on match.id = match_id join defense on defense.id = defense_id
     join attack on attack.id = attack_id
order by 1, 2, 3
"""
BOUNDS = """
select bound.name, norm, seed, sample, kind, value, bound.fingerprint, defense.fingerprint
from bound_value join bound on bound.id = bound_id join defense on defense.id = defense_id
where norm <> 'l1'  -- in which nothing of the tournament is played, so that `arena run` bounds nothing
order by 1, 2, 3, 4
"""
DISTALS = """
select defense.name, label, gradient, seed, distal.status, confidence, steps, queries, gradient_queries, image
from distal join defense on defense.id = defense_id
order by 1, 2, 3, 4
"""
_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def rows_of(url: str, query: str = RESULTS) -> list[tuple[Any, ...]]:
    """What a store holds, times of day and play left out."""
    with closing(open_store(url, create=False)) as store, store.reading() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


@contextmanager
def seen_by_nodes(*folders: Path) -> Iterator[None]:
    """Have the processes that start meanwhile find the packages in these folders, and the tests' own modules."""
    with pytest.MonkeyPatch.context() as patch:
        path = [*map(str, folders), str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        yield


@contextmanager
def cluster_of_three() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster`; skips without Ray."""
    utils = pytest.importorskip("ray.cluster_utils", reason=MISSING)
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path: that of a socket holds 107 bytes
    head = _NODE | {"include_dashboard": False, "temp_dir": folder}
    cluster = utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**_NODE)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started_by_hand(port: int) -> Iterator[str]:
    """The address of a cluster that `ray start` makes, as a user would by docs/cluster.md; skips without Ray."""
    pytest.importorskip("ray", reason=MISSING)
    folder, address = tempfile.mkdtemp(prefix="ray-"), f"127.0.0.1:{port}"
    each = ["--block", "--num-cpus=1", f"--object-store-memory={_NODE['object_store_memory']}"]
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    try:
        with ExitStack() as nodes:
            nodes.enter_context(_node_by_hand([*head, *each]))
            for _ in range(NODES - 1):
                nodes.enter_context(_node_by_hand([f"--address={address}", *each]))
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _node_by_hand(options: list[str]) -> Iterator[None]:
    """A node of `ray start --block`, from when it says that it runs."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said = list(takewhile(lambda line: "Ray runtime started" not in line, process.stdout))
        if process.poll() is not None:
            raise RuntimeError(f"ray start ended: {''.join(said)}")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def children() -> dict[int, list[int]]:
    """Process ids by parent, of all processes of this machine."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.setdefault(int(entry.read_text().rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
        except OSError:
            continue
    return found


def agents_of(cluster: Any) -> list[int]:
    """Process ids of the agents and of all that they have started."""
    tree, found = children(), []
    waiting = []
    for node in cluster.list_all_nodes():
        own = tree.get(node.all_processes["raylet"][0].process.pid, [])
        waiting += [pid for pid in own if is_agent(pid)]
    while waiting:
        found.append(waiting.pop())
        waiting += tree.get(found[-1], [])
    return found


def is_agent(pid: int) -> bool:
    """Whether a process is an agent of arena."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Agent")
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition came to hold in so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
