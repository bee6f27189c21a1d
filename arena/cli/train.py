"""`arena train` and `arena import`: both end in weights with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from arena.cli import options


@click.command()
@click.argument("name")
@click.option(
    "--dataset",
    metavar="NAME",
    default=options.default_dataset,
    show_default="that of the settings that ship",
    help="A data set of the same shape, for substitute of any; may be a [dataset.NAME] of ./arena.toml.",
)
@click.option("--epochs", type=click.IntRange(min=1))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.no_progress
@options.weights_folder
@options.device
def train(name: str, out: Path, dataset: str, **settings: Any) -> None:
    """Train abs, binary-abs, cnn, binary-cnn, madry or substitute by its recipe; describe nearest-neighbor.

    A killed training continues from its last checkpoint.
    """
    from arena.data import find_dataset
    from arena.models.train import train
    from arena.tournament.config import load_config

    data = find_dataset(dataset, load_config().dataset)
    _describe(train(name, dataset=data, out=out, **settings), out)


@click.command("import")
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path))
@options.no_progress
@options.weights_folder
@options.device
def import_(name: str, source: Path, out: Path, **settings: Any) -> None:
    """Convert SOURCE, a checkpoint for the defense NAME, to safetensors with a model card.

    For abs and binary-abs SOURCE may be the folder of the authors' released checkpoints.
    """
    from arena.models.importer import import_weights

    _describe(import_weights(name, source, out=out, **settings), out)


def _describe(card: Any, out: Path) -> None:
    """Say what a new model card says."""
    scores = ", ".join(f"{split} {score:.2%}" for split, score in card.accuracy.items())
    weights = out / f"{card.name}.safetensors" if card.sha256 else "the training set itself"
    print(f"{card.name}: accuracy {scores}; weights: {weights}; model card: {out / card.name}.json")
