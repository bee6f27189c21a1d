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
from typing import Any, Self

import pytest
from processes import children, is_gone
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


class ThreeNodes:
    """A `ray.cluster_utils.Cluster` of three nodes of one processor each; skips without Ray."""

    def __init__(self) -> None:
        self._utils = pytest.importorskip("ray.cluster_utils", reason=MISSING)
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Of the head; another one after `renew`."""
        return str(self._cluster.address)

    def raylets(self) -> list[int]:
        """The process ids of the nodes' raylets, the head's first. Agents are their children."""
        return [self._raylet(node) for node in self._cluster.list_all_nodes()]

    def head(self) -> list[int]:
        """The process ids of all that makes the head."""
        return [one.process.pid for of_kind in self._cluster.head_node.all_processes.values() for one in of_kind]

    def agents(self) -> list[int]:
        """Process ids of arena's agents."""
        return [pid for raylet in self.raylets() for pid in children(raylet) if is_agent(pid)]

    def heal(self) -> None:
        """Replace nodes whose raylet is gone, or everything if it is the head's."""
        if is_gone(self.raylets()[0], 0):
            self.renew()
        for node in list(self._cluster.worker_nodes):
            if is_gone(self._raylet(node), 0):
                self._cluster.remove_node(node, allow_graceful=False)
                self._cluster.add_node(**_NODE)

    def renew(self) -> None:
        """Another cluster in its place."""
        self.close()
        self._start()

    def close(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray-")  # a short path: that of a socket holds 107 bytes
        head = _NODE | {"include_dashboard": False, "temp_dir": self._folder}
        self._cluster = self._utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(NODES - 1):
            self._cluster.add_node(**_NODE)

    def _raylet(self, node: Any) -> int:
        pid: int = node.all_processes["raylet"][0].process.pid
        return pid


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
