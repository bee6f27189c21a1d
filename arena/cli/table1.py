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
@click.option("--page", is_flag=True, help="A whole page in Markdown, with what it does not know: docs/table1.md.")
@click.option("--note", default="", metavar="TEXT", help="What the page should say of how it was played: the commit.")
def table1(db: str | None, compare: bool, intervals: bool | None, form: Any, page: bool, note: str) -> None:
    """Table 1 of the paper, as played here: attacks by norm, one column a defense, median distance / accuracy.

    The "All" rows are minima sample by sample: over the paper's attacks, then over everything that was played.
    """
    from arena.reporting import document
    from arena.reporting.table1 import entries, render
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as store:
        print(document.page(store, note) if page else render(entries(store), form, compare, intervals=intervals))
