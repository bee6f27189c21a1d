"""`arena verify`."""

from __future__ import annotations

from contextlib import closing

import click

from arena.cli import options


@click.command()
@options.db
@click.option("--quiet", is_flag=True, help="No progress bar.")
def verify(db: str | None, quiet: bool) -> int:
    """Check every adversarial and misclassified sample again, from its bytes.

    Exit code 0: all hold; 1: some do not or could not be checked, they are listed; 2: bad usage or settings.
    """
    from rich.console import Console

    from arena.cli.progress import finish, follow
    from arena.environment import default_db
    from arena.store.store import open_store
    from arena.tournament.config import Config
    from arena.tournament.executors.local import LocalExecutor, worker_count
    from arena.tournament.plan import plan_verification
    from arena.tournament.sinks import VerifySink

    settings, found = Config.model_validate({"run": {"device": "cpu"}}), VerifySink()
    console = Console(stderr=True, quiet=quiet)
    with (
        closing(open_store(db or default_db(), create=False)) as store,
        LocalExecutor(settings, worker_count(settings)) as executor,
    ):
        plan = plan_verification(store, found, settings.tournament.timeout)
        failed = follow(plan, executor, console)
    beside = f", {found.fragile} fragile ones below a bound" if found.fragile else ""
    print(f"{found.checked} rows checked, {found.failures} failures{beside}")
    return finish(failed) or int(found.failures > 0)
