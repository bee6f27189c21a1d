"""What an attack finds that another, or a plainer form of its own, does not: classifiers made to show it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import arena
from arena.testing import LinearDefense


class Decoy(LinearDefense):
    """The likeliest other class is ten times as far as the other one, which is at 1.01 (L2) and 0.051 (Linf)."""

    def scores(self, x: Tensor) -> Tensor:
        far, near = (x.flatten(1) - 0.5).split(392, 1)
        return torch.stack([0 * far[:, 0], 0.004 * far.sum(1) - 0.8, 0.05 * near.sum(1) - 1], 1)


@pytest.mark.parametrize(("name", "optimum"), [("ddn", 1.01), ("fmn-l2", 1.01), ("fmn-linf", 0.051)])
def test_half_of_the_steps_look_beyond_the_likeliest_other_class(name: str, optimum: float) -> None:
    x, y = torch.full((1, 1, 28, 28), 0.5), torch.zeros(1, dtype=torch.int64)
    (record,) = arena.play(Decoy(classes=3), arena.load_attack(name), x, y)
    assert record.distance == pytest.approx(optimum, rel=0.01)


class Shell(LinearDefense):
    """Up the gradient lies a plane of class 1, at 1.3 (L2) and 0.0657 (Linf); noise, which ends up farther, leads to
    the shell of class 2 in the other half of the pixels, at 1 (L2) and 0.0505 (Linf)."""

    def scores(self, x: Tensor) -> Tensor:
        plane, shell = (x.flatten(1) - 0.5).split(392, 1)
        uphill = plane.sum(1) / 392**0.5 / 1.3 - 1
        return torch.stack([0 * uphill, uphill, 2 * (shell.square().sum(1) - 1)], 1)


@pytest.mark.parametrize(("name", "optimum"), [("brendel-bethge-l2", 1), ("brendel-bethge-linf", 0.0505)])
def test_the_walk_from_the_farther_start_may_end_closer(name: str, optimum: float) -> None:
    x, y = torch.full((1, 1, 28, 28), 0.5), torch.zeros(1, dtype=torch.int64)
    (record,) = arena.play(Shell(classes=3), arena.load_attack(name), x, y)
    assert record.distance == pytest.approx(optimum, rel=0.02)


def test_blocks_turn_pixels_that_only_turn_together() -> None:
    class Pairs(LinearDefense):
        """Brighter than 0.6 in the darker pixel of each pair of neighbours, in the mean."""

        def scores(self, x: Tensor) -> Tensor:
            brightness = torch.minimum(x[..., 0::2], x[..., 1::2]).mean((1, 2, 3))
            return torch.stack([torch.full_like(brightness, 0.6), brightness], 1)

    x, y = torch.full((2, 1, 28, 28), 0.5), torch.zeros(2, dtype=torch.int64)
    pixels, pairs = (
        arena.play(Pairs(classes=2), arena.load_attack("parsimonious-linf", blocks=sides, flips=()), x, y)
        for sides in ((1,), (2, 1))
    )
    assert {record.status for record in pixels} == {"not_found"}
    assert [record.distance for record in pairs] == pytest.approx([0.1, 0.1], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "settings", "restarts"),
    [
        ("apgd-dlr-linf", {"max_epsilon": 0.4, "epsilons": 1, "bisections": 0, "steps": 1}, 100),
        ("fab-l2", {"steps": 1, "candidates": 3}, 150),
    ],
)
def test_restarts_find_what_one_start_misses(name: str, settings: dict[str, Any], restarts: int) -> None:
    class Pocket(LinearDefense):
        """Flat, but where the first four pixels are bright together: one noise of sixteen starts there."""

        def scores(self, x: Tensor) -> Tensor:
            bright = x.flatten(1)[:, :4].amin(1)
            return torch.stack([bright * 0 + 0.5, 5 * (bright - 0.6).relu()], 1)

    x, y = torch.full((12, 1, 28, 28), 0.5), torch.zeros(12, dtype=torch.int64)
    once, often = (
        [
            record.status
            for record in arena.play(Pocket(classes=2), arena.load_attack(name, **settings, restarts=times), x, y)
        ]
        for times in (1, restarts)
    )
    assert "not_found" in once
    assert set(often) == {"found"}


def test_targets_find_the_class_that_no_untargeted_loss_climbs_to() -> None:
    class Plateau(LinearDefense):
        """Two likely classes that never win, and one that does where images are brighter than 0.7 in the mean."""

        def scores(self, x: Tensor) -> Tensor:
            bright = x.mean((1, 2, 3))
            flat = torch.tensor([0.5, 0.49, 0.48]).expand(len(x), 3) + 0 * bright[:, None]
            return torch.cat([flat, 5 * (bright[:, None] - 0.6)], 1)

    x, y = torch.full((2, 1, 28, 28), 0.5), torch.zeros(2, dtype=torch.int64)
    small_balls = {
        "steps": 10,
        "epsilons": 5,
        "bisections": 6,
        "max_epsilon": 0.3,
    }  # noise alone does not brighten images by so much
    untargeted, targeted = (
        arena.play(Plateau(classes=4), arena.load_attack(name, **small_balls | more), x, y)
        for name, more in (("apgd-dlr-linf", {}), ("apgd-t-linf", {"candidates": 4}))
    )
    assert {record.status for record in untargeted} == {"not_found"}
    assert [record.distance for record in targeted] == pytest.approx([0.2, 0.2], rel=0.02)
