"""`arena plugins new` writes a package that installs and passes; or one line, and nothing."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from plugin_packages import arena, install

from arena.errors import UserError
from arena.interface.contracts import Attack
from arena.testing.scaffold import new_plugin

CHECK = "plugins", "check"


@pytest.mark.parametrize(
    ("kind", "words", "command", "says"),
    [
        ("attack", (), CHECK, "11 of 11 checks passed"),
        ("defense", ("defense",), CHECK, "7 of 7 checks passed"),
        ("bound", ("bound",), CHECK, "weak: relu, linf: zero everywhere"),
        ("dataset", ("dataset",), ("data", "show"), "my-dataset"),
    ],
)
def test_a_new_plugin_installs_and_passes_its_own_test_and_the_kit(
    tmp_path: Path, kind: str, words: tuple[str, ...], command: tuple[str, str], says: str
) -> None:
    name = f"my-{kind}"
    made = arena("plugins", "new", *words, name, plugins=tmp_path, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    package = tmp_path / f"arena-{kind}-{name}"
    assert package.name in made.stdout
    assert [path.name for path in tmp_path.iterdir()] == [package.name]
    site = install(tmp_path / "site", package)

    checked = arena(*command, name, plugins=site, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert says in checked.stdout

    own_test = next(package.glob("test_*.py"))
    itself = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(own_test)]
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path}
    ran = subprocess.run(itself, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "1 passed" in ran.stdout


@pytest.mark.parametrize("name", ["none", "x", "class", "a-2nd-one"])
def test_any_good_name_gives_a_module_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package = new_plugin(name, tmp_path)
    monkeypatch.syspath_prepend(package)
    classes: list[type[Attack]] = []
    importlib.import_module(package.name.replace("-", "_")).register_attacks(classes.append)
    assert [cls.name for cls in classes] == [name]


@pytest.mark.parametrize("name", ["", "My-Attack", "my_attack", "1st", "-x", "x-", "a--b", "../up", "a b", "a\n"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="lower-case letters, digits and hyphens"):
        new_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'fgsm' is installed already, with arena-robustness"):
        new_plugin("fgsm", tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    existing = tmp_path / "arena-attack-mine"
    existing.mkdir()
    with pytest.raises(UserError, match="exists already"):
        new_plugin("mine", tmp_path)
    assert not list(existing.iterdir())


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, tmp_path / "absent"):
        with pytest.raises(UserError, match="cannot write .*; choose a folder that you may write to"):
            new_plugin("mine", folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="Permission denied; choose a folder"):
        new_plugin("mine", tmp_path)


def test_a_failure_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Path) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(UserError, match="No space left on device"):
        new_plugin("mine", tmp_path)
    assert not list(tmp_path.iterdir())
