"""The command line: every mistake costs its user one line and exit code 2, never a traceback."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from stores import open_match, record

from arena import cli
from arena.store.store import open_store

Command = Callable[..., tuple[object, str, str]]  # exit code, standard output and standard error


@pytest.fixture
def arena(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs a command in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["arena", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


def one_line(result: tuple[object, str, str]) -> str:
    """The only line of a refusal."""
    code, out, err = result
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("arena: "), (code, out, err)
    return err


def test_help_and_version(arena: Command) -> None:
    code, out, err = arena("--help")
    assert code == 0 and err == ""
    assert all(command in out for command in ("run", "leaderboard", "plugins", "data", "train", "verify"))
    assert arena("--version")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["runn"], "runn"),
        (["run", "--sample", "3"], "--samples"),
        (["run", "none.toml"], "none.toml: no such settings file"),
        (["run", "--samples", "0"], "samples = 0"),
        (["run", "--samples", "many"], "--samples"),
        (["run", "--workers", "0"], "workers = 0"),
        (["run", "--seed", "-1"], "seed = -1"),
        (["run", "--device", "tpu"], "--device"),
        (["run", "--preset", "qick"], "did you mean quick"),
        (["leaderboard"], "arena run"),
        (["leaderboard", "--format", "xml"], "--format"),
        (["leaderboard", "--db", "nonsense://"], "nonsense"),
        (["leaderboard", "--epsilon", "l9=1"], "l9=1"),
        (["leaderboard", "--epsilon", "l2=-1"], "at least 0"),
        (["leaderboard", "--epsilon", "l2=far"], "l2=1.5"),
        (["verify"], "arena run"),
        (["plugins", "check", "boundry"], "did you mean boundary"),
        (["plugins", "new", "no spaces"], "no spaces"),
        (["data", "fetch", "mnits"], "mnits"),
        (["train", "cnnn"], "cnnn"),
        (["train", "cnn", "--epochs", "0"], "--epochs"),
    ],
)
def test_mistakes_cost_one_line(arena: Command, arguments: list[str], part: str) -> None:
    assert part in one_line(arena(*arguments))


def test_a_refused_run_leaves_nothing_behind(arena: Command, tmp_path: Path) -> None:
    for wrong in (["--attack", "boundry"], ["--defense", "cnnn"], ["--samples", "10001"]):
        assert wrong[1] in one_line(arena("run", "--quiet", *wrong))
        assert list(tmp_path.iterdir()) == []


def test_a_mistaken_setting_of_a_plugin_is_named(arena: Command, tmp_path: Path) -> None:
    def run(section: str) -> str:
        file = tmp_path / "mistaken.toml"
        file.write_text(f"[tournament]\nsamples = 1\ndefenses = ['cnn']\nattacks = ['fgsm']\n{section}")
        return one_line(arena("run", file, "--quiet"))

    assert "unknown attack 'fgms'" in run("[attack.fgms]\nsteps = 1")
    assert "attack fgsm: unknown key 'step'" in run("[attack.fgsm]\nstep = 1")
    assert "defense cnn: unknown key 'points'" in run("[defense.cnn]\npoints = 1")
    assert "missing.safetensors" in run("[defense.cnn]\nweights = 'missing.safetensors'")


def test_a_preset_is_said_in_one_line_or_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from rich.console import Console

    from arena.cli.run import _say_preset

    file = tmp_path / "arena.toml"
    file.write_text("[preset.small.tournament]\nsamples = 2\n[preset.small.attack.boundary]\nsteps = 5")
    for verbose, lines in ((False, 1), (True, 3)):
        _say_preset(file, "small", Console(stderr=True, width=300), verbose)
        said = capsys.readouterr().err
        assert said.count("\n") == lines and ("boundary: steps = 5" in said) == verbose


def test_unusable_databases(arena: Command, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be read as one" * 100)
    assert "text.db" in one_line(arena("leaderboard", "--db", "sqlite:///text.db"))
    assert "nowhere" in one_line(arena("run", "--db", "sqlite:///nowhere/arena.db", "--quiet"))
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table result (x)")
    assert "other.db" in one_line(arena("leaderboard", "--db", "sqlite:///other.db"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(arena: Command, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked" in one_line(arena("run", "--db", "sqlite:///locked/arena.db", "--quiet"))


def test_accuracy_at_another_threshold(arena: Command) -> None:
    with closing(open_store("arena.db")) as store:
        store.append(open_match(store), [record(0, distance=1.0), record(1, distance=2.0)])
    for options, expected in (
        ([], 0.5),
        (["--epsilon", "l2=0.5", "--epsilon", "linf=9"], 1.0),
        (["--epsilon", "l2=3"], 0),
    ):
        rows = json.loads(arena("leaderboard", "--format", "json", *options)[1])
        assert rows[0]["accuracy"] == expected


@pytest.mark.parametrize("command", ["--help", "leaderboard", "table1", "ensemble"])
def test_the_quick_commands_import_neither_torch_nor_plugins(command: str, tmp_path: Path) -> None:
    script = (
        "import sys; from arena import cli; sys.argv = ['arena', sys.argv[1]]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'foolbox', 'jinja2'}\n"
        "print([name for name in sys.modules if name in heavy or name.startswith('arena.plugins')])"
    )
    run = subprocess.run([sys.executable, "-c", script, command], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.splitlines()[-1] == "[]", run.stderr
