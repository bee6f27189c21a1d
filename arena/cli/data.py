"""`arena data`."""

from __future__ import annotations

import click

from arena.cli import options


@click.group()
def data() -> None:
    """List, fetch, verify and show data sets."""


@data.command("list")
def list_() -> None:
    """The data sets that ship and those of plugins: shape, classes, splits."""
    from rich.text import Text

    from arena.data import known_datasets
    from arena.reporting.text import empty_table, printed, screen

    console = screen()
    table = empty_table("data set", ["shape", "classes", "splits", "package"])
    for dataset, package in known_datasets():
        shape = " x ".join(map(str, dataset.shape))
        table.add_row(Text(dataset.name), shape, str(dataset.classes), ", ".join(dataset.splits), Text(package))
    print(printed(table, console))


@data.command()
@click.argument("dataset", default=options.default_dataset)
def fetch(dataset: str) -> None:
    """Get a data set from the first source that answers; its hash decides."""
    from arena.data import find_dataset

    print(f"{dataset} is in {find_dataset(dataset).fetch()}")


@data.command()
@click.argument("dataset", default=options.default_dataset)
def verify(dataset: str) -> None:
    """Check the files on this machine against their hashes."""
    from arena.data import find_dataset

    print(f"{dataset}: all hashes agree ({find_dataset(dataset).verify()})")


@data.command()
@click.argument("dataset", default=options.default_dataset)
@click.argument("config", required=False, type=click.Path())
def show(dataset: str, config: str | None) -> None:
    """What a data set is, as arena reads it: a name, or a [dataset.NAME] of the settings file CONFIG."""
    from pathlib import Path

    from arena.data import find_dataset, load_split
    from arena.tournament.config import load_config

    found = find_dataset(dataset, load_config(Path(config) if config else None).dataset)
    print(f"{found.name}: images {list(found.shape)}, {found.classes} classes")
    if found.class_names:
        print(f"classes: {', '.join(found.class_names)}")
    thresholds = ", ".join(f"{norm} {epsilon:g}" for norm, epsilon in found.thresholds.items())
    print(f"accuracies are read at: {thresholds or 'nothing (no thresholds)'}")
    for split in found.splits:
        x, y = load_split(found, split)
        print(f"{split}: {len(x)} images in [{x.min():g}, {x.max():g}], {found.identity(split)}")
        print(f"  images of each class: {', '.join(map(str, y.bincount(minlength=found.classes).tolist()))}")
