"""`arena ensemble`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from arena.cli import options
from arena.environment import default_db


@click.command()
@options.db
@options.norm
@options.form
def ensemble(db: str | None, norm: Any, form: Any) -> None:
    """The fewest attacks that come within 1 % of the closest adversarial on 99 % of the samples: run these next time.

    Of as few, the fastest. For each: its seconds a sample, the samples that it reaches alone, those that are lost
    without it, and how many times the distance of one grows at worst. JSON and CSV have every attack.
    """
    from arena.reporting.ensemble import render
    from arena.store.ensemble import ensembles
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as store, store.reading() as connection:
        print(render(ensembles(connection, norm), form))
