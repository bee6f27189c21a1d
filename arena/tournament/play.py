"""Plays any plan: hands its jobs to an executor and each answer to the plan's sink. The only writer of the store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from arena.tournament import answers
from arena.tournament.executors import Answer, Executor, Failure
from arena.tournament.jobs import Job
from arena.tournament.plan import Plan


@dataclass(frozen=True)
class Played:
    """A job that is over and committed: the seconds it took (0 if it failed), what there is to say, why it failed."""

    job: Job
    seconds: float
    lines: list[str]
    failure: Failure | None


def play(plan: Plan, executor: Executor) -> Iterator[Played]:
    """Play and commit the plan's jobs; yields each as it is over, in no particular order."""
    plan.sink.begin()
    waiting = iter(plan.jobs)
    running: dict[Future[Answer | Failure], Job] = {}
    while True:
        # Few at a time: a stop then has little to take back.
        while len(running) < 2 * executor.workers and (job := next(waiting, None)) is not None:
            running[executor.submit(job)] = job
        if not running:
            return
        done = wait(running, return_when=FIRST_COMPLETED).done
        for future in [one for one in running if one in done]:  # in order of play
            yield _commit(plan, running.pop(future), future.result())


def _commit(plan: Plan, job: Job, outcome: Answer | Failure) -> Played:
    if isinstance(outcome, Answer):
        try:
            rows, seconds = answers.rows_and_seconds(outcome.value)
            return Played(job, seconds, plan.sink.take(job, rows), None)
        except answers.WrongAnswer as failure:
            outcome = Failure(f"the answer is not what was asked for: {failure}")
    plan.sink.fail(job, outcome)
    return Played(job, 0.0, [], outcome)
