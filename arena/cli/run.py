"""`arena run`: plays what is missing, then shows the leaderboard."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arena.cli import options

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from rich.console import Console

    from arena.store.leaderboard import LeaderboardRow
    from arena.tournament.roster import Failed


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@options.preset
@click.option("--samples", type=int, help="Play the first so many samples.")
@click.option("--dataset", metavar="NAME", help="A data set by name, or a file of images and labels: test.npz.")
@click.option(
    "--defense",
    "defenses",
    multiple=True,
    metavar="NAME",
    help="Only this defense (repeatable): a name, or a model: mine.py:build, package.module:name, FILE.onnx or .pt2.",
)
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="Only this attack (repeatable).")
@click.option(
    "--bound", "bounds", multiple=True, metavar="NAME", help="Only this lower bound (repeatable); default: cheap ones."
)
@options.db
@options.executor
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--workers", type=int, help="Worker processes; default: one a core.")
@click.option("--seed", type=int)
@click.option("--quiet", is_flag=True, help="Print failures only.")
@click.option("-v", "--verbose", is_flag=True, help="Say all that the preset sets.")
def run(
    config: Path | None,
    preset: str | None,
    samples: int | None,
    seed: int | None,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> int:
    """Play what is missing in the store, and compute its lower bounds; then show the leaderboard.

    Exit code 0: all played; 1: some jobs failed, they are listed; 2: bad usage or settings.
    """
    from rich.console import Console
    from rich.text import Text

    from arena.cli.progress import finish, follow, say_plan
    from arena.reporting.columns import render
    from arena.store.store import open_store
    from arena.tournament.config import default_file, load_config
    from arena.tournament.executors.opening import open_executor
    from arena.tournament.given import dataset_given, defenses_given
    from arena.tournament.plan import plan_bounds, plan_matches
    from arena.tournament.roster import gather

    defenses, models = defenses_given(given["defenses"])
    dataset, described = dataset_given(given["dataset"])
    chosen: dict[str, Any] = {"samples": samples, "seed": seed, "dataset": dataset}
    chosen |= {"defenses": defenses or None, "attacks": given["attacks"] or None, "bounds": given["bounds"] or None}
    how = options.how_to_run(given, "db", "device", "workers")
    file = config or default_file()
    settings = load_config(file, preset, tournament=chosen, run=how, defense=models, dataset=described)
    console = Console(stderr=True, quiet=quiet)
    if preset:
        _say_preset(file, preset, console, verbose)
    with open_executor(settings) as executor:
        with console.status("loading the contestants"):
            contestants = gather(executor, "match")
        for problem in contestants.roster.problems:
            console.print(Text.assemble(("not loaded:", "yellow"), f" {problem}"))
        if unfit := contestants.roster.unfit:
            console.print(Text(f"not for {settings.tournament.dataset}, not played: {', '.join(unfit)}"))
        for warning in contestants.warnings:
            console.print(Text.assemble(("warning:", "yellow"), f" {warning}"))
        with closing(open_store(settings.run.db)) as store:
            plan = plan_matches(settings, store, contestants)
            say_plan(plan, "samples", store.name, console)
            failures = contestants.failures + follow(plan, executor, console)
            lower, _ = plan_bounds(settings, store, contestants)
            if lower.total:
                say_plan(lower, "bounds", store.name, console)
                failures += follow(lower, executor, console)
            board = store.leaderboard()
            failures += _unstable(board, contestants.defenses)
            if not quiet:
                print(render(board, "table"))
    return finish(failures)


def _unstable(board: Sequence[LeaderboardRow], defenses: Container[str]) -> list[Failed]:
    """Defenses of this run whose answers changed: what their rows say of robustness is not to be trusted."""
    from arena.store.leaderboard import ALL
    from arena.tournament.roster import Failed

    advice = "asked again, it answers otherwise; is it in evaluation mode, and deterministic?"
    return [
        Failed(row.defense, f"unstable on {row.unstable} of {row.samples} samples in {row.norm}: {advice}")
        for row in board
        if row.unstable and row.attack == ALL and row.defense in defenses
    ]


def _say_preset(file: Path, preset: str, console: Console, verbose: bool) -> None:
    """Say how a preset differs from the settings that it is laid over: in one line, or all of it."""
    from rich.text import Text

    from arena.tournament.config import describe_preset

    lines = describe_preset(file, preset)
    head = f"preset {preset} of {file}"
    if verbose:
        console.print(Text("\n  ".join([f"{head}:", *lines])))
    else:
        console.print(Text(f"{head} sets {len(lines)} sections (-v shows them)"))
