"""`arena doctor` says what is wrong, and that nothing is."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from typed import Batch

import arena.doctor
from arena.cli import cli
from arena.doctor import Diagnosis
from arena.interface.registry import Problem, registry


def findings(about: str) -> list[Diagnosis]:
    return [finding for finding in arena.doctor.examine() if finding.about == about]


def test_a_sound_installation(mnist: Batch) -> None:
    played = CliRunner().invoke(cli, ["doctor"], standalone_mode=False)
    assert played.return_value == 0, played.output
    for what in ("torch", "all hashes agree", "7 models", "7 defenses", "all sound"):
        assert what in " ".join(played.output.split())


def test_a_gpu_that_the_kernels_cannot_use_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("arena._native")
    from arena.kernels import cuda

    assert findings("gpu")[0].says == "none that torch sees" or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    monkeypatch.setattr(cuda, "problem", lambda device: "driver too old: update it" if device.index else "")
    (finding,) = findings("gpu")
    assert finding.says == "card 0, card 1; without arena's kernels: driver too old: update it"


def test_missing_data_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_DATA", str(tmp_path))
    (finding,) = findings("mnist")
    assert not finding.sound and "run `arena data fetch mnist`" in finding.says
    assert not list(tmp_path.iterdir())
    assert CliRunner().invoke(cli, ["doctor"], standalone_mode=False).return_value == 1


def test_without_a_home_folder_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "XDG_CACHE_HOME", "ARENA_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as for a user whom the system does not know
    (finding,) = findings("mnist")
    assert not finding.sound and "set HOME, or ARENA_DATA" in finding.says


def test_weights_that_are_not_those_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cnn.json").write_text('{"name": "cnn", "sha256": "5eed"}')
    (tmp_path / "cnn.safetensors").write_bytes(b"other")
    monkeypatch.setattr(arena.doctor, "ZOO", tmp_path)
    assert [finding.sound for finding in findings("weights")] == [True, False]
    assert findings("weights")[1].says.startswith("cnn: not those")


def test_packages_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry(), "problems", [Problem("arena-attack-blur", "it has a typo")])
    assert ("plugins", "arena-attack-blur: it has a typo", False) in findings("plugins")


@pytest.mark.parametrize("width", [40, 80])
def test_a_small_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, CliRunner().invoke(cli, ["doctor"]).output.splitlines())) <= width
