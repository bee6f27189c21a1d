"""A signal ends a command in order, whatever it is doing."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from typed import present

STOPPED = "arena: stopped; what was played is kept, the same command goes on from there\n"


def command(tmp_path: Path, body: str, **modules: str) -> subprocess.Popen[str]:
    """A process that runs `arena probe`, a command of this body, and has printed a line."""
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    script = (
        f"import sys, time\nfrom arena import cli\n@cli.cli.command()\ndef probe():\n{textwrap.indent(body, '  ')}\n"
    )
    script += "sys.argv = ['arena', 'probe']\ncli.main()"
    where = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", script], env=where, preexec_fn=as_in_a_terminal, **pipes
    )
    assert present(process.stdout).readline() == "begun\n"
    return process


def as_in_a_terminal() -> None:
    """Signals do what they do by default, though the tests may run in the background, where some are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def stopped(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_exit_code_says_which_signal_it_was_and_the_cursor_comes_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    body = """\
from rich.console import Console
with Console(stderr=True, force_terminal=True).status("at it"):
    sys.__stdout__.write("begun\\n")  # rich has replaced sys.stdout
    sys.__stdout__.flush()
    time.sleep(20)"""
    code, err = stopped(command(tmp_path, body), number)
    assert code == 128 + number
    assert err.rindex("\x1b[?25h") > err.rindex("\x1b[?25l")
    assert err.endswith(STOPPED)


@pytest.mark.parametrize(
    "reaction",
    ["pass", "raise ImportError('half a module') from None", "raise SystemExit(3) from None"],
)
def test_a_package_that_is_being_imported_cannot_swallow_it(tmp_path: Path, reaction: str) -> None:
    package = f"""
        import time
        try:
            print("begun", flush=True)
            time.sleep(0.3)
        except BaseException:
            {reaction}
    """
    process = command(tmp_path, "import package\ntime.sleep(20)", package=package)
    code, err = stopped(process)
    assert (code, err.lstrip()) == (130, STOPPED)


def test_a_second_signal_waits_for_no_import(tmp_path: Path) -> None:
    package = "import time\nprint('begun', flush=True)\ntime.sleep(0.3)\nprint('half', flush=True)\ntime.sleep(20)"
    process = command(tmp_path, "import package", package=package)
    process.send_signal(signal.SIGINT)
    assert present(process.stdout).readline() == "half\n"  # the first one waited
    code, err = stopped(process)
    assert code == 130 and err.endswith(STOPPED)


def test_a_signal_before_the_command_line_is_imported_waits_for_it() -> None:
    script = """
        import os, signal, sys
        from arena.__main__ import main
        class Impatient:
            def find_spec(self, name, path=None, target=None):
                if name == "arena.cli":
                    os.kill(os.getpid(), signal.SIGTERM)
        sys.meta_path.insert(0, Impatient())
        sys.argv = ["arena", "--help"]
        main()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "", STOPPED)
