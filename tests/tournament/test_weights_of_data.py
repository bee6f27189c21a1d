"""Weights, training images and substitutes are those of the data set that is played, or they do not take part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plugin_packages import arena
from torch import nn

from arena.data import find_dataset, load_data
from arena.data.described import DescribedDataset
from arena.errors import NotApplicable, UserError
from arena.evaluation.referee import play
from arena.interface.dataset import DatasetSettings
from arena.interface.registry import load_defense
from arena.models.recipes import RECIPES
from arena.models.train import train
from arena.models.weights import shipped
from arena.plugins.attacks.transfer import L2Transfer
from arena.plugins.defenses.cnn import CNN
from arena.plugins.defenses.nearest_neighbor import NearestNeighbor
from arena.testing import LinearDefense


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of colour images, 9 x 6, that a network of any kind can tell apart; and a settings file."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        y = np.arange(count) % 2
        x = rng.random((count, 3, 9, 6)).astype(np.float32) * 0.4
        x[y == 1, 0, :, 3:] += 0.5  # red on the right
        np.savez(folder / f"{split}.npz", x=x, y=y)
    (folder / "mine.py").write_text(
        "import torch\n"
        "def classify(x: torch.Tensor) -> torch.Tensor:\n"
        "    red = x[:, 0, :, 3:].mean((1, 2)) - x[:, 0, :, :3].mean((1, 2)) - 0.25\n"
        "    return torch.stack([-red, red], 1)\n"
    )
    (folder / "arena.toml").write_text(
        '[tournament]\ndataset = "mine"\nsamples = 8\nattacks = ["transfer-l2", "transfer-linf"]\n'
        '[dataset.mine]\nfiles = { train = "train.npz", test = "test.npz" }\n'
    )
    return folder


def described(folder: Path) -> DescribedDataset:
    files = {split: str(folder / f"{split}.npz") for split in ("train", "test")}
    return DescribedDataset("mine", DatasetSettings(files=files))


def test_weights_are_taken_by_the_data_set() -> None:
    mnist, fashion, digits = map(find_dataset, ("mnist", "fashion-mnist", "digits"))
    assert CNN.settings_for(mnist, {"binary": 1}) == {"binary": 1}
    with pytest.raises(NotApplicable, match="images"):
        CNN.settings_for(digits, {})
    assert CNN.settings_for(fashion, {"weights": "mine.safetensors"}) == {"weights": "mine.safetensors"}
    assert CNN.settings_for(fashion, {"trained_on": "mnist"}) == {"trained_on": "mnist"}
    if shipped("cnn", "fashion-mnist").exists():
        assert CNN.settings_for(fashion, {}) == {"trained_on": "fashion-mnist"}


def test_weights_of_one_data_set_are_not_played_on_another_of_its_shape(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, x=np.zeros((10, 28, 28), np.uint8), y=np.arange(10))
    mine = DescribedDataset("mine", DatasetSettings(file=str(file)))
    with pytest.raises(NotApplicable, match="arena train cnn --dataset mine"):
        CNN.settings_for(mine, {})


@pytest.mark.parametrize(
    "card", sorted(shipped("cnn", "fashion-mnist").parent.glob("*.json")), ids=lambda path: path.stem
)
def test_the_weights_for_fashion_mnist_are_what_their_cards_say(card: Path) -> None:
    """On the first 500 test images the accuracy is within four standard deviations of the card's."""
    told = json.loads(card.read_text())
    try:
        x, y = load_data("fashion-mnist", "test", 500)
    except UserError as failure:
        pytest.skip(f"no source of Fashion-MNIST here: {failure}")
    defense = load_defense(told["name"], trained_on="fashion-mnist")
    samples = 100 if told["name"] == "abs" else 500
    accuracy = float((defense.scores(x[:samples]).argmax(1) == y[:samples]).float().mean())
    expected = told["accuracy"]["test"]
    assert abs(accuracy - expected) < 4 * (expected * (1 - expected) / samples) ** 0.5
    assert told["data"]["fashion-mnist test"] == find_dataset("fashion-mnist").identity("test")
    assert defense.calibration is not None


def test_the_nearest_neighbor_knows_the_training_images_of_the_data(own: Path) -> None:
    data = described(own)
    settings = NearestNeighbor.settings_for(data, {})
    defense = load_defense("nearest-neighbor", **settings)
    x, y = data.load("train")
    assert (defense.scores(x).argmax(1) == y).all() and (defense.scores(x).amax(1) == 0).all()
    assert defense.identity.settings["trained_on"]["name"] == "mine"  # so that verify can load it again
    with pytest.raises(NotApplicable, match='no split "train"'):
        NearestNeighbor.settings_for(DescribedDataset("test", DatasetSettings(file=str(own / "test.npz"))), {})


def test_the_nearest_neighbor_needs_an_image_of_each_class(own: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=np.zeros((2, 4, 4), np.uint8), y=np.array([0, 2]))
    data = DescribedDataset("gap", DatasetSettings(files={"train": str(tmp_path / "train.npz")}))
    with pytest.raises(UserError, match="no image of class 1"):
        load_defense("nearest-neighbor", **NearestNeighbor.settings_for(data, {}))


def test_transfer_takes_a_substitute_that_was_trained_on_the_data(own: Path) -> None:
    data = described(own)
    with pytest.raises(NotApplicable, match="arena train substitute --dataset mine"):
        L2Transfer.settings_for(data, {})
    card = train("substitute", dataset=data, epochs=30, out=own, quiet=True)
    assert card.accuracy["test"] == 1 and set(card.data) == {"mine train", "mine test"}
    attack = L2Transfer(**L2Transfer.settings_for(data, {"substitute": str(own / "substitute.safetensors")}))
    x, y = data.load("test")
    assert (attack.network(x).argmax(1) == y).all()
    with pytest.raises(UserError, match="its substitute takes images of 3 channels"):
        play(LinearDefense(shape=(1, 9, 6)), attack, torch.zeros(1, 1, 9, 6), torch.zeros(1, dtype=torch.int64))


def test_a_substitute_for_few_images_sees_them_often_enough(own: Path) -> None:
    recipe = RECIPES["substitute"].on(described(own))
    assert recipe.epochs == 1000 and isinstance(recipe.build(), nn.Module)
    assert RECIPES["substitute"].on(find_dataset("mnist")).epochs == 12


def test_a_tournament_leaves_out_what_is_not_for_its_data(own: Path) -> None:
    command = ("run", "--defense", "mine.py:classify", "--workers", "1")
    without = arena(*command, "--attack", "transfer-l2", plugins="", cwd=own)
    assert without.returncode == 2 and "attack transfer-l2 has no substitute for mine" in without.stderr
    settings = own / "arena.toml"
    settings.write_text(
        settings.read_text().replace('attacks = ["transfer-l2", "transfer-linf"]', "")
        + '[attack.transfer-linf]\nsubstitute = "substitute.safetensors"\n'
        '[defense.nearest-neighbor]\nattacks = ["deepfool-l2-exact"]\n'
        '[preset.few.tournament]\nattacks = ["transfer-linf", "deepfool-l2-exact"]\n'
    )
    train("substitute", dataset=described(own), epochs=30, out=own, quiet=True)
    played = arena("run", "--preset", "few", "--workers", "1", plugins="", cwd=own)
    assert played.returncode == 0, played.stderr
    assert "not for mine, not played: abs, binary-abs, binary-cnn, cnn, madry" in " ".join(played.stderr.split())
    assert "nearest-neighbor" in played.stdout
    named = arena(*command, "--preset", "few", plugins="", cwd=own)
    assert named.returncode == 0 and "transfer-linf" in named.stdout
    checked = arena("verify", plugins="", cwd=own)
    assert "0 failures" in checked.stdout, checked.stdout


def test_the_second_tournament_in_miniature(tmp_path: Path) -> None:
    try:
        load_data("fashion-mnist", "test", 2)
    except UserError as failure:
        pytest.skip(f"no source of Fashion-MNIST here: {failure}")
    command = ("run", "--preset", "fashion-mnist", "--samples", "4", "--defense", "cnn", "--attack", "deepfool-linf")
    played = arena(*command, "--workers", "1", plugins="", cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    shown = arena("leaderboard", "--format", "json", plugins="", cwd=tmp_path)
    row = next(row for row in json.loads(shown.stdout) if row["attack"] == "deepfool-linf")
    assert (row["dataset"], row["epsilon"], row["samples"]) == ("fashion-mnist", 0.1, 4)
    assert row["clean_accuracy"] >= 0.5 and 0 < row["median_distance"] < 0.1
