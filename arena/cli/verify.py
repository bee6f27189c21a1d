"""`arena verify`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from arena.cli import options


@click.command()
@options.db
@click.option(
    "--sample-rate",
    "rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="The share of each match's rows that is checked.",
)
@click.option(
    "--replay",
    "replays",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="How many chunks with rows that are not found are played again.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is chosen by these two.")
@options.executor
@options.no_progress
def verify(db: str | None, rate: float, replays: int, seed: int, quiet: bool, **given: Any) -> int:
    """Check the database, every row from its bytes, and a few by playing them again.

    Exit code 0: all hold; 1: some do not or could not be checked, they are listed; 2: bad usage or settings.
    docs/design.md lists what cannot be verified.
    """
    from rich.console import Console

    from arena.cli.progress import finish, follow
    from arena.environment import default_db
    from arena.errors import UserError
    from arena.store import integrity
    from arena.store.store import open_store
    from arena.tournament.config import Config
    from arena.tournament.executors.opening import open_executor
    from arena.tournament.sinks import VerifySink
    from arena.tournament.verification import plan_verification

    how = {key: value for key, value in options.how_to_run(given).items() if value is not None}
    settings, found = Config.model_validate({"run": {"device": "cpu"} | how}), VerifySink()
    console, failed = Console(stderr=True, quiet=quiet), []
    with closing(open_store(db or default_db(), create=False)) as store:
        with store.reading_damaged() as connection:
            for line in integrity.faults(connection):
                found.failures += 1
                print(line)
        try:
            with open_executor(settings) as executor:
                timeout = settings.tournament.timeout
                plan = plan_verification(store, found, timeout, rate=rate, replays=replays, seed=seed)
                failed = follow(plan, executor, console)
        except UserError as failure:
            if not found.failures:
                raise
            print(f"not all rows were checked: {failure}")  # of a file that is known to be damaged
    beside = f", {found.fragile} fragile ones below a bound" if found.fragile else ""
    beside += f", {found.pruned} by their numbers alone: their images were pruned" if found.pruned else ""
    print(f"{found.checked} rows checked, {found.replayed} played again, {found.failures} failures{beside}")
    return finish(failed) or int(found.failures > 0)
