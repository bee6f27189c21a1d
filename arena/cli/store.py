"""`arena store`."""

from __future__ import annotations

from contextlib import closing

import click

from arena.cli import options


@click.group()
def store() -> None:
    """Look after a database."""


@store.command()
@options.db
@click.option(
    "--keep",
    type=click.Choice(["best"]),
    required=True,
    help="best: of each sample the closest adversarial, for every norm and defense.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go; change nothing.")
def prune(db: str | None, keep: str, dry_run: bool) -> None:
    """Remove the images of all other adversarials, which make up most of a database.

    Their rows stay, with every distance: leaderboards and figures stay as they are, and nothing is played again.
    `arena verify` checks of them what needs no image, and says of how many.
    """
    from arena.environment import default_db
    from arena.store.prune import keep_best
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as opened:
        found = keep_best(opened, dry_run)
    images = f"{found.pruned} of {found.pruned + found.kept} images"
    if dry_run:
        print(f"{images} would be removed: {_bytes(found.bytes)}")
    else:
        print(f"{images} removed, the database is {_bytes(found.bytes)} smaller")


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"
