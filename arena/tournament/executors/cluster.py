"""A Ray cluster as the coordinator sees it: found, joined, and left, without harm to this process."""

from __future__ import annotations

import logging
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from arena import environment
from arena.errors import UserError
from arena.tournament.config import RunSettings

CONNECT_TIMEOUT = 5.0  # seconds; Ray itself would try for minutes
MOST_SLOTS = 8  # of an agent by default: what is lost with it is played again


def join(address: str) -> None:
    """Connect this process to the cluster; raises UserError. address: HOST:PORT of the head, or auto."""
    head = _head(address)
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {head} ({error}): `ray start --head` starts one, --address names it"
        ) from None
    # Ray prints hundreds of lines about each lost node there too; it has no public switch.
    ray._private.worker._worker_logs_enabled = False
    with _own_signals():
        try:
            # The output of agents stays in Ray's logs on their nodes: standard output is for the leaderboard.
            ray.init(address=head, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises many kinds
            raise UserError(f"Ray at {head}: {said(error)} (this machine must be a node of the cluster)") from None


def leave() -> None:
    """Disconnect this process."""
    with _own_signals():
        ray.shutdown()


def slices(settings: RunSettings) -> list[int]:
    """The slots of each agent: as many workers as configured, or as the nodes that are there have room for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    gpus, slots = settings.ray.gpus, settings.ray.slots
    if slots is None:
        slots = 1 if gpus else min([MOST_SLOTS, *(int(node["CPU"]) for node in nodes)])
    if settings.workers is not None:
        full, rest = divmod(settings.workers, slots)
        return full * [slots] + ([rest] if rest else [])
    room = 0
    for node in nodes:
        of_cpus = int(node["CPU"] // slots)
        room += min(of_cpus, int(node.get("GPU", 0) // gpus)) if gpus else of_cpus
    if not room:
        has = f"{slots} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        raise UserError(f"no node of the Ray cluster has {has}: set fewer in [run.ray], or start nodes that have them")
    return room * [slots]


def said(error: BaseException) -> str:
    """What Ray says, in one line: its last, for before it come tracebacks of its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _head(address: str) -> str:
    if address != "auto":
        if "://" in address:
            raise UserError(f"address = {address!r}: write HOST:PORT; Ray's client protocol cannot be used")
        return address
    if named := environment.ray_address():
        return named
    last = Path(tempfile.gettempdir(), "ray", "ray_current_cluster")  # written by `ray start`
    if last.exists():
        return last.read_text().strip()
    raise UserError("no Ray cluster runs on this machine: start one with `ray start --head`, or name it by --address")


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the signal handlers of this process: Ray replaces them, and would end it without closing the store."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                signal.signal(number, handler)
