"""The generated pages say what the code says, and what pages point to is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_generated_pages_are_up_to_date() -> None:
    answer = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_the_settings_file_that_ships_is_the_one_at_the_root() -> None:
    assert (ROOT / "arena" / "default.toml").read_bytes() == (ROOT / "arena.toml").read_bytes()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_to_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text)]
    named = [ROOT / path for path in re.findall(r"`((?:arena|csrc|docs|examples|tests|\.ci|\.github)/[\w./-]*)", text)]
    missing = [path for path in links + named if "NAME" not in str(path) and not path.exists()]
    assert missing == []
