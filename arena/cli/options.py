"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from arena.geometry.norms import NORMS

db = click.option("--db", metavar="URL", help="The store: an SQLAlchemy URL or the path of an SQLite file.")
device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
form = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "markdown", "latex"]),
    default="table",
    show_default=True,
)
preset = click.option("--preset", metavar="NAME", help="A [preset.NAME] of the settings file: quick, strong, paper.")
norm = click.option("--norm", type=click.Choice(NORMS), help="One norm only.")
intervals = click.option(
    "--intervals/--no-intervals",
    default=None,
    help="Show the 95 % intervals of medians and accuracies; default: where there is room for them.",
)
no_progress = click.option("--quiet", is_flag=True, help="No progress bar.")
weights_folder = click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), help="Folder for weights and model card."
)


def default_dataset() -> str:
    """The name of the data set where none is given."""
    from arena.tournament.config import Config

    return Config().tournament.dataset


def executor(command: Callable[..., Any]) -> Callable[..., Any]:
    """--executor and --address: where jobs run."""
    where = click.option(
        "--executor", type=click.Choice(["local", "ray"]), help="Workers of this machine or of a Ray cluster."
    )
    address = click.option("--address", metavar="HOST:PORT", help="The head of the Ray cluster, or auto.")
    return where(address(command))


def how_to_run(given: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The section [run] of the options `--executor` and `--address`, and of `keys`."""
    run = {key: given[key] for key in (*keys, "executor")}
    return run | ({"ray": {"address": given["address"]}} if given["address"] else {})


class Threshold(click.ParamType):  # type: ignore[type-arg]  # older ones take none
    """NORM=VALUE -> (norm, epsilon)."""

    name = "NORM=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        norm, _, number = str(value).partition("=")
        if norm not in NORMS:
            self.fail(f"{value!r}: write one of {', '.join(f'{known}=VALUE' for known in NORMS)}", param, ctx)
        try:
            epsilon = float(number)
        except ValueError:
            epsilon = math.nan
        if not 0 <= epsilon < math.inf:
            self.fail(f"{value!r}: the value is a distance, finite and at least 0: {norm}=1.5", param, ctx)
        return norm, epsilon
