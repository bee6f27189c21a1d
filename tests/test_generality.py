"""Only data sets, models, plugins and the published table know of the first tournament: its images, its thresholds."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

from arena.data import DEFAULT

PACKAGE = ROOT / "arena"
MAY_KNOW = ("data", "models", "plugins", "reporting/published")
SETTINGS = PACKAGE / "default.toml"  # the tournament that is played where the user names none: it must name its data

TOKENS = re.compile(
    r"mnist|(?<![\w.])(?:28|784)(?!\w|\.\d)"  # the data set, its side, its pixels
    r"|linf\W{1,5}0\.3(?!\d)|l2\W{1,5}1\.5(?!\d)|l0\W{1,5}12(?!\d|\.\d*[1-9])",  # the paper's thresholds
    re.IGNORECASE,
)


def files() -> Iterator[Path]:
    """The package's text files outside the folders that may know."""
    for file in sorted(PACKAGE.rglob("*")):
        inside = file.relative_to(PACKAGE).as_posix()
        if file.suffix in {".py", ".toml", ".jinja", ".js", ".css"} and not inside.startswith(MAY_KNOW):
            yield file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('dataset = "MNIST"', True),
        ("(1, 28, 28)", True),
        ("[B, C, 784]", True),
        ('{"linf": 0.3}', True),
        ("l2=1.5", True),
        ('"l0": 12.0', True),
        ("1e28, 0.28rem, 128, x28", False),
        ("linf 0.31, l2=1.25, l0 = 120", False),
    ],
)
def test_the_pattern_finds_what_it_is_for(text: str, found: bool) -> None:
    assert bool(TOKENS.search(text)) == found


def test_nothing_else_knows_the_first_tournament() -> None:
    read = [file for file in files() if file != SETTINGS]
    assert len(read) > 100
    said = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in read
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if TOKENS.search(line)
    ]
    assert said == []


def test_the_settings_that_ship_name_the_default_data_set() -> None:
    assert tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["tournament"]["dataset"] == DEFAULT.name
