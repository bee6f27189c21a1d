"""Whatever packages do while they are imported, `arena plugins` says what is installed, and ends."""

import json
import os
from pathlib import Path

import pytest
from paths import ROOT
from plugin_packages import arena
from typed import present

CHATTY = """
import os, threading, time
import arena
print("hello")
os.write(1, b"hello from below\\n")
threading.Thread(target=time.sleep, args=(3600,)).start()

class Chatty(arena.Attack):
    '''Talks (Example et al. 2020).

    A second paragraph.
    '''
    name, norm, access = "chatty", "l2", "decision"
    class Settings(arena.Settings):
        '''words: how many.'''
        words: int = 3
    def run(self, target, x, y, rng):
        return x

@arena.hookimpl
def register_attacks(register):
    register(Chatty)
"""
SWALLOWED = CHATTY.replace("words", "budget").replace('"chatty"', '"swallowed"')
MISNAMED = CHATTY.replace('"chatty"', '"all"')


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("site")

    def install(info: str, name: str, entry: str, text: str | None = None) -> None:
        (folder / info).mkdir()
        (folder / info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / info / "entry_points.txt").write_text(f"[arena]\n{entry}\n")
        if text:
            (folder / f"{name}.py").write_text(text)

    for name, text in (("chatty", CHATTY), ("swallowed", SWALLOWED), ("misnamed", MISNAMED)):
        install(f"{name}-1.0.dist-info", name, f"{name} = {name}", text)
    # What pip leaves behind when it is interrupted.
    install("~rena_robustness-0.0.9.dist-info", "arena-robustness", "attacks = arena.plugins.attacks")
    return f"{folder}{os.pathsep}{ROOT}"


def test_json_is_nothing_but_json_and_threads_are_not_waited_for(installed: str, tmp_path: Path) -> None:
    answer = arena("plugins", "--format", "json", plugins=installed, cwd=tmp_path, timeout=120)
    assert answer.returncode == 0, answer.stderr
    listed = json.loads(answer.stdout)
    assert "hello\n" in answer.stderr and "hello from below\n" in answer.stderr
    rows = {row["name"]: row for row in listed["plugins"]}
    assert rows["chatty"]["package"] == "chatty"
    assert {"fgsm", "boundary"} <= rows.keys()  # not registered twice
    reasons = {problem["package"]: problem["reason"] for problem in listed["problems"]}
    assert reasons.keys() == {"swallowed", "misnamed"}
    assert "setting 'budget'" in reasons["swallowed"] and "rename" in reasons["swallowed"]
    assert "name = 'all'" in reasons["misnamed"]


def test_one_plugin_in_full(installed: str, tmp_path: Path) -> None:
    shown = arena("plugins", "show", "chatty", plugins=installed, cwd=tmp_path, timeout=120)
    assert shown.returncode == 0, shown.stderr
    for part in ("chatty", "norm l2, access decision", "Example et al. 2020", "[attack.chatty]", "words: how many."):
        assert part in shown.stdout, part
    assert ["words", "int", "3"] in [line.split() for line in shown.stdout.splitlines()]


def test_names_are_whole_and_first(capsys: pytest.CaptureFixture[str]) -> None:
    from arena.cli.plugins import _list

    _list("table")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("brendel-bethge-linf-exact ") for line in lines)
    assert any(line.startswith("nearest-neighbor ") for line in lines)
    assert max(map(len, lines)) <= 80


def test_settings_are_shown_with_range_and_description(capsys: pytest.CaptureFixture[str]) -> None:
    from arena.cli.plugins import show

    present(show.callback)("abs")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["steps", "int", ">=", "1", "50", "of", "Adam"] in [line[:7] for line in lines]


@pytest.mark.parametrize("name", ["apgd-dlr-l2", "apgd-dlr-l2-exact"])
def test_what_is_shown_cites_the_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from arena.cli.plugins import show

    present(show.callback)(name)
    assert "(Croce & Hein 2020)" in capsys.readouterr().out
