"""`arena table1`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from arena.cli import options
from arena.environment import default_db


@click.command()
@options.db
@click.option("--compare", is_flag=True, help="Show the paper's cells beside ours.")
@options.intervals
@options.form
def table1(db: str | None, compare: bool, intervals: bool | None, form: Any) -> None:
    """Table 1 of the paper, as played here: attacks by norm, one column a defense, median distance / accuracy.

    The "All" rows are minima sample by sample: over the paper's attacks, then over everything that was played.
    """
    from arena.reporting.table1 import entries, render
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as store:
        print(render(entries(store), form, compare, intervals=intervals))
