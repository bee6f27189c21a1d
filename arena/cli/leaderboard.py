"""`arena leaderboard`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from arena.cli import options
from arena.environment import default_db


@click.command()
@options.db
@options.norm
@click.option("--by", type=click.Choice(["defense", "attack", "match"]), default="match", show_default=True)
@click.option("--cross-norm", is_flag=True, help="Count every adversarial as evidence in all norms.")
@click.option(
    "--epsilon",
    "epsilons",
    type=options.Threshold(),
    multiple=True,
    help="Accuracy at this threshold instead of the data set's (repeatable).",
)
@click.option(
    "--against", metavar="DEFENSE", help="Add what every defense has more than this one, on the samples that both have."
)
@click.option("--curve", is_flag=True, help="Add the median distance after 10, 100, 1000 and 10000 queries.")
@options.intervals
@options.form
def leaderboard(
    db: str | None,
    norm: Any,
    by: Any,
    cross_norm: bool,
    epsilons: tuple[tuple[str, float], ...],
    against: str | None,
    curve: bool,
    intervals: bool | None,
    form: Any,
) -> None:
    """Median distance, and accuracy at the thresholds, of every defense under every attack and under all.

    --by defense ranks the defenses: P(rank) is the share of 1000 resamples, of the samples that all of them have, in
    which each has its rank, P(first) that in which it is the most robust. --by attack ranks the attacks on each
    defense: optimality, samples that only it broke, queries and seconds. JSON by match has the curve of distance
    against queries whole.
    """
    from arena.reporting.columns import render
    from arena.store.store import open_store

    curves = curve or (form == "json" and by == "match")
    with closing(open_store(db or default_db(), create=False)) as store:
        rows = store.leaderboard(norm, by, cross_norm, dict(epsilons), curves=curves, against=against)
    print(render(rows, form, intervals=intervals))
