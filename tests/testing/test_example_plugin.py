"""The example is a real package: installed offline into a folder of its own, it plays without a change to arena."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from paths import ROOT
from plugin_packages import arena, install

EXAMPLE = ROOT / "examples" / "arena-attack-invert"

CONFIG = """
[tournament]
samples = 4
defenses = ["cnn"]
attacks = ["invert"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("example") / "site", EXAMPLE)


def test_it_is_about_a_dozen_lines() -> None:
    lines = (EXAMPLE / "arena_attack_invert.py").read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 12


def test_it_is_listed_with_its_package(site: Path, tmp_path: Path) -> None:
    listed = arena("plugins", "--format", "json", plugins=site, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    answer = json.loads(listed.stdout)
    assert answer["problems"] == []
    invert = next(row for row in answer["plugins"] if row["name"] == "invert")
    assert (invert["package"], invert["version"]) == ("arena-attack-invert", "0.1.0")
    assert (invert["kind"], invert["norm"], invert["access"]) == ("attack", "l2", "decision")


def test_it_keeps_the_contract(site: Path, tmp_path: Path) -> None:
    checked = arena("plugins", "check", "invert", plugins=site, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_plays(site: Path, tmp_path: Path) -> None:
    (tmp_path / "arena.toml").write_text(CONFIG, encoding="utf-8")
    played = arena("run", "--db", "sqlite:///arena.db", "--workers", 1, plugins=site, cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    with sqlite3.connect(tmp_path / "arena.db") as db:
        rows = db.execute(
            "select result.sample, attack.package, result.l2 from result"
            " join match on match.id = match_id join attack on attack.id = attack_id"
        ).fetchall()
    assert [(sample, package) for sample, package, _ in rows] == [(n, "arena-attack-invert") for n in range(4)]
    assert any(l2 > 20 for _, _, l2 in rows)  # a negative is far away: white paper, black ink
