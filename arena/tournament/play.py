"""Plays any plan: hands its jobs to an executor and each answer to the plan's sink. The only writer of the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from arena.tournament import answers
from arena.tournament.executors import Answer, Executor, Failure
from arena.tournament.jobs import Job
from arena.tournament.plan import Plan

WAIT = 1.0  # seconds between two looks at what another coordinator plays


@dataclass(frozen=True)
class Played:
    """A job that is over and committed: the seconds it took (0 if it failed), what there is to say, why it failed."""

    job: Job
    seconds: float
    lines: list[str]
    failure: Failure | None


def play(plan: Plan, executor: Executor) -> Iterator[Played]:
    """Play and commit the plan's jobs; yields each as it is over, in no particular order.

    What another coordinator plays comes last: it is over when that one has settled it, or ours if that one has ended.
    """
    plan.sink.begin()
    waiting = iter(plan.jobs)
    running: dict[Future[Answer | Failure], Job] = {}
    theirs: list[Job] = []
    while True:
        # Few at a time: a stop then has little to take back.
        while len(running) < 2 * executor.workers and (job := next(waiting, None)) is not None:
            match plan.sink.claim(job):
                case "ours":
                    running[executor.submit(job)] = job
                case "theirs":
                    theirs.append(job)
                case "settled":
                    yield Played(job, 0.0, [], None)
        if not running:
            if not theirs:
                return
            time.sleep(WAIT)
            waiting, theirs = iter(theirs), []
            continue
        done = wait(running, return_when=FIRST_COMPLETED).done
        over = [one for one in running if one in done]  # in order of play
        played = [_take(plan, running.pop(future), future.result()) for future in over]
        plan.sink.flush()
        yield from played


def _take(plan: Plan, job: Job, outcome: Answer | Failure) -> Played:
    if isinstance(outcome, Answer):
        try:
            rows, seconds = answers.rows_and_seconds(outcome.value)
            return Played(job, seconds, plan.sink.take(job, rows), None)
        except answers.WrongAnswer as failure:
            outcome = Failure(f"the answer is not what was asked for: {failure}")
    plan.sink.fail(job, outcome)
    return Played(job, 0.0, [], outcome)
