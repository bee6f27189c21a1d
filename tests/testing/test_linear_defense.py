"""The linear defenses know their minimal adversarial distances: compared with brute force and scipy's solvers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from arena.geometry.distances import distance
from arena.geometry.norms import NORMS, Norm
from arena.testing import BinaryLinearDefense, LinearDefense

PIXELS = 6  # few enough for brute force: the weights of all others are zero


def small(cls: type[LinearDefense], seed: int) -> tuple[LinearDefense, Tensor]:
    """A defense of three classes that looks at PIXELS pixels only, and images that it is not too sure about."""
    defense = cls(classes=3, seed=seed)
    defense.matrix[:, PIXELS:] = 0
    x, _ = defense.sample_images(4, seed)
    x.view(4, -1)[:, ::2] = torch.rand(4, 392, generator=torch.Generator().manual_seed(seed))
    return defense, x


def problems(
    defense: LinearDefense, x: Tensor, input: Tensor
) -> Iterator[tuple[numpy.ndarray, list[tuple[numpy.ndarray, float]]]]:
    """For each image its pixels, and slope and gap to every other class, float64."""
    matrix = defense.matrix[:, :PIXELS].double().numpy()
    pixels, seen = (images.view(len(x), -1)[:, :PIXELS].double().numpy() for images in (x, input))
    for image, view in zip(pixels, seen, strict=True):
        scores = matrix @ view
        label = scores.argmax()
        yield image, [(matrix[c] - matrix[label], scores[label] - scores[c]) for c in range(3) if c != label]


def solve(norm: Norm, pixels: numpy.ndarray, slope: numpy.ndarray, gap: float) -> float:
    """The minimal distance to one class inside the box, by a general solver."""
    box = list(zip(-pixels, 1 - pixels, strict=True))
    if norm == "l0":
        gains = numpy.maximum(slope * -pixels, slope * (1 - pixels))
        counts = [sum(keep) for keep in product((0, 1), repeat=PIXELS) if gains @ keep >= gap]
        return min(counts, default=numpy.inf)
    if norm == "linf":
        ones = numpy.ones((PIXELS, 1))
        rows = numpy.block([[numpy.eye(PIXELS), -ones], [-numpy.eye(PIXELS), -ones], [-slope, numpy.zeros(1)]])
        answer = linprog([0] * PIXELS + [1], A_ub=rows, b_ub=[0] * 2 * PIXELS + [-gap], bounds=[*box, (0, None)])
        return answer.fun if answer.success else numpy.inf
    if numpy.maximum(slope * -pixels, slope * (1 - pixels)).sum() < gap:
        return numpy.inf
    if norm == "l1":  # up and down by parts that are not negative
        parts = [(0, 1 - pixel) for pixel in pixels] + [(0, pixel) for pixel in pixels]
        return linprog([1] * 2 * PIXELS, A_ub=[numpy.append(-slope, slope)], b_ub=[-gap], bounds=parts).fun
    crossing = {"type": "ineq", "fun": lambda d: slope @ d - gap}
    answer = minimize(lambda d: d @ d, numpy.zeros(PIXELS), bounds=box, constraints=crossing, options={"ftol": 1e-12})
    return answer.fun**0.5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("norm", NORMS)
def test_linear_optimum_equals_that_of_general_solvers(norm: Norm, seed: int) -> None:
    defense, x = small(LinearDefense, seed)
    expected = [min(solve(norm, pixels, *to) for to in others) for pixels, others in problems(defense, x, x)]
    assert defense.minimal_distance(norm, x).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_binary_optimum_equals_brute_force(seed: int) -> None:
    defense, x = small(BinaryLinearDefense, seed)
    flips = numpy.array(list(product((0, 1), repeat=PIXELS)))
    binary = (x >= 0.5).float()
    found = {norm: defense.minimal_distance(norm, x).tolist() for norm in NORMS}
    for row, (pixels, others) in enumerate(problems(defense, x, binary)):
        cost = abs(pixels - 0.5)
        gains = [(slope * numpy.where(pixels >= 0.5, -1, 1), gap) for slope, gap in others]
        wrong = flips[numpy.any([flips @ gain >= gap for gain, gap in gains], axis=0)]
        assert found["l0"][row] == min(wrong.sum(1), default=numpy.inf)
        assert found["linf"][row] == pytest.approx(min((wrong * cost).max(1), default=numpy.inf))
        exact = min(wrong @ cost, default=numpy.inf)
        assert found["l1"][row] <= exact + 1e-9
        assert exact == numpy.inf or exact <= found["l1"][row] + cost.max()
        exact = min(wrong @ cost**2, default=numpy.inf) ** 0.5
        assert found["l2"][row] <= exact + 1e-9
        assert exact == numpy.inf or exact**2 <= found["l2"][row] ** 2 + cost.max() ** 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cls", [LinearDefense, BinaryLinearDefense])
def test_optimum_in_colour_counts_whole_pixels(cls: type[LinearDefense], seed: int) -> None:
    """Three pixels of two channels, by brute force over the pixels whose channels all go wherever gains most."""
    defense = cls(classes=3, seed=seed, shape=(2, 1, 3))
    x = torch.rand(8, 2, 1, 3, generator=torch.Generator().manual_seed(seed))
    x[..., 0] = 0.9  # a black image of a binarising defense would be a tie
    label = defense.scores(x).argmax(1)
    expected = torch.full((8,), torch.inf).double()
    for keep in product((0, 1), repeat=3):
        for ends in product((0.0, 1.0), repeat=6):
            other = torch.where(torch.tensor(keep) > 0, torch.tensor(ends).view(2, 1, 3), x)
            wrong = defense.scores(other).argmax(1) != label
            expected[wrong] = expected[wrong].clamp_max(sum(keep))
    assert torch.equal(defense.minimal_distance("l0", x), expected)


@pytest.mark.parametrize("cls", [LinearDefense, BinaryLinearDefense])
@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.999))
def test_nothing_closer_is_adversarial(cls: type[LinearDefense], norm: Norm, seed: int, share: float) -> None:
    defense = cls(classes=10)
    x, y = defense.sample_images(5, seed)
    rng = torch.Generator().manual_seed(seed)
    slope = defense.matrix[torch.randint(10, (5,), generator=rng)] - defense.matrix[y]
    direction = (slope + 0.1 * torch.randn(5, 784, generator=rng)).view_as(x)
    limit = share * defense.minimal_distance(norm, x).float()
    if norm == "l0":
        ranks = direction.abs().flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view_as(x)
        closer = torch.where(ranks < limit.floor().view(-1, 1, 1, 1), (direction > 0).float(), x)
    else:
        direction = direction.sign() if norm == "linf" else direction
        size = distance(norm, direction, torch.zeros_like(direction))
        closer = (x + 0.9999 * direction * (limit / size).view(-1, 1, 1, 1)).clamp(0, 1)
    assert bool((distance(norm, closer, x) <= limit).all())
    assert torch.equal(defense.scores(closer).argmax(1), y)


def test_images_are_like_mnist_and_reproducible() -> None:
    defense = LinearDefense()
    x, y = defense.sample_images(200, seed=3)
    assert x.shape == (200, 1, 28, 28)
    assert 0.7 < float((x == 0).float().mean()) < 0.9
    assert x.max() <= 1
    assert set(y.tolist()) == {0, 1}
    assert torch.equal(defense.sample_images(200, seed=3)[0], x)
    assert not torch.equal(defense.sample_images(200, seed=4)[0], x)
    assert 0.5 < float(defense.minimal_distance("l2", x).median()) < 3


def test_settings_decide_the_fingerprint() -> None:
    assert LinearDefense().fingerprint == LinearDefense(classes=2, seed=0).fingerprint
    assert len({LinearDefense(seed=seed).fingerprint for seed in range(3)}) == 3


@pytest.mark.parametrize("seed", range(3))
def test_an_attack_under_the_same_seed_does_not_draw_the_weights(seed: int) -> None:
    noise = torch.randn(2, 784, generator=torch.Generator().manual_seed(seed))
    weights = LinearDefense(seed=seed).matrix
    assert float(torch.corrcoef(torch.stack([noise[0], weights[0]]))[0, 1].abs()) < 0.2
