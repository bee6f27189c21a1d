"""Randomized smoothing, where the classifier that votes without end is known: a plane stays the same plane."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

import arena
from arena.errors import UserError
from arena.evaluation.lower_bounds import lower_bounds
from arena.interface.results import Status
from arena.plugins.defenses.smoothed import smoothed
from arena.testing import LinearDefense, VotingLinear

ALPHA = 0.001


def bound(**settings: Any) -> arena.Bound:
    return arena.load_bound("smoothing", alpha=ALPHA, **settings)


def in_the_middle(defense: LinearDefense, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images of which the box takes nothing from the way to the plane, and their labels and distances to it."""
    direction = (defense.matrix[1] - defense.matrix[0]).view(1, 1, 28, 28)
    x = 0.5 + torch.linspace(-0.2, 0.2, n).view(n, 1, 1, 1) * direction / direction.norm()
    labels = defense.scores(x).argmax(1)
    return x, labels, defense.minimal_distance("l2", x)


def test_the_bound_is_clopper_pearsons_radius() -> None:
    """All of n draws say the label where the plane is far: p = alpha^(1/n)."""
    defense = VotingLinear(classes=2)
    x, y = defense.sample_images(4)
    defense.sigma = 1e-3
    value = lower_bounds(bound(draws=300), defense, x, y, "l2")
    assert value.tolist() == pytest.approx([1e-3 * stats.norm.ppf(ALPHA ** (1 / 300))] * 4)


def test_it_is_below_the_distance_to_the_plane_and_comes_near() -> None:
    defense = VotingLinear(classes=2)
    x, y, exact = in_the_middle(defense, 12)
    value = lower_bounds(bound(draws=20_000), defense, x, y, "l2")
    assert bool((value <= exact).all())
    assert bool((value >= exact - 0.12 * defense.sigma).all())


def test_other_draws_give_other_values_and_each_holds_with_its_probability() -> None:
    defense = VotingLinear(classes=2)
    x, y, exact = in_the_middle(defense, 2)
    loose = arena.load_bound("smoothing", alpha=0.2, draws=100)
    values = torch.stack([lower_bounds(loose, defense, x, y, "l2", seed) for seed in range(100)])
    too_high = (values > exact).double().mean()
    assert 0.02 <= float(too_high) <= 0.3  # of 200 values a share of at most 0.2 is expected
    assert len(values[:, 0].unique()) > 2


def test_votes_decide_as_the_plane_does() -> None:
    defense = smoothed(LinearDefense)(votes=200)
    assert isinstance(defense, arena.Votes) and defense.name == "smoothed-linear"
    x, y = LinearDefense().sample_images(20)
    scores = defense.scores(x)
    assert torch.equal(scores.sum(1), torch.full((20,), 200.0))
    clear = LinearDefense().minimal_distance("l2", x) > defense.sigma / 4
    assert int(clear.sum()) > 10 and torch.equal(scores.argmax(1)[clear], y[clear])
    assert torch.equal(scores[3:5], defense.scores(x[3:5]))  # the noise is every image's


def test_its_gradient_is_that_of_the_mean_softmax() -> None:
    defense = smoothed(LinearDefense)(votes=20)
    x = LinearDefense().sample_images(2)[0].requires_grad_()
    scores = defense.scores(x)
    assert torch.equal(scores.detach(), defense.scores(x.detach()))
    (found,) = torch.autograd.grad(scores[:, 0].sum(), x)
    copies = (x[:, None] + defense._noise(x.shape[1:])).flatten(0, 1)
    soft = LinearDefense().scores(copies).softmax(1)[:, 0].sum()
    torch.testing.assert_close(found, torch.autograd.grad(soft, x)[0])


def test_an_attack_finds_an_adversarial_beyond_the_plane() -> None:
    defense = smoothed(LinearDefense)(votes=200)
    x, y = LinearDefense().sample_images(4)
    exact = LinearDefense().minimal_distance("l2", x)
    records = arena.play(defense, arena.load_attack("ddn", steps=25), x, y)
    assert [record.status for record in records] == [Status.FOUND] * 4
    distances = torch.tensor([record.distance for record in records], dtype=torch.float64)
    assert bool((distances > 0.7 * exact).all() and (distances < 1.5 * exact).all())


def test_settings_count() -> None:
    assert arena.load_defense("smoothed-cnn").fingerprint == arena.load_defense("smoothed-cnn").fingerprint
    assert arena.load_defense("smoothed-cnn").fingerprint != arena.load_defense("smoothed-cnn", seed=1).fingerprint
    assert bound().refusal(arena.load_defense("cnn"), (1, 28, 28)) == "it does not vote under Gaussian noise"
    with pytest.raises(UserError, match="sigma"):
        arena.load_defense("smoothed-cnn", sigma=0)
    noisier = arena.load_defense("smoothed-cnn", sigma=0.5)
    assert isinstance(noisier, arena.Votes) and math.isclose(noisier.sigma, 0.5)
