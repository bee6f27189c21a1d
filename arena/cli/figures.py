"""`arena figures`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from arena.cli import options
from arena.environment import default_db


@click.command()
@options.db
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write into.")
@click.option("--format", "form", type=click.Choice(["png", "svg", "both"]), default="both", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which samples galleries show.")
def figures(db: str | None, out: Path, form: str, seed: int) -> None:
    """Draw the paper's figures, and distance against queries, from what the store has."""
    from arena.reporting.figures import write_figures
    from arena.store.store import open_store

    formats = ("png", "svg") if form == "both" else (form,)
    with closing(open_store(db or default_db(), create=False)) as store:
        for file in write_figures(store, out, formats, seed):
            print(f"wrote {file}")
