"""The generated pages say what the code says."""

import subprocess
import sys

from paths import ROOT


def test_the_generated_pages_are_up_to_date():
    answer = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_the_settings_file_that_ships_is_the_one_at_the_root():
    assert (ROOT / "arena" / "default.toml").read_bytes() == (ROOT / "arena.toml").read_bytes()
