"""Every built-in attack on images of every shape: colour, not square, tiny; two classes and a hundred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_attacks import ATTACKS, BinaryPrototypes, load
from torch import Tensor

import arena
from arena.errors import UserError
from arena.evaluation.bounds import joint
from arena.plugins.attacks import square
from arena.plugins.attacks.minimum_norm import largest
from arena.plugins.attacks.noise import salt_and_pepper
from arena.plugins.attacks.transfer import Transfer
from arena.target import slices
from arena.target.logits import margin
from arena.target.query_log import QueryLog
from arena.target.target import Target
from arena.testing import ExactLinearDefense, LinearDefense, LinearPrototypes

# Settings that make the attack quick, where those that make it precise take seconds.
LIGHT: dict[str, dict[str, Any]] = {
    "boundary": {"steps": 100},
    "hop-skip-jump": {"steps": 3, "probes": 20},
    "simba": {"sizes": 1, "steps": 100, "bisections": 0},
    "square": {"steps": 100},
    "surfree": {"steps": 10},
    "parsimonious": {"blocks": (8, 2), "flips": (), "rounds": 10},
    "pointwise": {"restarts": 1, "crossovers": 0, "epsilons": 20, "bisections": 2},
    "transfer": {"balls": (), "epsilons": 30},
}
OPPONENTS = [((3, 16, 24), 10), ((1, 20, 40), 100), ((1, 8, 8), 2)]
CASES = [(name, *opponent) for name in ATTACKS for opponent in OPPONENTS[: 1 if name.endswith("-exact") else None]]


def quick(name: str, defense: LinearDefense) -> arena.Attack:
    """The attack with settings that make it quick, transferring from the defense itself."""
    known = arena.load_attack(name).settings.model_dump()
    if name.endswith("-ge"):
        settings: dict[str, Any] = {"steps": 1, "epsilons": 20, "bisections": 0}
    else:
        settings = next((settings for prefix, settings in LIGHT.items() if name.startswith(prefix)), {})
    attack = load(name, **{key: value for key, value in settings.items() if key in known})
    if isinstance(attack, Transfer):
        classes, pixels = defense.matrix.shape
        layer = torch.nn.Linear(pixels, classes, bias=False)
        layer.weight.data = defense.matrix
        attack.network = torch.nn.Sequential(torch.nn.Flatten(), layer)
    return attack


@pytest.mark.parametrize(("name", "shape", "classes"), CASES, ids=str)
def test_plays_images_of_every_shape(name: str, shape: tuple[int, ...], classes: int) -> None:
    kinds = (LinearDefense, ExactLinearDefense, LinearPrototypes)
    kind = next(kind for kind in kinds if arena.load_attack(name).applies_to(kind))
    defense = kind(classes=classes, shape=shape)
    x, y = defense.sample_images(3, seed=3)
    attack = quick(name, defense)
    records = arena.play(defense, attack, x, y)
    found = torch.tensor([record.distance for record in records], dtype=torch.float64)
    optimum = defense.minimal_distance(attack.norm, x)
    assert {record.status for record in records} <= {"found", "not_found"}
    assert {record.adversarial.shape for record in records if record.adversarial is not None} == {shape}
    assert (found >= optimum * (1 - 1e-5)).all()
    if not name.startswith(tuple(LIGHT)):
        assert (found / optimum).median() <= 1.5 * ATTACKS[name][1], found / optimum


@pytest.mark.parametrize("name", ["square-linf", "square-l2", "parsimonious-linf"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 40), (3, 8, 5)], ids=str)
def test_default_windows_and_blocks_fit_every_image(name: str, shape: tuple[int, ...]) -> None:
    defense = LinearDefense(classes=10, shape=shape)
    x, y = defense.sample_images(2)
    records = arena.play(defense, arena.load_attack(name), x, y, budget=300)
    assert [record.status for record in records] == ["found", "found"]


def test_windows_are_uniform_over_rows_and_columns() -> None:
    images, rng = torch.zeros(5000, 1, 6, 9), torch.Generator().manual_seed(0)
    at = square.corners(images, 3, rng)
    for axis, room in ((0, 4), (1, 7)):
        count = torch.bincount(at[:, axis])
        assert len(count) == room
        assert (count / len(at) - 1 / room).abs().max() < 0.02


@pytest.mark.parametrize("name", ["hop-skip-jump", "parsimonious-linf", "fgsm-ge"])
def test_asks_in_slices_what_does_not_fit_into_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 200 images at once, or the probes of one sample, and the same result."""
    defense = LinearDefense(classes=3, shape=(3, 8, 10))
    x, y = defense.sample_images(3)
    attack = quick(name, defense)
    whole = arena.play(defense, attack, x, y)
    asked, charge = [], QueryLog.charge

    def counted(log: QueryLog, index: Tensor, **how: Any) -> None:
        asked.append(len(index))
        charge(log, index, **how)

    monkeypatch.setattr(QueryLog, "charge", counted)
    monkeypatch.setattr(slices, "CEILING", 200 * x[0].numel() * 4)
    sliced = arena.play(defense, attack, x, y)
    assert max(asked) <= 200
    assert [record.queries for record in sliced] == [record.queries for record in whole]
    assert [record.distance for record in sliced] == pytest.approx([record.distance for record in whole], rel=1e-3)


def test_a_budget_that_ends_between_slices_leaves_no_half_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    defense = LinearDefense(shape=(1, 20, 40))
    x, y = defense.sample_images(2)
    monkeypatch.setattr(slices, "CEILING", 2 * 128 * x[0].numel() * 4)
    target = Target(defense, QueryLog(x, y, "l2", budget=1700), "score").with_finite_differences(0.01)
    target.scores(x[1:].expand(150, -1, -1, -1), torch.ones(150, dtype=torch.int64))
    first, second = target.gradient(x, margin)
    assert first.all()
    assert not second.any()


def test_salt_and_pepper_takes_whole_pixels() -> None:
    x = torch.full((1, 3, 40, 50), 0.5)
    noisy = salt_and_pepper(x, torch.tensor([0.3]), torch.Generator().manual_seed(0))
    changed = noisy != x
    assert torch.equal(changed.any(1), changed.all(1))
    assert changed[:, 0].double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert len(noisy.flatten(2)[0, :, changed[0, 0].flatten()].unique(dim=1).T) == 8  # all corners of the colour cube


def test_the_l0_ball_keeps_whole_pixels() -> None:
    x = torch.tensor([[[[0.1, -0.9, 0.2]], [[0.5, 0.0, 0.3]]]])
    assert torch.equal(largest(x, torch.tensor([2])), torch.tensor([[[[0.1, -0.9, 0.0]], [[0.5, 0.0, 0.0]]]]))


@pytest.mark.parametrize("name", ["pointwise-l0", "fmn-l0", "sigma-zero", "vfga"])
def test_no_colour_pixel_of_an_l0_adversarial_can_be_reset(name: str) -> None:
    defense = LinearDefense(classes=10, shape=(3, 8, 8))
    x, y = defense.sample_images(2)
    for record, clean, label in zip(arena.play(defense, load(name), x, y), x, y, strict=True):
        image = torch.from_numpy(record.adversarial)
        pixels = (image != clean).any(0).nonzero()
        assert record.distance == len(pixels)
        for row, column in pixels:
            less = image.clone()
            less[:, row, column] = clean[:, row, column]
            assert defense.scores(less[None]).argmax() == label


def test_a_substitute_for_other_data_is_a_setting(tmp_path: Path) -> None:
    defense = LinearDefense(classes=10, shape=(3, 8, 8))
    x, y = defense.sample_images(2)
    source = (
        "import torch\nfrom arena.testing import LinearDefense\n\ndef build():\n"
        "    layer = torch.nn.Linear(192, 10, bias=False)\n"
        "    layer.weight.data = LinearDefense(classes=10, shape=(3, 8, 8)).matrix\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), layer)\n"
    )
    (tmp_path / "network.py").write_text(source)
    attack = arena.load_attack("transfer-l2", substitute=f"{tmp_path}/network.py:build")
    found = torch.tensor([record.distance for record in arena.play(defense, attack, x, y)], dtype=torch.float64)
    assert (found <= 1.3 * defense.minimal_distance("l2", x)).all()
    with pytest.raises(UserError, match="set substitute"):
        arena.play(defense, arena.load_attack("transfer-l2"), x, y)


@pytest.mark.parametrize("kind", [LinearPrototypes, BinaryPrototypes], ids=lambda kind: kind.name)
def test_bounds_count_whole_pixels(kind: type[LinearPrototypes]) -> None:
    """The half-space of each class is that of the linear defense: the bound is the optimum."""
    defense = kind(classes=3, shape=(3, 6, 8))
    x, y = defense.sample_images(4)
    assert torch.equal(joint(defense, x, y, "l0").value, defense.minimal_distance("l0", x))
