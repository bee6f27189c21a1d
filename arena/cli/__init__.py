"""The command line: parse, call one function, print. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from arena.cli import options, signals, streams
from arena.cli.bounds import bounds
from arena.cli.data import data
from arena.cli.distal import distal
from arena.cli.doctor import doctor
from arena.cli.figures import figures
from arena.cli.leaderboard import leaderboard
from arena.cli.report import report
from arena.cli.table1 import table1
from arena.cli.train import import_, train
from arena.environment import default_db, wants_traceback
from arena.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="arena-robustness", prog_name="arena")
def cli() -> None:
    """How robust is this classifier, sample by sample?"""


@cli.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--preset", metavar="NAME", help="A [preset.NAME] of the settings file: quick, paper.")
@click.option("--samples", type=int, help="Play the first so many samples.")
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="Only this defense (repeatable).")
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="Only this attack (repeatable).")
@options.db
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--workers", type=int, help="Worker processes; default: one a core.")
@click.option("--seed", type=int)
@click.option("--quiet", is_flag=True, help="Print failures only.")
def run(
    config: Path | None, preset: str | None, samples: int | None, seed: int | None, quiet: bool, **options: Any
) -> int:
    """Play what is missing in the store, then show the leaderboard.

    Exit code 0: all played; 1: some units failed, they are listed; 2: bad usage or settings.
    """
    from arena.cli.run import run_tournament, say_preset
    from arena.tournament.config import default_file, load_config

    names = {kind: options[kind] or None for kind in ("defenses", "attacks")}
    how = {key: options[key] for key in ("db", "device", "workers")}
    file = config or default_file()
    settings = load_config(file, preset, tournament={"samples": samples, "seed": seed, **names}, run=how)
    if preset and not quiet:
        say_preset(file, preset)
    return run_tournament(settings, quiet)


@cli.command()
@options.db
def verify(db: str | None) -> int:
    """Check every adversarial and misclassified sample again, from its bytes. Exit code 1 if one does not hold."""
    from arena.evaluation.verify import verify_store
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as store:
        report = verify_store(store)
    for line in report.fragile + report.failures:
        print(line)
    beside = f", {len(report.fragile)} fragile ones below a bound" if report.fragile else ""
    print(f"{report.checked} rows checked, {len(report.failures)} failures{beside}")
    return 1 if report.failures else 0


@cli.group(invoke_without_command=True)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def plugins(context: click.Context, form: str) -> None:
    """List the installed defenses and attacks, and the packages that could not be loaded."""
    if context.invoked_subcommand is None:
        from arena.cli.plugins import list_plugins

        list_plugins(form)


@plugins.command("check")
@click.argument("name")
@click.option("--factor", type=click.FloatRange(min=1), help="An attack's stated quality: found over minimal distance.")
def check_plugin(name: str, factor: float | None) -> int:
    """Run the conformance kit on a plugin. Exit code 1 if a check fails."""
    from arena.cli.plugins import check

    return check(name, factor)


@plugins.command("new")
@click.argument("name")
def new_plugin(name: str) -> None:
    """Write an installable attack package into the folder arena-attack-NAME."""
    from arena.testing.scaffold import new_plugin

    folder = new_plugin(name, Path.cwd())
    print(f"wrote {folder}; next: pip install -e {folder.name} && arena plugins check {name}")


for command in (bounds, data, distal, doctor, figures, import_, leaderboard, report, table1, train):
    cli.add_command(command)


def main() -> None:
    """Entry point: one line and exit code 2 for bad input, never a traceback."""
    streams.prepare()
    stop = signals.Stop()
    try:
        stop.install()
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except BaseException as failure:
        stop.ended()
        # Whatever an interrupted library makes of a signal, it is the signal that ended the command.
        if stop.signal or isinstance(failure, KeyboardInterrupt | click.Abort):
            print("arena: stopped; what was played is kept, the same command goes on from there", file=sys.stderr)
            code = stop.exit_code
        else:
            code = _explain(failure)
    stop.ended()
    sys.exit(code)


def _explain(failure: BaseException) -> int:
    """Say in one line what went wrong; returns the exit code. Raises what is no mistake or is asked for whole."""
    if isinstance(failure, click.exceptions.NoArgsIsHelpError):
        print(failure.format_message())
        return 2
    if isinstance(failure, click.ClickException):
        message = failure.format_message()
    elif isinstance(failure, UserError):
        message = str(failure)
    elif not isinstance(failure, Exception) or wants_traceback():
        raise failure
    else:
        message = f"{type(failure).__name__}: {failure} (ARENA_TRACEBACK=1 shows where)"
    from arena.reporting.text import visible

    print(f"arena: {visible(' '.join(message.split()))}", file=sys.stderr)
    return 2
