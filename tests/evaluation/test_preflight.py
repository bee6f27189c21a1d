"""What a defense is asked before anything is played against it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from typed import Batch

import arena
from arena.evaluation.preflight import Remark, preflight
from arena.testing import BinaryLinearDefense, LinearDefense

X, Y = LinearDefense(classes=4, seed=3).sample_images(6, seed=4)


def remarks(
    scores: Callable[[LinearDefense, Tensor], Tensor] | None,
    x: Tensor = X,
    y: Tensor = Y,
    kind: type[LinearDefense] = LinearDefense,
    **attributes: Any,
) -> list[Remark]:
    defense: LinearDefense = type("Checked", (kind,), {"scores": scores} if scores else {})(classes=4, seed=3)
    vars(defense).update(attributes)
    return preflight(defense, x, y)


def linear(self: LinearDefense, x: Tensor) -> Tensor:
    return LinearDefense.scores(self, x)


@pytest.mark.parametrize("kind", [LinearDefense, BinaryLinearDefense])
def test_an_honest_defense_passes_without_a_word(kind: type[LinearDefense]) -> None:
    assert remarks(None, kind=kind) == []
    assert remarks(None, X[:1], Y[:1], kind=kind) == []


@pytest.mark.parametrize("name", ["cnn", "binary-cnn", "madry", "nearest-neighbor"])
def test_the_shipped_defenses_pass_without_a_word(name: str, mnist: Batch) -> None:
    assert preflight(arena.load_defense(name), mnist[0][:4], mnist[1][:4]) == []


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (lambda self, x: linear(self, x + 0.05 * torch.randn_like(x)), "two answers"),
        (lambda self, x: linear(self, x - x.mean(0)), "alone and among others"),
        (lambda self, x: linear(self, x).softmax(1), "probabilities"),
        (lambda self, x: linear(self, x.round()), "zero everywhere, for 2 of 2 images"),
        (lambda self, x: linear(self, x.sqrt()), "not finite"),
        (lambda self, x: linear(self, x.detach()), "declares gradient = 'autograd', but has none"),
    ],
)
def test_what_may_mislead_is_warned_of(scores: Callable[[LinearDefense, Tensor], Tensor], words: str) -> None:
    (remark,) = remarks(scores)
    assert remark.level == "warn" and words in remark.what and "linear" in remark.what and remark.remedy
    assert "\n" not in str(remark)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (lambda self, x: linear(self, x)[:, :1], "single logit"),
        (lambda self, x: linear(self, x).long(), "int64"),
        (lambda self, x: linear(self, x) * torch.nan, "not finite"),
        (lambda self, x: linear(self, x.mul_(0.5)), "writes into the images"),
        (lambda self, x: linear(self, x[:, :, :5]), "cannot be asked: RuntimeError"),
        (lambda self, x: linear(self, torch.nn.BatchNorm1d(784)(x.flatten(1))), "cannot be asked: ValueError"),
    ],
)
def test_what_cannot_be_played_is_refused(scores: Callable[[LinearDefense, Tensor], Tensor], words: str) -> None:
    x = X.clone()
    (remark,) = remarks(scores, x)
    assert remark.level == "refuse" and words in remark.what and "linear" in remark.what
    assert torch.equal(x, X)


@pytest.mark.parametrize(
    ("held", "path"),
    [
        ({"net": torch.nn.Linear(2, 2)}, "self.net"),
        ({"parts": [torch.nn.Linear(2, 2).eval(), torch.nn.Dropout()]}, "self.parts[1]"),
        ({"wrapper": type("Wrapper", (), {})()}, "self.wrapper.net"),
    ],
)
def test_training_mode_is_found_wherever_the_network_is_kept(held: dict[str, Any], path: str) -> None:
    if "wrapper" in held:
        held["wrapper"].net = torch.nn.Sequential(torch.nn.Dropout())
    (remark,) = remarks(None, **held)
    assert remark.level == "warn" and path in remark.what and remark.remedy == f"call {path}.eval()"


def test_labels_without_a_class_are_named() -> None:
    (remark,) = remarks(None, y=torch.tensor([0, 7, 1, 7, 2, 9]))
    assert remark.level == "warn" and "4 classes, and none for label 7, 9" in remark.what


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    remarks(lambda self, x: linear(self, x) + torch.randn(1))
    assert torch.equal(torch.rand(3), expected)
