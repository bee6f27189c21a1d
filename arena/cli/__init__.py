"""The command line: parse, call one function, print. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from arena.cli.bounds import bounds
from arena.cli.distal import distal
from arena.cli.doctor import doctor
from arena.cli.figures import figures
from arena.cli.report import report
from arena.cli.table1 import table1
from arena.environment import default_db, wants_traceback
from arena.errors import UserError
from arena.geometry.norms import NORMS

FORMATS = ("table", "json", "csv", "markdown", "latex")

db_option = click.option("--db", metavar="URL", help="The store: an SQLAlchemy URL or the path of an SQLite file.")


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
@db_option
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
@db_option
@click.option("--norm", type=click.Choice(NORMS), help="One norm only.")
@click.option("--by", type=click.Choice(["defense", "attack", "match"]), default="match", show_default=True)
@click.option("--cross-norm", is_flag=True, help="Count every adversarial as evidence in all three norms.")
@click.option("--curve", is_flag=True, help="Add the median distance after 10, 100, 1000 and 10000 queries.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
def leaderboard(db: str | None, norm: Any, by: Any, cross_norm: bool, curve: bool, form: Any) -> None:
    """Median distance, and accuracy at the thresholds, of every defense under every attack and under all.

    --by attack ranks the attacks on each defense: optimality, samples that only it broke, queries and seconds. JSON by
    match has the curve of distance against queries whole.
    """
    from arena.reporting.columns import render
    from arena.store.store import open_store

    with closing(open_store(db or default_db(), create=False)) as store:
        curves = curve or (form == "json" and by == "match")
        print(render(store.leaderboard(norm=norm, by=by, cross_norm=cross_norm, curves=curves), form))


@cli.command()
@db_option
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


@cli.group()
def data() -> None:
    """Fetch and verify data sets."""


@data.command("fetch")
@click.argument("dataset", default="mnist")
def fetch_data(dataset: str) -> None:
    """Get a data set from the first source that answers; its hash decides."""
    from arena.data import find_dataset

    print(f"{dataset} is in {find_dataset(dataset).fetch()}")


@data.command("verify")
@click.argument("dataset", default="mnist")
def verify_data(dataset: str) -> None:
    """Check the cached files against their hashes."""
    from arena.data import find_dataset

    find_dataset(dataset).verify()
    print(f"{dataset}: all hashes agree")


weights_options = [
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--out", type=click.Path(path_type=Path), default=Path(), help="Folder for weights and model card."),
    click.option("--quiet", is_flag=True, help="No progress bar."),
]


def with_weights_options(command: Any) -> Any:
    """The options of commands that write weights."""
    for option in weights_options:
        command = option(command)
    return command


@cli.command()
@click.argument("name")
@click.option("--epochs", type=click.IntRange(min=1))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@with_weights_options
def train(name: str, out: Path, **options: Any) -> None:
    """Train abs, binary-abs, cnn, binary-cnn, madry or substitute by its recipe.

    A killed training continues from its last checkpoint.
    """
    from arena.models.train import train

    _describe(train(name, out=out, **options), out)


@cli.command("import")
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path))
@with_weights_options
def import_(name: str, source: Path, out: Path, **options: Any) -> None:
    """Convert SOURCE, a checkpoint for the defense NAME, to safetensors with a model card.

    For abs and binary-abs SOURCE may be the folder of the authors' released checkpoints.
    """
    from arena.models.importer import import_weights

    _describe(import_weights(name, source, out=out, **options), out)


def _describe(card: Any, out: Path) -> None:
    """Say what a new model card says."""
    scores = ", ".join(f"{split} {score:.2%}" for split, score in card.accuracy.items())
    weights = out / f"{card.name}.safetensors" if card.sha256 else "the training set itself"
    print(f"{card.name}: accuracy {scores}; weights: {weights}; model card: {out / card.name}.json")


cli.add_command(bounds)
cli.add_command(distal)
cli.add_command(doctor)
cli.add_command(figures)
cli.add_command(report)
cli.add_command(table1)


def main() -> None:
    """Entry point: one line and exit code 2 for bad input, never a traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_text:
        print(help_text.format_message())
        code = 2
    except click.ClickException as failure:
        code = _complain(failure.format_message())
    except UserError as failure:
        code = _complain(str(failure))
    except (KeyboardInterrupt, click.Abort):
        print("\narena: stopped; what was played is kept, the same command goes on from there", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `arena leaderboard | head`
        sys.stderr.close()
        code = 0
    except Exception as failure:
        if wants_traceback():
            raise
        code = _complain(f"{type(failure).__name__}: {failure} (ARENA_TRACEBACK=1 shows where)")
    sys.exit(code)


def _complain(message: str) -> int:
    print(f"arena: {' '.join(message.split())}", file=sys.stderr)
    return 2
