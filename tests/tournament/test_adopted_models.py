"""A newcomer's tournament: a data set and models of their own, none of them a package, played by the command line."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugin_packages import arena
from torch import Tensor, nn

from arena.errors import UserError
from arena.interface.contracts import Defense
from arena.plugins.defenses.cnn import CNN
from arena.tournament.given import dataset_given, defenses_given

CHANNELS, HEIGHT, WIDTH = 3, 6, 8
MINE = """
import beside
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(beside.PIXELS, 2))

def labels(x):
    return (x[:, 0].mean((1, 2)) < x[:, 2].mean((1, 2))).long()
"""
SETTINGS = """
[dataset.mine]
file = "test.npz"
layout = "NHWC"
[tournament]
dataset = "mine"
samples = 6
attacks = ["fgsm", "salt-and-pepper"]
[defense.mine]
model = "mine.py:build"
weights = "mine.pt"
[defense.decides]
model = "mine.py:labels"
access = "decision"
[attack.salt-and-pepper]
restarts = 1
"""


def train(folder: Path, scale: float) -> None:
    """A linear network that tells red images from blue ones, as weights."""
    signs = torch.tensor([1.0, 0, -1]).view(1, 3, 1, 1).expand(1, CHANNELS, HEIGHT, WIDTH).flatten(1)
    torch.save({"1.weight": scale * torch.cat([signs, -signs]), "1.bias": torch.zeros(2)}, folder / "mine.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("newcomer")
    x = np.random.default_rng(0).integers(0, 256, (8, HEIGHT, WIDTH, CHANNELS), dtype=np.uint8)
    means = x.reshape(8, -1, CHANNELS).mean(1)
    np.savez(folder / "test.npz", x=x, y=(means[:, 0] < means[:, 2]).astype(np.int64))
    (folder / "mine.py").write_text(MINE)
    (folder / "beside.py").write_text(f"PIXELS = {CHANNELS * HEIGHT * WIDTH}\n")
    (folder / "arena.toml").write_text(SETTINGS)
    train(folder, 1.0)
    return folder


def rows_of(folder: Path) -> list[tuple[Any, ...]]:
    query = """
    select defense.name, attack.name, count(*), count(adversarial), group_concat(distinct result.status)
    from result join match on match.id = match_id join defense on defense.id = defense_id
         join attack on attack.id = attack_id
    group by defense.id, attack.id order by 1, 2
    """
    with sqlite3.connect(folder / "arena.db") as database:
        return database.execute(query).fetchall()


def test_models_are_played_on_data_of_their_own_and_again_when_they_change(folder: Path) -> None:
    played = arena("run", plugins="", cwd=folder)
    assert played.returncode == 0, played.stderr
    assert "not for mine, not played: abs, binary-abs" in played.stderr  # all are asked for
    first = rows_of(folder)
    assert [row[:3] for row in first] == [
        ("decides", "salt-and-pepper", 6),
        ("mine", "fgsm", 6),
        ("mine", "salt-and-pepper", 6),
    ]
    assert all(found and status == "found" for *_, found, status in first)
    checked = arena("verify", plugins="", cwd=folder)
    assert checked.returncode == 0 and "18 rows checked" in checked.stdout, checked.stdout + checked.stderr
    train(folder, 2.0)  # the same name, another network
    more = arena("run", "--defense", "mine", "--attack", "fgsm", plugins="", cwd=folder)
    assert more.returncode == 0, more.stderr
    assert len(rows_of(folder)) == len(first) + 1


def test_a_model_that_a_plugin_is_called_like_is_refused(folder: Path) -> None:
    (folder / "taken.toml").write_text(SETTINGS.replace("defense.mine", "defense.cnn"))
    played = arena("run", "taken.toml", plugins="", cwd=folder)
    assert played.returncode == 2 and "give the model a name of its own, as in [defense.my-cnn]" in played.stderr


def test_a_defense_made_for_other_data_is_refused_by_name(folder: Path) -> None:
    played = arena("run", "--defense", "cnn", plugins="", cwd=folder)
    assert played.returncode == 2
    assert "defense cnn is made for images [1, 28, 28] of 10 classes: mine has [3, 6, 8], 2 classes" in played.stderr


def test_a_defense_fits_what_it_declares() -> None:
    class Any(Defense):
        name = "any"

        def scores(self, x: Tensor) -> Tensor:
            return nn.functional.pad(x.flatten(1)[:, :1], (1, 0))

    assert Any.fits((3, 4, 5), 7) and CNN.fits((1, 28, 28), 10)
    assert not CNN.fits((3, 28, 28), 10) and not CNN.fits((1, 28, 28), 47)


def test_models_on_the_command_line_are_called_by_their_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    names, sections = defenses_given(["cnn", "my_net.py:build", "torchvision.models:resnet18", "a/forest.onnx"])
    assert names == ["cnn", "my-net", "models", "forest"]
    assert sections == {
        "my-net": {"model": str(tmp_path / "my_net.py:build")},
        "models": {"model": "torchvision.models:resnet18"},
        "forest": {"model": str(tmp_path / "a" / "forest.onnx")},
    }
    with pytest.raises(UserError, match="two models called mine"):
        defenses_given(["mine.py:a", "mine.py:b"])
    with pytest.raises(UserError, match=r"write mine\.py:build"):
        defenses_given(["mine.py"])


def test_a_data_set_on_the_command_line_is_a_name_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert dataset_given(None) == (None, {}) and dataset_given("fashion-mnist") == ("fashion-mnist", {})
    assert dataset_given("test.npz") == ("test", {"test": {"file": str(tmp_path / "test.npz")}})
