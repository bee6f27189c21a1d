"""Which processes there are, for tests of what is left behind."""

from __future__ import annotations

import time
from pathlib import Path


def is_gone(pid: int | str, seconds: float = 5) -> bool:
    """Whether a process ends within some seconds; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def descendants(pid: int) -> list[str]:
    """The processes below a process."""
    found, waiting = [], [str(pid)]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            children = task.read_text().split()
            found += children
            waiting += children
    return found
