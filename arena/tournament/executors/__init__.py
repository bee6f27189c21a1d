"""Where jobs run: what every executor promises."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, Self

from arena.tournament.jobs import Job


@dataclass(frozen=True)
class Answer:
    """What a job came to: plain data, not yet checked."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """A job that has no answer: why in one line, and the worker's traceback if it had one.

    usage: names or settings that cannot be had, not a fault of the job.
    """

    reason: str
    traceback: str | None = None
    usage: bool = False


class Executor(Protocol):
    """Runs jobs in workers. One job's death costs that job; leaving the context ends everything at once."""

    workers: int

    def submit(self, job: Job) -> Future[Answer | Failure]:
        """Run the job in a worker; its failure is a value."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
