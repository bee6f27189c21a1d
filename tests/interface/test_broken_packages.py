"""Packages that cannot be loaded are listed with the reason, and fatal only if the tournament asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugin_packages import BROKEN, arena

pytestmark = pytest.mark.xdist_group("broken")  # what its fixtures play is played once

REASONS = {
    "fails-to-import": "ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
    "exits-at-import": "SystemExit: usage: run me as a script",
    "misspelt-hook": "unknown hook 'register_atacks'; did you mean register_attacks",
    "no-hook": "it implements no hook",
    "not-an-attack": "is not a subclass of arena.Attack",
    "duplicate-name": "attack 'boundary' is registered by both arena-robustness and duplicate-name",
}


@pytest.fixture(scope="module")
def listed(broken_plugins: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    answer = arena("plugins", "--format", "json", plugins=broken_plugins, cwd=tmp_path_factory.mktemp("listed"))
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.parametrize("package", REASONS)
def test_every_broken_package_is_listed_with_its_reason(listed: dict[str, list[dict[str, str]]], package: str) -> None:
    (reason,) = [problem["reason"] for problem in listed["problems"] if problem["package"] == package]
    assert REASONS[package] in reason
    assert "\n" not in reason


def test_nothing_else_suffers(listed: dict[str, list[dict[str, str]]]) -> None:
    assert len(listed["problems"]) == len(BROKEN)
    names = {row["name"] for row in listed["plugins"]}
    assert {"cnn", "fgsm", "deepfool-l2"} <= names
    assert not {"boundary", "not-an-attack"} & names  # of two that claim a name, neither is trusted


RUN = ["run", "--samples", "2", "--defense", "cnn", "--attack"]
BOTH = "attack 'boundary' is registered by both arena-robustness and duplicate-name"


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ([*RUN, "boundary"], BOTH),
        (["plugins", "check", "boundary"], BOTH),
        (["plugins", "check", "not-an-attack"], "unknown plugin 'not-an-attack'"),
    ],
)
def test_asking_for_one_is_an_error_of_one_line(
    broken_plugins: Path, tmp_path: Path, command: list[str], part: str
) -> None:
    refused = arena(*command, plugins=broken_plugins, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert part in refused.stderr
    assert not list(tmp_path.iterdir())


def test_the_others_can_be_played(broken_plugins: Path, tmp_path: Path) -> None:
    command = ["run", "--samples", "2", "--defense", "cnn", "--attack", "fgsm", "--workers", "1"]
    played = arena(*command, plugins=broken_plugins, cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    assert all(package in played.stderr for package in REASONS)
