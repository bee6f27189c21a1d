"""`arena bounds`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arena.cli import options
from arena.errors import UserError
from arena.geometry.norms import NORMS

if TYPE_CHECKING:
    from arena.geometry.norms import Norm
    from arena.tournament.plan import Column
    from arena.tournament.roster import Contestants


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@options.preset
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="Only this defense (repeatable).")
@click.option("--bound", "chosen", multiple=True, metavar="NAME", help="Only this bound (repeatable).")
@click.option("--norm", type=click.Choice(NORMS), help="One norm only.")
@click.option("--samples", type=int, help="Bound the first so many samples.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Of what is no certificate.")
@options.db
@options.executor
@click.option("--quiet", is_flag=True, help="No progress bar.")
def bounds(
    config: Path | None,
    preset: str | None,
    defenses: tuple[str, ...],
    chosen: tuple[str, ...],
    norm: Norm | None,
    seeds: int,
    **given: Any,
) -> int:
    """Compute lower bounds on every adversarial's distance: by all bounds that speak of a defense, cheap or not.

    docs/bounds.md says what each is worth. Only what the store does not have is computed. Exit code 0: all computed; 1:
    some were not, they are listed; 2: bad usage or settings.
    """
    from rich.console import Console

    from arena.cli.progress import finish, follow, say_plan
    from arena.store.store import open_store
    from arena.tournament.config import load_config
    from arena.tournament.executors.opening import open_executor
    from arena.tournament.plan import bounds_of, plan_bounds
    from arena.tournament.roster import Failed, gather

    asked = {"defenses": defenses or None, "samples": given["samples"], "bounds": chosen or "all"}
    settings = load_config(config, preset, tournament=asked, run=options.how_to_run(given, "db"))
    console = Console(stderr=True, quiet=given["quiet"])
    with open_executor(settings) as executor:
        with console.status("loading the defenses"):
            contestants = gather(executor, "bound")
        refused = _refused(contestants)
        if refused and len(refused) == len(contestants.defenses):
            raise UserError("; ".join(f"no bound for {name}: {reason}" for name, reason in refused.items()))
        with closing(open_store(settings.run.db)) as store:
            plan, columns = plan_bounds(settings, store, contestants, norm, seeds)
            say_plan(plan, "bounds", store.name, console)
            failures = contestants.failures + follow(plan, executor, console)
            _show([(column, bounds_of(store, column, contestants.roster.data_hash)) for column in columns])
    if settings.tournament.defenses != "all":
        failures += [Failed(name, f"no bound: {reason}") for name, reason in refused.items()]
    return finish(failures)


def _refused(contestants: Contestants) -> dict[str, str]:
    """The defenses of which no bound speaks, and why each does not."""
    refused = {}
    for name, answers in contestants.applicable.items():
        if answers and all(answer.kind is None for answer in answers):
            by_reason: dict[str | None, list[str]] = {}
            for answer in answers:
                by_reason.setdefault(answer.refusal, []).append(answer.bound)
            refused[name] = ", ".join(f"{reason} ({', '.join(bounds)})" for reason, bounds in by_reason.items())
    return refused


def _show(columns: list[tuple[Column, list[list[float]]]]) -> None:
    """Print the mean and the median over samples; over several seeds their means and standard deviations."""
    from itertools import groupby
    from statistics import mean, median, stdev

    from rich.text import Text

    from arena.reporting.text import NORM_NAMES, empty_table, printed, screen

    def summary(statistic: Callable[[list[float]], float], values: list[list[float]]) -> str:
        of_seeds = [statistic(of_seed) for of_seed in values]
        spread = f" \N{PLUS-MINUS SIGN} {stdev(of_seeds):.1g}" if len(of_seeds) > 1 else ""
        return f"{mean(of_seeds):.4g}{spread}"

    console = screen()
    table = empty_table("bound", ["kind", "norm", "samples", "seeds", "mean", "median"])
    for name, members in groupby(columns, key=lambda column: column[0].defense.name):
        table.add_section()
        table.add_row(Text(name, style="bold"))
        for column, of_seeds in members:
            if values := [of_seed for of_seed in of_seeds if of_seed]:
                shape = [column.kind, NORM_NAMES[column.norm], str(min(map(len, values))), str(len(values))]
                row = [*shape, summary(mean, values), summary(median, values)]
                table.add_row(Text(f" {column.bound.name}"), *row)
    print(printed(table, console))
