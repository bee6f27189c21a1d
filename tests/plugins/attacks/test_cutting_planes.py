"""The cutting-plane attacks and their convex programs, held against closed forms, duality and enumeration."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from typed import Batch, present

import arena
from arena.errors import UserError
from arena.evaluation.bounds import joint
from arena.geometry.halfspaces import project
from arena.geometry.norms import Norm
from arena.interface.prototypes import FiniteSet
from arena.plugins.attacks.cutting_planes.moves import cheapest_flips, smallest_move
from arena.plugins.defenses.abs import ABS
from arena.testing import LinearDefense

NORMS = ["l0", "l2", "linf"]


def length(norm: str, d: np.ndarray) -> float:
    return float({"l0": np.count_nonzero(d), "l2": np.linalg.norm(d), "linf": np.abs(d).max(initial=0)}[norm])


def problem(seed: int, pixels: int, cuts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels x, and half-spaces that disagree about some of them but share an inner point of the box."""
    rng = np.random.default_rng(seed)
    x = rng.random(pixels) * (rng.random(pixels) < 0.6)
    normals = rng.normal(size=pixels) + 0.7 * rng.normal(size=(cuts, pixels))
    return x, normals, normals @ (rng.random(pixels) - x) * rng.random(cuts)


def closest(norm: Norm, x: Tensor | np.ndarray, normal: Tensor | np.ndarray, offset: Tensor | np.ndarray) -> Tensor:
    """Distance into one half-space, by the closed form."""
    return project(norm, torch.as_tensor(x), torch.as_tensor(normal), torch.as_tensor(offset)).distance


@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_move_is_smaller(norm: Norm, seed: int) -> None:
    """By duality: some convex combination of the half-spaces demands as much as all of them do."""
    x, normals, offsets = problem(seed, pixels=40, cuts=2)
    move = present(smallest_move(norm, x, normals, offsets))
    assert (normals @ move >= offsets - 1e-4).all()
    assert (x + move >= -1e-9).all() and (x + move <= 1 + 1e-9).all()
    share = np.linspace(0, 1, 501)[:, None]
    demanded = closest(
        norm,
        x,
        share * normals[0] + (1 - share) * normals[1],
        share[:, 0] * offsets[0] + (1 - share[:, 0]) * offsets[1],
    )
    assert length(norm, move) == pytest.approx(demanded.max().item(), rel=2e-3, abs=1e-4)


def costs(norm: Norm, x: np.ndarray) -> np.ndarray:
    return np.ones_like(x) if norm == "l0" else np.square(x - 0.5) if norm == "l2" else np.abs(x - 0.5)


@pytest.mark.parametrize("cuts", [1, 2, 3])
@pytest.mark.parametrize("norm", ["pixels", *NORMS])
def test_choices_of_pixels_against_all_of_them(norm: Norm | Literal["pixels"], cuts: int) -> None:
    """Rounding a linear relaxation is no exact method: it costs little, and seldom misses what there is."""
    missed, excess = 0, []
    for seed in range(12):
        x, normals, offsets = problem(seed, pixels=7, cuts=cuts)
        side = np.where(x >= 0.5, -1, 1)
        if norm == "pixels":
            every = np.array(list(product(*zip(-x, 0 * x, 1 - x, strict=True))))
            move, cost = smallest_move("l0", x, normals, offsets), np.ones_like(x)
        else:
            every = np.array(list(product((0, 1), repeat=len(x)))) * side
            move, cost = cheapest_flips(norm, x, normals, offsets, 0.5), costs(norm, x)
            assert move is None or set(move * side) <= {0, 1}
        across = every[(every @ normals.T >= offsets).all(1)]
        if move is None:
            missed += len(across) > 0
            continue
        assert (normals @ move >= offsets - 1e-6).all()
        total = np.max if norm == "linf" else np.sum
        excess.append(total((move != 0) * cost) - total((across != 0) * cost, axis=1).min())
    assert missed <= 1 and min(excess) >= 0
    assert np.mean(excess) <= 0.1
    assert np.max(excess) <= (1 if norm in ("pixels", "l0") else 0.25)


@pytest.mark.parametrize("norm", NORMS)
def test_half_spaces_out_of_reach_have_no_move(norm: Norm) -> None:
    x, normals = np.full(4, 0.5), np.ones((2, 4))
    assert smallest_move(norm, x, normals, np.array([1.0, 2.1])) is None
    assert smallest_move(norm, x, normals * [[1], [-1]], np.array([0.5, 0.5])) is None  # opposite
    assert cheapest_flips(norm, x, normals, np.array([1.0, 1.0]), 0.5) is None  # flips to 0 only go the wrong way


class Neighbors(LinearDefense):
    """The nearest of a few images of each class."""

    name = "neighbors"

    def __init__(self, images: list[Tensor]) -> None:
        super().__init__(classes=len(images))
        self.images = images

    @cached_property
    def prototypes(self) -> FiniteSet:
        return FiniteSet(self.images)

    def scores(self, x: Tensor) -> Tensor:
        return -torch.stack([torch.cdist(x.flatten(1), images).amin(1) for images in self.images], 1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def attacked(defense: arena.Defense, norm: Norm, x: Tensor, **settings: int) -> Tensor:
    y = defense.scores(x).argmax(1)
    records = arena.play(defense, arena.load_attack(f"cutting-plane-{norm}", **settings), x, y)
    return torch.tensor([record.distance for record in records], dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
def test_between_two_samples_lies_one_half_space(norm: Norm) -> None:
    """||x + d - s||^2 falls below ||x + d - t||^2 where 2 (s - t) . d >= ||x - s||^2 - ||x - t||^2."""
    own, other = noise(2, 784).split(1)
    x = own.lerp(noise(4, 784, seed=1), 0.3)
    found = attacked(Neighbors([own, other]), norm, x.view(-1, 1, 28, 28))
    offset = (x - other).square().sum(1) - (x - own).square().sum(1)
    demanded = closest(norm, x.double(), 2 * (other - own).double().expand_as(x), offset.double())
    assert (found >= demanded - 1e-6).all()
    assert (found <= (demanded.ceil() if norm == "l0" else 1.01 * demanded)).all()


def enumerated(norm: Norm, x: Tensor, images: list[Tensor], label: int) -> float:
    """The least distance at which some prototype of another class is nearer than all those of the label, by the convex
    program of each: best first, until the half-space of the label's nearest demands more."""
    x = x.double()
    energy = [(x - of_class).square().sum(1) for of_class in images]
    best, nearest = np.inf, int(energy[label].argmin())
    for rival in set(range(len(images))) - {label}:
        normals = 2 * (images[rival][:, None] - images[label][None]).double()
        offsets = energy[rival][:, None] - energy[label][None]
        demanded = closest(norm, x, normals[:, nearest], offsets[:, nearest])
        for index in demanded.argsort().tolist():
            if demanded[index] >= best:
                break
            move = smallest_move(norm, x.numpy(), normals[index].numpy(), offsets[index].numpy())
            best = best if move is None else min(best, length(norm, move))
    return best


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_few_prototypes_are_solved_to_the_optimum(norm: Norm, mnist: Batch) -> None:
    """The nearest of what the decoders of abs draw from 20 points."""
    pools = [ABS(points=20).prototypes.pool(label) for label in range(10)]
    defense = Neighbors([pool.image for pool in pools])
    x = mnist[0][:2]
    labels = defense.scores(x).argmax(1).tolist()
    least = [enumerated(norm, row, defense.images, label) for row, label in zip(x.flatten(1), labels, strict=True)]
    ratio = attacked(defense, norm, x, rounds=6) / torch.tensor(least)
    assert (ratio >= 1 - 1e-4).all()
    assert ratio.max() <= 1.02


def test_an_autoencoder_falls_just_above_its_lower_bound(mnist: Batch) -> None:
    defense = arena.load_defense("abs", points=100)
    x, y = (part[:1] for part in mnist)
    ratio = attacked(defense, "l2", x, classes=1, rounds=8) / joint(defense, x, y, "l2").value
    assert (ratio >= 1).all() and ratio.max() <= 1.1


def test_defenses_without_prototypes_are_refused() -> None:
    defense = arena.load_defense("cnn")
    with pytest.raises(UserError, match="cutting-plane-l2 needs white-box, which defense cnn does not offer"):
        arena.play(defense, arena.load_attack("cutting-plane-l2"), torch.zeros(1, 1, 28, 28), torch.zeros(1).long())
