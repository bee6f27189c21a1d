"""Distances and projections, by properties."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, minimize

from arena.geometry.distances import distance, project, project_in_box
from arena.geometry.norms import NORMS, Norm
from arena.toolbox.directions import slope, steepest, unit

SEEDS = st.integers(0, 2**31)
BALLS = pytest.mark.parametrize("norm", ["l1", "l2", "linf"])


def images(seed: int, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    x, other = torch.rand(2, rows, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return x, other


def test_distances_of_a_known_pair() -> None:
    x = torch.zeros(1, 1, 2, 2)
    other = torch.tensor([[[[0.0, 0.3], [-0.4, 0.0]]]])
    assert [distance(norm, other, x).item() for norm in NORMS] == pytest.approx([2, 0.7, 0.5, 0.4])


@given(seed=SEEDS)
def test_the_norms_are_ordered(seed: int) -> None:
    x, other = images(seed)
    l0, l1, l2, linf = (distance(norm, x, other) for norm in NORMS)
    assert (linf <= l2 + 1e-6).all()
    assert (l2 <= l1 + 1e-6).all()
    assert (l1 <= l0.sqrt() * l2 + 1e-5).all()
    assert (l2 <= l0.sqrt() * linf + 1e-6).all()


@BALLS
@given(seed=SEEDS, radius=st.floats(0.01, 3))
def test_a_projection_lands_in_the_ball_and_leaves_inner_points_alone(norm: Norm, seed: int, radius: float) -> None:
    x, clean = images(seed)
    radii = radius * torch.tensor([0.5, 1.0, 2.0])
    projected = project(norm, x, clean, radii)
    inner = distance(norm, x, clean) <= radii
    assert (distance(norm, projected, clean) <= radii * (1 + 1e-5) + 1e-6).all()
    torch.testing.assert_close(projected[inner], x[inner], rtol=0, atol=1e-6)
    torch.testing.assert_close(project(norm, projected, clean, radii), projected, rtol=1e-5, atol=1e-6)


@BALLS
@given(seed=SEEDS, radius=st.floats(0.01, 3))
def test_no_point_of_the_ball_is_closer_than_the_projection(norm: Norm, seed: int, radius: float) -> None:
    x, clean = images(seed)
    radii = torch.full((len(x),), radius)
    projected = project(norm, x, clean, radii)
    inside = project(norm, images(seed + 1)[0], clean, radii)
    assert (distance("l2", x, projected) <= distance("l2", x, inside) + 1e-5).all()


@BALLS
def test_a_point_at_the_centre_stays_there(norm: Norm) -> None:
    clean = torch.rand(2, 1, 4, 4)
    assert torch.equal(project(norm, clean, clean, torch.zeros(2)), clean)


def test_the_l0_ball_has_no_projection() -> None:
    with pytest.raises(ValueError, match="L0"):
        project("l0", *images(0), torch.ones(3))


def quadratic_program(x: np.ndarray, clean: np.ndarray, radius: float) -> np.ndarray:
    """The point of L1 ball and box nearest to x, one image at a time, by a general solver."""
    pixels = len(x)
    start = np.concatenate([clean, np.zeros(pixels)])

    def miss(z: np.ndarray) -> tuple[float, np.ndarray]:
        return float(((z[:pixels] - x) ** 2).sum()), np.concatenate([2 * (z[:pixels] - x), np.zeros(pixels)])

    eye = np.eye(pixels)
    above = LinearConstraint(np.hstack([eye, -eye]), -np.inf, clean)  # z - clean <= moved
    below = LinearConstraint(np.hstack([eye, eye]), clean, np.inf)
    short = LinearConstraint(np.concatenate([np.zeros(pixels), np.ones(pixels)]), -np.inf, radius)
    bounds = Bounds(np.zeros(2 * pixels), np.concatenate([np.ones(pixels), np.full(pixels, np.inf)]))
    found = minimize(miss, start, jac=True, bounds=bounds, constraints=[above, below, short], method="SLSQP")
    return found.x[:pixels]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("radius", [0.3, 1.5, 3.0, 20.0])
def test_the_projection_onto_l1_ball_and_box_is_the_nearest_point(seed: int, radius: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    clean = torch.rand(3, 1, 3, 3, generator=rng)
    clean[:, :, 0] = clean[:, :, 0].round()
    x = clean + torch.randn(clean.shape, generator=rng)
    found = project_in_box("l1", x, clean, torch.full((3,), radius))
    for image, point, centre in zip(found.flatten(1), x.flatten(1), clean.flatten(1), strict=True):
        nearest = quadratic_program(point.double().numpy(), centre.double().numpy(), radius)
        assert image.numpy() == pytest.approx(nearest, abs=2e-4)
        assert float((image - centre).abs().sum()) <= radius * (1 + 1e-5)


def test_an_unknown_norm_is_refused() -> None:
    x, other = images(0)
    l3: Any = "l3"
    message = "unknown norm 'l3': choose one of l0, l1, l2, linf"
    with pytest.raises(ValueError, match=message):
        distance(l3, x, other)
    with pytest.raises(ValueError, match=message):
        project(l3, x, other, torch.ones(3))
    with pytest.raises(ValueError, match=message):
        steepest(l3, x)


@pytest.mark.parametrize("factor", [1e-38, 1e-30, 1e-20, 1.0, 1e20, 1e38])
def test_directions_do_not_depend_on_how_long_the_gradient_is(factor: float) -> None:
    gradient = torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0)) / 8
    for norm in ("l1", "l2", "linf"):
        torch.testing.assert_close(steepest(norm, factor * gradient), steepest(norm, gradient))
        slopes = slope(norm, (factor * gradient.double()).float())
        torch.testing.assert_close(slopes.double() / factor, slope(norm, gradient).double(), rtol=1e-4, atol=0)


def test_scaling_changes_no_bit() -> None:
    gradient = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unit(gradient), gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True))
    assert torch.equal(slope("l2", gradient), torch.linalg.vector_norm(gradient, dim=1))
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_norms_are_known_without_torch() -> None:
    check = "import sys, arena.geometry.norms as n; print(n.SPECS['l1'].display, 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.split() == [
        "L1",
        "False",
    ]


def test_a_pixel_counts_once_whatever_its_channels_do() -> None:
    black = torch.zeros(2, 3, 4, 5)
    x = black.clone()
    x[0, :, 1, 2] = 1  # white
    x[1, 0, 1, 2], x[1, 2, 3, 3] = 0.5, -0.5  # one channel of each of two pixels
    assert distance("l0", x, black).tolist() == [1, 2]
    assert distance("l1", x, black).tolist() == [3, 1]
