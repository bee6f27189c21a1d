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


def wants_traceback() -> bool:
    """ARENA_TRACEBACK: set it to see the traceback of an unexpected error."""
    return bool(os.environ.get("ARENA_TRACEBACK"))
