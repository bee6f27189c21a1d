"""What `arena run` prints: progress with the time left, what failed, and the leaderboard."""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from arena.reporting.columns import render
from arena.store.store import Store, open_store
from arena.tournament import plan as tournament
from arena.tournament.config import Config, describe_preset
from arena.tournament.executors.local import Workers, worker_count
from arena.tournament.plan import Failure, Plan
from arena.tournament.worker import Unit


def run_tournament(config: Config, quiet: bool) -> int:
    """Play the configured tournament; returns the exit code: 0 all played, 1 some units failed."""
    console = Console(stderr=True, quiet=quiet)
    with Workers(config, worker_count(config)) as workers:
        with console.status("loading the contestants"):
            lineup = tournament.gather(workers)
        for problem in lineup.field.problems:
            console.print(f"[yellow]not loaded:[/yellow] {problem}", highlight=False)
        with closing(open_store(config.run.db)) as store:
            plan = tournament.plan(config, store, lineup)
            left = f"{len(plan.units)} units to play"
            console.print(f"{left}, {plan.settled} samples already settled in {config.run.db}", highlight=False)
            failures = lineup.failures + _play(plan, store, workers, console)
            if not quiet:
                print(render(store.leaderboard(), "table"))
    for failure in failures:
        print(f"failed: {failure.what}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def say_preset(file: Path, preset: str) -> None:
    """Say how a preset differs from the settings that it is laid over."""
    print(f"preset {preset} of {file}:", file=sys.stderr)
    for line in describe_preset(file, preset):
        print(f"  {line}", file=sys.stderr)


def _play(plan: Plan, store: Store, workers: Workers, console: Console) -> list[Failure]:
    """Play the plan under a progress bar; returns the failures."""
    failures = []
    clock = _TimeLeft(plan.units, workers.count)
    text = "{task.completed}/{task.total} {task.fields[left]}"
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn(text)
    with Progress(*columns, console=console, transient=True, disable=console.quiet) as progress:
        bar = progress.add_task("playing", total=len(plan.units), left="")
        for played in tournament.play(plan, store, workers):
            clock.over(played.unit, played.seconds)
            if played.failure:
                failures.append(played.failure)
                console.print(f"[red]failed:[/red] {played.failure.what}: {played.failure.reason}", highlight=False)
            progress.update(bar, advance=1, left=str(clock))
    return failures


class _TimeLeft:
    """Estimates the time left from what each match has cost a sample so far; matches differ a thousandfold."""

    def __init__(self, units: list[Unit], workers: int) -> None:
        self._workers = workers
        self._left: dict[int, int] = defaultdict(int)
        self._spent: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for unit in units:
            self._left[unit.match_id] += len(unit.samples)

    def over(self, unit: Unit, seconds: float) -> None:
        self._left[unit.match_id] -= len(unit.samples)
        cost = self._spent[unit.match_id]
        cost[0] += seconds
        cost[1] += len(unit.samples)

    def __str__(self) -> str:
        rates = {match: seconds / samples for match, (seconds, samples) in self._spent.items()}
        typical = sum(rates.values()) / len(rates)
        seconds = sum(left * rates.get(match, typical) for match, left in self._left.items()) / self._workers
        return f"about {seconds / 60:.0f} min left" if seconds > 120 else f"about {seconds:.0f} s left"
