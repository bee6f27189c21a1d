"""`arena distal`."""

from __future__ import annotations

import sys
from contextlib import closing
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from arena.interface.results import Distal
    from arena.store.store import Store
    from arena.tournament.config import Config


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--preset", metavar="NAME", help="A [preset.NAME] of the settings file: quick, paper.")
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="Only this defense (repeatable).")
@click.option(
    "--gradient",
    type=click.Choice(["exact", "estimated"]),
    default="exact",
    show_default=True,
    help="The defense's own gradient, or differences of its scores: 1568 queries a step.",
)
@click.option("--steps", type=click.IntRange(min=1), help="The most that an ascent may take.")
@click.option("--seed", type=int, help="Of the noise; default: the tournament's.")
@click.option("--db", metavar="URL", help="The store: an SQLAlchemy URL or the path of an SQLite file.")
def distal(
    config: Path | None, preset: str | None, defenses: tuple[str, ...], gradient: str, steps: int | None, **options: Any
) -> int:
    """Turn noise into images that each defense is 90 % sure of, class by class (paper, Figure 4).

    Ascends only for what the store does not have, then shows for how many classes it came to that. Exit code 0: every
    defense was asked; 1: some could not be, they are listed; 2: bad usage or settings.
    """
    from rich.console import Console

    from arena.interface.registry import registry
    from arena.store import distals as distal_rows
    from arena.store.store import open_store
    from arena.tournament.config import load_config

    chosen = {"defenses": defenses or None, "seed": options["seed"]}
    settings = load_config(config, preset, tournament=chosen, run={"db": options["db"]})
    everyone = settings.tournament.defenses == "all"
    names = registry().names("defense") if everyone else settings.tournament.defenses
    for name in names:
        registry().find("defense", name)  # an unknown one is an error before the first is asked
    console, failures = Console(stderr=True), []
    with closing(open_store(settings.run.db)) as store:
        for name in names:
            try:
                _ascend(settings, store, name, gradient == "estimated", steps, console)
            except Exception as failure:  # a plugin may raise anything
                failures.append(f"failed: {name}: {' '.join(str(failure).split()) or type(failure).__name__}")
        with store.reading() as connection:
            ended = distal_rows.read(connection)
    _show({name: ended[name] for name in names if name in ended})
    for line in failures:
        print(line, file=sys.stderr)
    return 1 if failures else 0


def _ascend(config: Config, store: Store, name: str, estimated: bool, steps: int | None, console: Console) -> None:
    """Ascend for the classes that the store does not have, and commit each as it ends."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from arena.evaluation import distal
    from arena.interface.registry import load_defense
    from arena.store import distals as distal_rows

    section, seed, steps = config.for_defense(name), config.tournament.seed, steps or distal.STEPS
    with console.status(f"{name}: loading"):
        defense = load_defense(name, weights=section.weights, device=config.run.device, **section.own)
        gradient = distal.gradient_source(defense, estimated)
        defense_id = store.register_defense(defense.identity)
        settled = distal_rows.settled(store, defense_id, gradient, seed, steps)
        missing = [label for label in range(distal.count_classes(defense)) if label not in settled]
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("at most"), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"{name}: {len(missing)} classes", total=steps)
        ascents = distal.ascend(
            defense,
            missing,
            estimated=estimated,
            steps=steps,
            seed=seed,
            watch=lambda step: progress.update(bar, completed=step),
        )
        for left, ended in enumerate(ascents, 1 - len(missing)):
            distal_rows.append(store, defense_id, ended)
            store.make_current(defense_id)
            progress.update(bar, description=f"{name}: {-left} classes")


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
