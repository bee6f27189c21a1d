"""`arena bounds`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from arena.errors import UserError
from arena.geometry.norms import NORMS

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from arena.geometry.norms import Norm
    from arena.interface.contracts import Defense
    from arena.store.bounds import Series
    from arena.store.store import Store
    from arena.tournament.config import Config

BATCH = 20  # samples computed, and committed, at once


class _Column(NamedTuple):
    """What was computed for one defense: the bounds of each seed, one a sample."""

    defense: str
    kind: str
    norm: Norm
    values: list[list[float]]


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--preset", metavar="NAME", help="A [preset.NAME] of the settings file: quick, paper.")
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="Only this defense (repeatable).")
@click.option("--norm", type=click.Choice(NORMS), help="One norm only.")
@click.option("--samples", type=int, help="Bound the first so many samples.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Of the search, for ABS.")
@click.option("--db", metavar="URL", help="The store: an SQLAlchemy URL or the path of an SQLite file.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def bounds(
    config: Path | None, preset: str | None, defenses: tuple[str, ...], norm: Norm | None, seeds: int, **options: Any
) -> int:
    """Compute lower bounds on every adversarial's distance, for scores that are minima over prototypes.

    Certificates for the nearest neighbour, estimates for ABS (docs/bounds.md). Only what the store does not have is
    computed. Exit code 0: all computed; 1: some defenses have no such bound, they are listed; 2: bad usage or settings.
    """
    from rich.console import Console

    from arena.interface.registry import registry
    from arena.store.store import open_store
    from arena.tournament.config import load_config

    chosen = {"defenses": defenses or None, "samples": options["samples"]}
    settings = load_config(config, preset, tournament=chosen, run={"db": options["db"]})
    everyone = settings.tournament.defenses == "all"
    names = registry().names("defense") if everyone else settings.tournament.defenses
    bounded = [name for name in names if hasattr(registry().find("defense", name).cls, "prototypes")]
    if not bounded:
        raise UserError(f"no bound for {', '.join(names)}: a bound needs a score that is a minimum over prototypes")
    console = Console(stderr=True, quiet=options["quiet"])
    with closing(open_store(settings.run.db)) as store:
        columns = [column for name in bounded for column in _compute(settings, store, name, norm, seeds, console)]
    _show(columns)
    unbounded = [] if everyone else sorted(set(names) - set(bounded))
    for name in unbounded:
        print(f"no bound for {name}: its score is no minimum over prototypes", file=sys.stderr)
    return 1 if unbounded else 0


def _compute(
    config: Config, store: Store, name: str, norm: Norm | None, seeds: int, console: Console
) -> Iterator[_Column]:
    """Compute what the store does not have of one defense."""
    from arena.data import data_hash, load_data
    from arena.evaluation.bounds import KINDS
    from arena.interface.registry import load_defense
    from arena.store import bounds as bound_rows

    section, played = config.for_defense(name), config.tournament
    with console.status(f"{name}: loading"):
        defense = load_defense(name, weights=section.weights, device=config.run.device, **section.own)
        x, y = load_data(played.dataset, played.split)
        defense_id = store.register_defense(defense.identity)
    samples = min(section.samples or played.samples, played.samples)
    if samples > len(x):
        raise UserError(f"samples = {samples}: the {played.split} split of {played.dataset} has {len(x)}")
    data = x[:samples].to(defense.device), y[:samples].to(defense.device)
    hashed = data_hash(played.dataset, played.split)
    if defense.prototypes.finite:  # type: ignore[attr-defined]
        seeds = 1  # the minimum is exact
    for kind, of in ((kind, of) for kind in KINDS for of in NORMS if norm in (None, of)):
        if (kind, of) != ("separate", "l0"):
            series = [bound_rows.Series(defense_id, hashed, of, kind, seed) for seed in range(seeds)]
            yield _Column(name, kind, of, [_complete(store, one, defense, *data, console) for one in series])


def _complete(store: Store, series: Series, defense: Defense, x: Tensor, y: Tensor, console: Console) -> list[float]:
    """Compute and commit, batch by batch, the samples that a series lacks; returns its bounds of them all."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from arena.evaluation import bounds
    from arena.store import bounds as bound_rows

    known = bound_rows.read(store, series)
    missing = [sample for sample in range(len(x)) if sample not in known]
    compute = {"joint": bounds.joint, "separate": bounds.separate}[series.kind]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        what = f"{defense.name}: {series.kind} bound, {series.norm}, seed {series.seed}"
        bar = progress.add_task(what, total=len(missing))
        for at in range(0, len(missing), BATCH):
            batch = missing[at : at + BATCH]
            values = compute(defense, x[batch], y[batch], series.norm, seed=series.seed).value
            new = dict(zip(batch, values.tolist(), strict=True))
            bound_rows.append(store, series, new)
            store.make_current(series.defense_id)
            known |= new
            progress.advance(bar, len(batch))
    return [known[sample] for sample in range(len(x))]


def _show(columns: list[_Column]) -> None:
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
    for name, members in groupby(columns, key=lambda column: column.defense):
        table.add_section()
        table.add_row(Text(name, style="bold"))
        for _, kind, norm, values in members:
            shape = [NORM_NAMES[norm], str(len(values[0])), str(len(values))]
            table.add_row(f" {kind}", *shape, summary(mean, values), summary(median, values))
    print(printed(table, console))
