"""Which processes there are, for tests of what is left behind."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def is_gone(pid: int, seconds: float = 5) -> bool:
    """Whether a process ends within some seconds; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """The processes below a process."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def children(pid: int) -> list[int]:
    """The processes that a process has started, those that have ended meanwhile left out."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found
