"""How every command that plays shows it: a bar in a terminal, a line now and then in a log, and what failed."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from arena.tournament.executors import Executor
from arena.tournament.jobs import Job
from arena.tournament.plan import Plan
from arena.tournament.play import play
from arena.tournament.roster import Failed

LOG_SECONDS = 30.0  # between two lines of a log


def follow(plan: Plan, executor: Executor, console: Console) -> list[Failed]:
    """Play the plan, show its progress, print what its jobs have to say; returns the failures."""
    failures: list[Failed] = []
    clock = TimeLeft(plan.sizes, executor.workers)
    log = Log(plan.total)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[left]}"),
    )
    bars = console.is_terminal and not console.quiet
    progress = Progress(*columns, console=console, transient=True, disable=not bars, redirect_stdout=False)
    with progress:
        bar = progress.add_task("playing", total=plan.total, left="")
        for played in play(plan, executor):
            clock.over(played.job, played.seconds)
            if played.failure:
                failed = Failed(played.job.label, played.failure.reason)
                failures.append(failed)
                console.print(Text.assemble(("failed:", "red"), f" {failed.what}: {failed.reason}"))
            if played.lines:
                progress.stop()  # the lines are results and go to standard output, which may be the same terminal
                print(*played.lines, sep="\n")
                progress.start()
            progress.update(bar, advance=1, left=str(clock))
            if not bars:
                log.over(console, len(failures), str(clock))
    return failures


def finish(failures: list[Failed]) -> int:
    """List what failed on standard error; returns the exit code: 0 for nothing, else 1."""
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def say_plan(plan: Plan, what: str, store: str, console: Console) -> None:
    """Say how much there is to do; what: what is settled, in the plural."""
    jobs = "1 job" if plan.total == 1 else f"{plan.total} jobs"
    console.print(Text(f"{jobs} to play, {plan.settled} {what} already settled in {store}"))


class Log:
    """Progress for a file: one line every half minute."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._said = time.monotonic()

    def over(self, console: Console, failed: int, left: str) -> None:
        """Count a job, and say so if it is time."""
        self._done += 1
        if time.monotonic() - self._said >= LOG_SECONDS:
            self._said = time.monotonic()
            console.print(f"{self._done} of {self._total} jobs done, {failed} failed, {left}", highlight=False)


class TimeLeft:
    """Estimates the time left from what each group has cost a sample so far; groups differ a thousandfold."""

    def __init__(self, sizes: Counter[str], workers: int) -> None:
        self._left, self._workers = sizes.copy(), workers
        self._seconds: dict[str, float] = defaultdict(float)
        self._sizes: dict[str, int] = defaultdict(int)

    def over(self, job: Job, seconds: float) -> None:
        """Count a job that took so many seconds."""
        self._left[job.group] -= job.size
        if seconds:  # one that failed tells nothing
            self._seconds[job.group] += seconds
            self._sizes[job.group] += job.size

    def __str__(self) -> str:
        rates = {group: seconds / self._sizes[group] for group, seconds in self._seconds.items()}
        if not rates:
            return "time left unknown"
        typical = sum(rates.values()) / len(rates)
        seconds = sum(left * rates.get(group, typical) for group, left in self._left.items()) / self._workers
        return f"about {seconds / 60:.0f} min left" if seconds > 120 else f"about {seconds:.0f} s left"
