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


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--preset", metavar="NAME", help="A [preset.NAME] of the settings file: quick, paper.")
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="Only this defense (repeatable).")
@click.option("--norm", type=click.Choice(NORMS), help="One norm only.")
@click.option("--samples", type=int, help="Bound the first so many samples.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Of the search, for ABS.")
@options.db
@options.executor
@click.option("--quiet", is_flag=True, help="No progress bar.")
def bounds(
    config: Path | None, preset: str | None, defenses: tuple[str, ...], norm: Norm | None, seeds: int, **given: Any
) -> int:
    """Compute lower bounds on every adversarial's distance, for scores that are minima over prototypes.

    Certificates for the nearest neighbour, estimates for ABS (docs/bounds.md). Only what the store does not have is
    computed. Exit code 0: all computed; 1: some were not, they are listed; 2: bad usage or settings.
    """
    from rich.console import Console

    from arena.cli.progress import finish, follow, say_plan
    from arena.store.store import open_store
    from arena.tournament.config import load_config
    from arena.tournament.executors.opening import open_executor
    from arena.tournament.plan import bounds_of, plan_bounds
    from arena.tournament.roster import Failed, gather

    chosen = {"defenses": defenses or None, "samples": given["samples"]}
    settings = load_config(config, preset, tournament=chosen, run=options.how_to_run(given, "db"))
    console = Console(stderr=True, quiet=given["quiet"])
    with open_executor(settings) as executor:
        with console.status("loading the defenses"):
            contestants = gather(executor, "bound")
        roster = contestants.roster
        if not roster.with_prototypes:
            names = ", ".join(roster.defenses)
            raise UserError(f"no bound for {names}: a bound needs a score that is a minimum over prototypes")
        with closing(open_store(settings.run.db)) as store:
            plan, columns = plan_bounds(settings, store, contestants, norm, seeds)
            say_plan(plan, "bounds", store.name, console)
            failures = contestants.failures + follow(plan, executor, console)
            _show([(column, bounds_of(store, column, roster.data_hash)) for column in columns])
    if settings.tournament.defenses != "all":
        unbounded = sorted(set(roster.defenses) - roster.with_prototypes)
        failures += [Failed(name, "no bound: its score is no minimum over prototypes") for name in unbounded]
    return finish(failures)


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
    table = empty_table("bound", ["norm", "samples", "seeds", "mean", "median"])
    for name, members in groupby(columns, key=lambda column: column[0].defense.name):
        table.add_section()
        table.add_row(Text(name, style="bold"))
        for column, of_seeds in members:
            if values := [of_seed for of_seed in of_seeds if of_seed]:
                shape = [NORM_NAMES[column.norm], str(min(map(len, values))), str(len(values))]
                table.add_row(f" {column.kind}", *shape, summary(mean, values), summary(median, values))
    print(printed(table, console))
