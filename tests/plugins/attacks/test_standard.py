"""AutoAttack at one epsilon: who lies within falls, whoever does not stands, and no stage asks about the fallen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import pytest
import torch
from torch import Tensor

import arena
from arena.errors import NotApplicable, UserError
from arena.geometry.norms import Norm
from arena.interface.dataset import Dataset
from arena.plugins.attacks.standard import L2Standard, LinfStandard
from arena.testing import LinearDefense, ReluDefense

FORMS = pytest.mark.parametrize("cls", [LinfStandard, L2Standard], ids=lambda cls: cls.name)


def played(defense: arena.Defense, attack: arena.Attack, x: Tensor, y: Tensor) -> tuple[list[arena.Record], Tensor]:
    """The records, and the distances [B]."""
    records = arena.play(defense, attack, x, y)
    return records, torch.tensor([record.distance for record in records], dtype=torch.float64)


@FORMS
@pytest.mark.parametrize(
    ("defense", "margin"), [(LinearDefense(classes=10), 1.02), (ReluDefense(), 1.1)], ids=["linear", "relu"]
)
def test_a_sample_falls_if_its_boundary_is_within_epsilon(
    cls: type[LinfStandard] | type[L2Standard], defense: LinearDefense | ReluDefense, margin: float
) -> None:
    x, y = defense.sample_images(4)
    for image, label, optimum in zip(x.split(1), y.split(1), defense.minimal_distance(cls.norm, x), strict=True):
        beyond, below = margin * float(optimum), 0.99 * float(optimum)
        assert played(defense, cls(epsilon=beyond, windows=50), image, label)[1] <= beyond
        assert played(defense, cls(epsilon=below, steps=20, candidates=3, windows=50), image, label)[1] > below


@FORMS
def test_each_stage_is_played_on_those_that_stand(cls: type[LinfStandard] | type[L2Standard]) -> None:
    defense = LinearDefense(classes=10)
    x, y = defense.sample_images(8)
    optimum = defense.minimal_distance(cls.norm, x)
    epsilon = float(optimum.median()) * 1.3
    records, found = played(defense, cls(epsilon=epsilon, steps=10, candidates=3, windows=30), x, y)
    outside = optimum > epsilon
    assert outside.any() and not (found[outside] <= epsilon).any()
    first = [record for record, near in zip(records, optimum < epsilon / 1.3, strict=True) if near]
    assert first and all(record.gradient_queries <= 10 and record.queries <= 10 + 10 for record in first)
    for record in (record for record, far in zip(records, outside, strict=True) if far):
        # APGD once, APGD-T and FAB-T for two classes each; the clean image, Square's windows, and where FAB met an
        # adversarial beyond epsilon, twice the way back from it.
        assert record.gradient_queries == 10 + 2 * 10 + 2 * 10
        assert record.queries == 10 + (1 + 2 * 10) + (1 + 2 * 2 * 10) + 30 + 2 * 10


class Stairs(LinearDefense):
    """The linear defense as far as decisions go, but its logits rise in steps: they have no slope."""

    def scores(self, x: Tensor) -> Tensor:
        scores = super().scores(x)
        return (scores - scores.detach()) * 0 + (1e3 * scores.detach()).round()


def test_square_sees_what_gradients_hide() -> None:
    defense = Stairs(classes=10)
    x, y = defense.sample_images(4)
    epsilon = 4 * float(LinearDefense(classes=10).minimal_distance("linf", x).max())
    _, blind = played(defense, LinfStandard(epsilon=epsilon, steps=5, candidates=3, windows=1), x, y)
    _, found = played(defense, LinfStandard(epsilon=epsilon, steps=5, candidates=3, windows=500), x, y)
    assert (blind > epsilon).any() and (found <= epsilon).all()


class Digits(Dataset):
    name, shape, classes, splits = "digits", (1, 8, 8), 10, ("test",)
    thresholds: Mapping[Norm, float] = {"linf": 0.1}

    def load(self, split: str, samples: int | None = None) -> NoReturn:
        pytest.fail("settings ask for no image")


def test_epsilon_is_the_threshold_of_the_data_unless_it_is_set() -> None:
    assert LinfStandard.settings_for(Digits(), {"steps": 3}) == {"steps": 3, "epsilon": 0.1}
    assert LinfStandard.settings_for(Digits(), {"epsilon": 0.2}) == {"epsilon": 0.2}
    assert L2Standard.settings_for(Digits(), {"epsilon": 2.0}) == {"epsilon": 2.0}
    with pytest.raises(NotApplicable, match="digits has no threshold in l2: set epsilon"):
        L2Standard.settings_for(Digits(), {})


def test_without_an_epsilon_it_says_so() -> None:
    defense = LinearDefense()
    with pytest.raises(UserError, match="attack standard-linf: set epsilon"):
        arena.play(defense, LinfStandard(), *defense.sample_images(1))
