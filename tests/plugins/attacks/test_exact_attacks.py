"""Exact gradients of the nearest neighbour, and attacks whose result can be had otherwise: by formula or by bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from typed import Batch, present

import arena
from arena.geometry.halfspaces import project
from arena.interface.contracts import Defense
from arena.models.nearest_neighbor import NearestNeighborModel
from arena.plugins import attacks
from arena.plugins.attacks.transfer import Transfer
from arena.testing import LinearDefense
from arena.toolbox.substitute import Substitute

RNG = torch.Generator().manual_seed(5)
PROTOTYPES = torch.rand(300, 1, 28, 28, generator=RNG)
LABELS = torch.arange(300) % 5


def brute_force(x: Tensor) -> Tensor:
    """The logits [B, 5] in float64, by all distances."""
    distances = (x.double().flatten(1)[:, None] - PROTOTYPES.double().flatten(1)).norm(dim=2)
    return torch.stack([-distances[:, label == LABELS].amin(1) for label in range(5)], 1)


@pytest.mark.parametrize(("rows", "radius"), [(1, 0.0), (7, 5.0), (7, 0.1), (300, 5.0)])
def test_the_gradient_of_a_minimum_over_prototypes_is_exact(rows: int, radius: float) -> None:
    steps = torch.randn(rows, 1, 28, 28, generator=torch.Generator().manual_seed(rows))
    x = (PROTOTYPES[3] * 0.6 + 0.2 + radius / 28 * steps).clamp(0, 1)
    model = NearestNeighborModel(PROTOTYPES, LABELS)
    scores, gradients = model.score_gradient(x)
    assert torch.equal(scores, model(x))
    reference = x[:7].double().requires_grad_()
    logits = brute_force(reference)
    for label in range(5):
        expected = torch.autograd.grad(logits[:, label].sum(), reference, retain_graph=True)[0]
        assert (gradients[:7, label] - expected).abs().max() < 1e-5


def test_at_a_prototype_the_gradient_of_its_class_is_zero_and_the_others_are_unit_vectors() -> None:
    _, gradients = NearestNeighborModel(PROTOTYPES, LABELS).score_gradient(PROTOTYPES[:5])
    lengths = gradients.flatten(2).norm(dim=2)
    assert torch.allclose(lengths, 1 - torch.eye(5), atol=1e-5)


def test_no_images_have_no_gradients() -> None:
    scores, gradients = NearestNeighborModel(PROTOTYPES, LABELS).score_gradient(PROTOTYPES[:0])
    assert scores.shape == (0, 5)
    assert gradients.shape == (0, 5, 1, 28, 28)


class Neighbors(Defense):
    """The nearest of two prototypes."""

    name = "neighbors"
    gradient = "exact"

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        apart = 0.6 * torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0)) - 0.3
        self.prototypes = torch.stack([torch.full_like(apart, 0.5), 0.5 + apart])
        self.network = NearestNeighborModel(self.prototypes, torch.arange(2))

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)

    def score_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.score_gradient(x)


@pytest.mark.parametrize("cls", attacks.EXACT, ids=lambda cls: cls.name)
def test_the_boundary_between_two_prototypes_is_half_way(cls: type[arena.Attack]) -> None:
    """The perturbation must go as far along w, which leads to the other, as half of w does; in L2 that is the way."""
    defense = Neighbors()
    x, w = defense.prototypes[:1], (defense.prototypes[1] - defense.prototypes[0]).flatten().double()
    half_way = float(project(cls.norm, x.flatten().double(), w, w.square().sum() / 2).distance)
    (record,) = arena.play(defense, cls(), x, torch.tensor([0]))
    most = {"l0": 1.25, "l1": 1.25, "l2": 1.01, "linf": 1.01}[cls.norm]
    assert half_way * (1 - 1e-6) <= present(record.distance) <= most * half_way


def test_exact_attacks_play_where_the_gradient_is_exact_and_nowhere_else() -> None:
    for defense in (arena.load_defense("cnn"), LinearDefense(), Neighbors()):
        for cls in attacks.GRADIENT:
            plays = cls.applies_to(type(defense)), arena.load_attack(f"{cls.name}-exact").applies_to(type(defense))
            assert plays == (defense.gradient != "exact", defense.gradient == "exact")


def test_an_exact_gradient_costs_one_query() -> None:
    defense = Neighbors()
    records = arena.play(defense, arena.load_attack("fgm-exact"), defense.prototypes, torch.arange(2))
    assert [record.gradient_queries for record in records] == [1, 1]


def test_on_mnist_the_nearest_neighbor_falls_close_to_its_certificate(mnist: Batch) -> None:
    """An image that is nearer to s_c than to s_y, the nearest of its label to x, is at least
    (||x - s_c||^2 - ||x - s_y||^2) / (2 ||s_c - s_y||) from x; the certificate is the least of these over all s_c."""
    defense = arena.load_defense("nearest-neighbor")
    x, y = (part[:3] for part in mnist)
    records = arena.play(defense, arena.load_attack("deepfool-l2-exact", steps=15), x, y)
    train, labels = arena.load_data("mnist", "train")
    train = train.flatten(1)
    for record, image, label in zip(records, x.flatten(1), y, strict=True):
        squares = (train - image).square().sum(1)
        own = squares.masked_fill(labels != label, torch.inf).argmin()
        bounds = (squares - squares[own]) / (2 * (train - train[own]).norm(dim=1).clamp_min(1e-9))
        certificate = float(bounds[labels != label].min())
        assert 0.999 * certificate <= present(record.distance) <= 1.5 * certificate


def test_a_transfer_to_the_substitute_itself_is_its_own_attack(mnist: Batch) -> None:
    """Then FGM's direction and BIM's adversarial are directions for the defense, too: no distance can be longer."""
    transfer = arena.load_attack("transfer-l2")
    assert isinstance(transfer, Transfer)
    defense = Substitute(transfer.network, "cpu")
    x, y = (part[:5] for part in mnist)
    records = [arena.play(defense, attack, x, y) for attack in (transfer, *map(arena.load_attack, ("bim-l2", "fgm")))]
    transferred, *own = (torch.tensor([record.distance for record in of_one]) for of_one in records)
    assert (transferred <= 1.01 * torch.minimum(*own)).all()
    assert (transferred > 0).all()
    assert all(record.gradient_queries == 0 for record in records[0])


def test_another_substitute_is_another_attack() -> None:
    attack, other = (arena.load_attack("transfer-linf") for _ in range(2))
    assert isinstance(other, Transfer)
    next(other.network.parameters()).data[0] += 1
    assert attack.fingerprint != other.fingerprint
