"""The environment variables: the only place that reads them. Imports nothing, for every command needs it."""

from __future__ import annotations

import os
from pathlib import Path


def default_db() -> str:
    """ARENA_DB: the store, where no other is named; else arena.db in the current folder."""
    return os.environ.get("ARENA_DB") or "sqlite:///arena.db"


def data_folder() -> Path | None:
    """ARENA_DATA: where data sets are kept, instead of the user's cache folder."""
    folder = os.environ.get("ARENA_DATA")
    return Path(folder) if folder else None


def ray_address() -> str | None:
    """RAY_ADDRESS, which is Ray's own: the head of the cluster, where no other is named."""
    return os.environ.get("RAY_ADDRESS") or None


def wants_traceback() -> bool:
    """ARENA_TRACEBACK: set it to see the traceback of an unexpected error."""
    return bool(os.environ.get("ARENA_TRACEBACK"))


def for_workers() -> dict[str, str]:
    """The environment of worker processes: without the store's address, which may hold a password, and one thread.

    Libraries read the number of threads while they are imported; a process with threads must not be forked.
    """
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {name: value for name, value in os.environ.items() if name != "ARENA_DB"} | one_thread
