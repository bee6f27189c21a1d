"""A defense that ends its process costs its own jobs, whatever the command: the others are done, it is listed."""

from pathlib import Path

import pytest
from plugin_packages import arena

pytestmark = pytest.mark.xdist_group("dying")  # what its fixtures play is played once

EXITS = "exits-when-asked"


@pytest.fixture(scope="module")
def folder(hostile_plugins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store has rows of the defense, made before it began to exit."""
    folder = tmp_path_factory.mktemp("dying")
    (folder / "arena.toml").write_text(
        f"[tournament]\nsamples = 4\ndefenses = ['cnn', '{EXITS}']\nattacks = ['fgsm']\n"
    )
    played = arena("run", "--quiet", plugins=hostile_plugins, cwd=folder)
    assert played.returncode == 0, played.stderr
    (folder / "exit-now").touch()
    return folder


def outcome(folder: Path, plugins: Path, *arguments: object) -> tuple[str, set[str]]:
    """Standard output and the failures that are listed at the end, of a command that says that some jobs failed."""
    ended = arena(*arguments, plugins=plugins, cwd=folder)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    failed = [line for line in ended.stderr.splitlines() if line.startswith("failed: ")]
    assert failed and all("the worker process died (exit code 7)" in line for line in failed)
    return ended.stdout, set(failed)


def test_verify(hostile_plugins: Path, folder: Path) -> None:
    out, failed = outcome(folder, hostile_plugins, "verify")
    assert "4 rows checked, 0 played again, 0 failures" in out
    [line] = failed
    assert f"fgsm against {EXITS}, samples 0 to 3" in line


def test_distal(hostile_plugins: Path, folder: Path) -> None:
    out, failed = outcome(folder, hostile_plugins, "distal", "--steps", 2)
    assert "cnn" in out
    [line] = failed
    assert line.startswith(f"failed: {EXITS}: cannot be loaded")  # planning asks how many classes it has


def test_bounds(hostile_plugins: Path, folder: Path) -> None:
    defenses = ("--defense", EXITS, "--defense", "nearest-neighbor")
    out, failed = outcome(folder, hostile_plugins, "bounds", "--norm", "linf", "--samples", 1, *defenses)
    assert out.count("joint") == 2 and "nearest-neighbor" in out  # the run has computed the cheap one of both
    assert {line.split(":")[1] for line in failed} == {f" separate linf bound of {EXITS}, seed 0, sample 0"}
