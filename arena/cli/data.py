"""`arena data`."""

from __future__ import annotations

import click


@click.group()
def data() -> None:
    """Fetch and verify data sets."""


@data.command()
@click.argument("dataset", default="mnist")
def fetch(dataset: str) -> None:
    """Get a data set from the first source that answers; its hash decides."""
    from arena.data import fetch

    print(f"{dataset} is in {fetch(dataset)}")


@data.command()
@click.argument("dataset", default="mnist")
def verify(dataset: str) -> None:
    """Check the cached files against their hashes."""
    from arena.data import verify

    verify(dataset)
    print(f"{dataset}: all hashes agree")
