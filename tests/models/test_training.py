"""Training: the same bytes from the same seed, whether it was killed in between or not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from torch import Tensor, nn

from arena.data import data_hash, find_dataset, load_data, load_split
from arena.errors import UserError
from arena.interface.dataset import Dataset
from arena.models import train as training
from arena.models.augment import shift_and_rotate
from arena.models.recipes import RECIPES
from arena.models.recipes.adversarial import AdversarialTraining
from arena.models.recipes.autoencoders import Autoencoders
from arena.models.recipes.classifier import Classifier
from arena.models.train import train
from arena.plugins.defenses.abs import ABS
from arena.plugins.defenses.binary_abs import BinaryABS


def few(dataset: Dataset, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The first 1000 images of a split: what these tests train on."""
    return load_split(dataset, split, 1000)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "load_split", few)


@pytest.mark.parametrize("name", ["cnn", "binary-cnn"])
def test_training_learns_and_writes_weights_and_card(name: str, small: None, tmp_path: Path) -> None:
    card = train(name, epochs=4, out=tmp_path, quiet=True)
    assert card.accuracy["test"] > 0.8
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == [f"{name}.json", f"{name}.safetensors"]
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written["sha256"] == card.sha256
    assert written["seed"] == 0
    assert written["recipe"]["epochs"] == 4
    assert written["data"]["mnist train"] == data_hash("mnist", "train")


def test_the_seed_decides_the_bytes(small: None, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = train("cnn", epochs=1, seed=5, out=tmp_path / "a", quiet=True)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = train("cnn", epochs=1, seed=5, out=tmp_path / "b", quiet=True)
    assert torch.equal(torch.get_rng_state(), state)
    other = train("cnn", epochs=1, seed=6, out=tmp_path / "c", quiet=True)
    assert first.sha256 == again.sha256 != other.sha256


KILLED = """
import os, signal, sys
sys.path += ["..", "."]
from arena.models import train as training
from arena.models.recipes import classifier
from test_training import few
distort, calls = classifier.shift_and_rotate, []
def killer(*arguments):
    calls.append(1)
    if len(calls) == 13:  # in the second epoch of 8 steps
        os.kill(os.getpid(), signal.SIGKILL)
    return distort(*arguments)
training.load_split, classifier.shift_and_rotate = few, killer
training.train("cnn", epochs=3, out=sys.argv[1], quiet=True)
"""


def test_a_killed_run_continues_and_ends_the_same(small: None, tmp_path: Path) -> None:
    whole = train("cnn", epochs=3, out=tmp_path / "whole", quiet=True)
    out = tmp_path / "killed"
    here = ROOT / "tests" / "models"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], cwd=here, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in out.rglob("*.*")] == ["cnn-0.pt"]
    assert train("cnn", epochs=3, out=out, quiet=True).sha256 == whole.sha256


def test_a_run_killed_where_its_cycle_begins_anew_ends_the_same(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Classifier(epochs=2, restarts=(1,))
    monkeypatch.setitem(RECIPES, "cnn", recipe)
    whole = train("cnn", out=tmp_path / "whole", quiet=True)

    class Killed(Classifier):
        def loss(self, model: nn.Module, x: Tensor, y: Tensor, epoch: int, rng: torch.Generator) -> Tensor:
            if epoch == 1:
                raise KeyboardInterrupt
            return super().loss(model, x, y, epoch, rng)

    monkeypatch.setitem(RECIPES, "cnn", Killed(epochs=2, restarts=(1,)))
    with pytest.raises(KeyboardInterrupt):
        train("cnn", out=tmp_path / "killed", quiet=True)
    monkeypatch.setitem(RECIPES, "cnn", recipe)
    assert train("cnn", out=tmp_path / "killed", quiet=True).sha256 == whole.sha256


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 100 images of a split: for models that are slow to judge."""

    monkeypatch.setattr(training, "load_split", lambda dataset, split: load_split(dataset, split, 100))


def test_binary_abs_scales_the_autoencoders_that_it_trains_first(tiny: None, tmp_path: Path) -> None:
    card = train("binary-abs", epochs=1, out=tmp_path, quiet=True)
    files = {"abs.json", "abs.safetensors", "binary-abs.json", "binary-abs.safetensors"}
    assert {path.name for path in tmp_path.rglob("*.*")} == files
    assert card.recipe["scaled"] == json.loads((tmp_path / "abs.json").read_text())["sha256"]
    plain, scaled = ABS(tmp_path / "abs.safetensors"), BinaryABS(tmp_path / "binary-abs.safetensors")
    states = plain.network.state_dict(), scaled.network.state_dict()
    different = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    assert different <= {"scales"} and torch.equal(states[0]["scales"], torch.ones(10))


def test_autoencoders_learn_to_reconstruct(tiny: None, tmp_path: Path) -> None:
    recipe = Autoencoders(epochs=30, restarts=(), annealed=1, batch_size=50)
    x, y = load_data("mnist", "train")
    x, y = x[:100], y[:100]
    torch.manual_seed(0)
    model = recipe.build()
    rng, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for epoch in range(recipe.epochs):
        optimizer.zero_grad()
        loss = recipe.loss(model, x, y, epoch, rng)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[1]  # the first epoch weighs the KL divergence tenfold


def test_adversarial_training_tells_its_accuracy_under_pgd(tiny: None, tmp_path: Path) -> None:
    card = train("madry", epochs=9, out=tmp_path, quiet=True)  # the last one under PGD
    (under_pgd,) = (share for name, share in card.accuracy.items() if "PGD" in name)
    assert 0 <= under_pgd <= card.accuracy["test"] <= 1
    assert card.device == "cpu" and card.seconds is not None


def test_a_checkpoint_that_does_not_fit_is_one_line(small: None, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "cnn-0.pt"
    checkpoint.parent.mkdir()
    torch.save({"identity": {"name": "another"}}, checkpoint)
    with pytest.raises(UserError, match=r"another recipe.*delete it"):
        train("cnn", epochs=1, out=tmp_path, quiet=True)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(UserError, match=r"cannot read.*delete it"):
        train("cnn", epochs=1, out=tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cnm"}, "did you mean cnn"),
        ({"name": "cnn", "epochs": 0}, "give 1 or more"),
        ({"name": "nearest-neighbor", "epochs": 3}, "no epochs"),
        ({"name": "cnn", "dataset": "digits"}, r"no recipe for digits: .*28"),
        ({"name": "cnn", "dataset": "mnits"}, "did you mean mnist"),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train(**arguments, out=tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_follows_the_data_set() -> None:
    recipe = RECIPES["madry"].on(find_dataset("fashion-mnist"))
    assert isinstance(recipe, AdversarialTraining)
    assert (recipe.epsilon, recipe.step_size) == pytest.approx((0.1, 0.02))
    assert RECIPES["madry"].on(find_dataset("mnist")) == RECIPES["madry"]


def test_a_folder_that_cannot_be_is_one_line(small: None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        train("cnn", epochs=1, out=tmp_path / "file", quiet=True)


def test_the_nearest_neighbor_is_its_data(small: None, tmp_path: Path) -> None:
    card = train("nearest-neighbor", out=tmp_path)
    assert card.recipe["prototypes"] == 1000
    assert card.accuracy["test"] > 0.8
    assert card.sha256 is None
    assert [path.name for path in tmp_path.iterdir()] == ["nearest-neighbor.json"]


def test_no_distortion_is_the_identity() -> None:
    x = torch.rand(5, 1, 28, 28)
    assert torch.allclose(shift_and_rotate(x, 0.0, 0.0, torch.Generator()), x, atol=1e-5)


@given(seed=st.integers(0, 2**32), shift=st.floats(0, 3), rotation=st.floats(0, 20))
def test_distortion_is_small_and_stays_in_the_box(seed: int, shift: float, rotation: float) -> None:
    x = torch.zeros(50, 1, 28, 28)
    x[:, :, 12:16, 12:16] = 1  # a square around the center
    moved = shift_and_rotate(x, shift, rotation, torch.Generator().manual_seed(seed))
    assert torch.equal(moved, shift_and_rotate(x, shift, rotation, torch.Generator().manual_seed(seed)))
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6
    assert torch.allclose(moved.sum((1, 2, 3)), torch.tensor(16.0), rtol=0.1)  # nothing is stretched
    place = torch.arange(28.0) - 13.5
    centers = torch.stack([moved.sum((1, axis)) @ place / moved.sum((1, 2, 3)) for axis in (2, 3)])
    assert centers.norm(dim=0).max() <= shift * 2**0.5 + 0.05


def test_each_image_is_distorted_by_itself() -> None:
    moved = shift_and_rotate(torch.rand(1, 1, 28, 28).expand(8, -1, -1, -1), 2.0, 10.0, torch.Generator())
    assert len({image.numpy().tobytes() for image in moved}) == 8
