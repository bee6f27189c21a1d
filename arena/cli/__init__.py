"""The command line: parse, call one function, print. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

import click

from arena.cli import signals, streams
from arena.cli.bounds import bounds
from arena.cli.data import data
from arena.cli.distal import distal
from arena.cli.doctor import doctor
from arena.cli.ensemble import ensemble
from arena.cli.figures import figures
from arena.cli.leaderboard import leaderboard
from arena.cli.plugins import plugins
from arena.cli.report import report
from arena.cli.run import run
from arena.cli.store import store
from arena.cli.table1 import table1
from arena.cli.train import import_, train
from arena.cli.verify import verify
from arena.environment import wants_traceback
from arena.errors import StoreLost, UserError, visible


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="arena-robustness", prog_name="arena")
def cli() -> None:
    """How robust is this classifier, sample by sample?"""


for command in (
    *(bounds, data, distal, doctor, ensemble, figures, import_, leaderboard),
    *(plugins, report, run, store, table1, train, verify),
):
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
    _leave(code)


def _leave(code: int | None) -> None:
    """End the process, without waiting for threads that a plugin left behind."""
    if all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)


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
    print(f"arena: {visible(' '.join(message.split()))}", file=sys.stderr)
    return 1 if isinstance(failure, StoreLost) else 2
