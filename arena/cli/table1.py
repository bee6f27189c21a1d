"""`arena table1`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from arena.environment import default_db


@click.command()
@click.option("--db", metavar="URL", help="The store: an SQLAlchemy URL or the path of an SQLite file.")
@click.option("--compare", is_flag=True, help="Show the paper's cells beside ours.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "markdown", "latex"]),
    default="table",
    show_default=True,
)
def table1(db: str | None, compare: bool, form: Any) -> None:
    """Table 1 of the paper, as played here: attacks by norm, one column a defense, median distance / accuracy.

    The "All" rows are minima sample by sample: over the paper's attacks, then over everything that was played.
    """
    from arena.reporting.table1 import entries, render
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as store:
        print(render(entries(store), form, compare))
