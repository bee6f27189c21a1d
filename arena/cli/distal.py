"""`arena distal`."""

from __future__ import annotations

from contextlib import closing
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from arena.cli import options

if TYPE_CHECKING:
    from arena.interface.results import Distal


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@options.preset
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="Only this defense (repeatable).")
@click.option(
    "--gradient",
    type=click.Choice(["exact", "estimated"]),
    default="exact",
    show_default=True,
    help="The defense's own gradient, or differences of its scores: two queries a pixel and step.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=200, show_default=True, help="The most that an ascent may take."
)
@click.option("--seed", type=int, help="Of the noise; default: the tournament's.")
@options.db
@options.executor
@click.option("--quiet", is_flag=True, help="No progress bar.")
def distal(
    config: Path | None, preset: str | None, defenses: tuple[str, ...], gradient: str, steps: int, **given: Any
) -> int:
    """Turn noise into images that each defense is 90 % sure of, class by class (paper, Figure 4).

    Ascends only for what the store does not have, then shows for how many classes it came to that. Exit code 0: every
    ascent ended; 1: some failed, they are listed; 2: bad usage or settings.
    """
    from rich.console import Console

    from arena.cli.progress import finish, follow, say_plan
    from arena.store import distals as distal_rows
    from arena.store.store import open_store
    from arena.tournament.config import load_config
    from arena.tournament.executors.opening import open_executor
    from arena.tournament.plan import plan_distals
    from arena.tournament.roster import gather

    chosen = {"defenses": defenses or None, "seed": given["seed"]}
    settings = load_config(config, preset, tournament=chosen, run=options.how_to_run(given, "db"))
    console = Console(stderr=True, quiet=given["quiet"])
    with open_executor(settings) as executor:
        with console.status("loading the defenses"):
            contestants = gather(executor, "distal", estimated=gradient == "estimated")
        with closing(open_store(settings.run.db)) as store:
            plan = plan_distals(settings, store, contestants, steps)
            say_plan(plan, "classes", store.name, console)
            failures = contestants.failures + follow(plan, executor, console)
            with store.reading() as connection:
                ended = distal_rows.read(connection)
    _show({name: ended[name] for name in contestants.roster.defenses if name in ended})
    return finish(failures)


def _show(ended: dict[str, list[Distal]]) -> None:
    """Print, for every defense and kind of gradient, how often and how fast the confidence was reached."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("defense", "gradient", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("classes", "reached 0.9", "median steps", "median queries"):
        table.add_column(name, justify="right")
    for name, ascents in ended.items():
        for gradient, group in groupby(ascents, key=lambda one: one.gradient):
            rows = list(group)
            found = [one for one in rows if one.status == "found"]
            steps, queries = ([one.steps for one in found], [one.queries + one.gradient_queries for one in found])
            medians = (f"{median(values):g}" if values else "" for values in (steps, queries))
            table.add_row(name, gradient, str(len(rows)), f"{len(found) / len(rows):.0%}", *medians)
    Console().print(table)
