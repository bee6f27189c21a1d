"""What runs on the nodes of a Ray cluster: an actor with arena's own worker processes."""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import ray

from arena.tournament.config import Config
from arena.tournament.executors.local import START_TIMEOUT, LocalExecutor
from arena.tournament.executors.parcels import Parcel, unpacked
from arena.tournament.executors.wire import encode
from arena.tournament.jobs import NodeJob


class Agent:
    """Plays jobs in processes of its node, by the rules of one machine; each call has a thread of its own.

    When the agent ends, in whatever way, so do its processes.
    """

    def __init__(self, config: Config, slots: int, role: str, parcels: Mapping[str, Parcel]) -> None:
        own = str(Path(ray.__file__).parent)  # Ray lends its workers libraries of its own, which plugins must not get
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(own)]
        self._executor = LocalExecutor(config, slots, role, unpacked(parcels))

    def introduce(self) -> tuple[str, bytes]:
        """The node for readers, and its encoded description, by a worker."""
        where = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
        return where, self.play(pickle.dumps(NodeJob(START_TIMEOUT, foreign=False)))

    def play(self, job: bytes) -> bytes:
        """The encoded outcome of a pickled job."""
        return encode(0, self._executor.submit(pickle.loads(job)).result())
