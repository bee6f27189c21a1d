"""Distances and projections, by properties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arena.geometry.distances import distance, project

SEEDS = st.integers(0, 2**31)
BALLS = pytest.mark.parametrize("norm", ["l2", "linf"])


def images(seed: int, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, rows, 1, 4, 4, generator=torch.Generator().manual_seed(seed)).unbind(0)


def test_distances_of_a_known_pair():
    x = torch.zeros(1, 1, 2, 2)
    other = torch.tensor([[[[0.0, 0.3], [-0.4, 0.0]]]])
    assert [distance(norm, other, x).item() for norm in ("l0", "l2", "linf")] == pytest.approx([2, 0.5, 0.4])


@given(seed=SEEDS)
def test_the_norms_are_ordered(seed):
    x, other = images(seed)
    l0, l2, linf = (distance(norm, x, other) for norm in ("l0", "l2", "linf"))
    assert (linf <= l2 + 1e-6).all()
    assert (l2 <= l0.sqrt() * linf + 1e-6).all()


@BALLS
@given(seed=SEEDS, radius=st.floats(0.01, 3))
def test_a_projection_lands_in_the_ball_and_leaves_inner_points_alone(norm, seed, radius):
    x, clean = images(seed)
    radii = radius * torch.tensor([0.5, 1.0, 2.0])
    projected = project(norm, x, clean, radii)
    inner = distance(norm, x, clean) <= radii
    assert (distance(norm, projected, clean) <= radii * (1 + 1e-5) + 1e-6).all()
    torch.testing.assert_close(projected[inner], x[inner], rtol=0, atol=1e-6)
    torch.testing.assert_close(project(norm, projected, clean, radii), projected, rtol=1e-5, atol=1e-6)


@BALLS
@given(seed=SEEDS, radius=st.floats(0.01, 3))
def test_no_point_of_the_ball_is_closer_than_the_projection(norm, seed, radius):
    x, clean = images(seed)
    radii = torch.full((len(x),), radius)
    projected = project(norm, x, clean, radii)
    inside = project(norm, images(seed + 1)[0], clean, radii)
    assert (distance("l2", x, projected) <= distance("l2", x, inside) + 1e-5).all()


@BALLS
def test_a_point_at_the_centre_stays_there(norm):
    clean = torch.rand(2, 1, 4, 4)
    assert torch.equal(project(norm, clean, clean, torch.zeros(2)), clean)


def test_the_l0_ball_has_no_projection():
    with pytest.raises(ValueError, match="L0"):
        project("l0", *images(0), torch.ones(3))
