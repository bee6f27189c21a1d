"""`arena report`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from arena.cli import options
from arena.environment import default_db


@click.command()
@options.db
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The page to write.",
)
def report(db: str | None, out: Path) -> None:
    """Write everything that the store knows into one HTML page that needs no network."""
    from arena.reporting.html import write_report
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as store:
        size = write_report(store, out)
    print(f"wrote {out} ({size / 1e6:.1f} MB)")
