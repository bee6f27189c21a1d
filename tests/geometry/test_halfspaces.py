"""The closed forms of one half-space: what they return crosses it, nothing shorter does, and their gradients hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.geometry.halfspaces import at_least, project, project_by_flips
from arena.geometry.norms import NORMS, Norm, spec_of

PIXELS = 7
ORDERS = {"l1": 1, "l2": 2, "linf": torch.inf}
seeds = st.integers(0, 10**6)


def problem(seed: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [4, 7], some at the ends of the box, normals, and offsets that a share of all headroom closes; float64."""
    rng = torch.Generator().manual_seed(seed)
    x, normal = torch.rand(4, PIXELS, generator=rng).double(), torch.randn(4, PIXELS, generator=rng).double()
    x[:, 0], x[:, 1], normal[:, 2] = 0, 1, 0
    headroom = torch.where(normal > 0, 1 - x, x)
    return x, normal, share * (normal.abs() * headroom).sum(-1)


def length(norm: Norm, move: Tensor, headroom: Tensor) -> Tensor:
    """As `project` counts: L0 in fractions of a pixel's headroom."""
    if norm == "l0":
        return (move.abs() / headroom.clamp_min(1e-12)).sum(-1)
    return torch.linalg.vector_norm(move, ord=ORDERS[norm], dim=-1)


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, share=st.floats(0, 0.99))
def test_the_move_crosses_inside_the_box_and_has_the_stated_length(norm: Norm, seed: int, share: float) -> None:
    x, normal, offset = problem(seed, share)
    distance, move = project(norm, x, normal, offset)
    assert bool(((x + move >= -1e-9) & (x + move <= 1 + 1e-9)).all())
    torch.testing.assert_close((normal * move).sum(-1), offset, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(length(norm, move, torch.where(normal > 0, 1 - x, x)), distance, rtol=1e-6, atol=1e-9)
    assert bool((at_least(norm, x, normal, offset) <= distance + 1e-9).all())


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, share=st.floats(0.01, 0.99), shorter=st.floats(0.1, 0.999))
def test_nothing_shorter_crosses(norm: Norm, seed: int, share: float, shorter: float) -> None:
    x, normal, offset = problem(seed, share)
    distance, move = project(norm, x, normal, offset)
    rng = torch.Generator().manual_seed(seed + 1)
    for spread in (0.01, 0.3, 3.0):
        other = torch.where(normal > 0, 1 - x, x) * torch.rand(4, PIXELS, generator=rng) * normal.sign()
        other = torch.minimum((x + move + spread * other).clamp(0, 1), torch.ones_like(x)) - x
        headroom = torch.where(normal > 0, 1 - x, x)
        other = other * (shorter * distance / length(norm, other, headroom).clamp_min(1e-12)).clamp_max(1)[:, None]
        assert bool(((normal * other).sum(-1) < offset).all())


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, share=st.floats(0.01, 0.99))
def test_so_far_as_a_half_space_is_a_linear_function_climbs(norm: Norm, seed: int, share: float) -> None:
    """Within the distance of the half-space it reaches the offset, no more and no less."""
    x, normal, offset = problem(seed, share)
    headroom = torch.where(normal > 0, 1 - x, x)
    reached = spec_of(norm).climb(normal.abs(), headroom, project(norm, x, normal, offset).distance)
    torch.testing.assert_close(reached, offset, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_the_gradient_is_that_of_differences(norm: Norm) -> None:
    x, normal, offset = problem(3, 0.4)
    normal[:, 2] = 0.5  # off the kink at zero
    assert torch.autograd.gradcheck(
        lambda normal, offset: project(norm, x, normal, offset).distance,
        (normal.requires_grad_(), offset.requires_grad_()),
    )


@pytest.mark.parametrize("norm", NORMS)
def test_what_the_box_keeps_is_infinitely_far_and_what_is_crossed_is_here(norm: Norm) -> None:
    x, normal, offset = problem(0, 1.01)
    assert bool(project(norm, x, normal, offset).distance.isinf().all())
    assert bool((project(norm, x, normal, -offset).distance == 0).all())
    flips = project_by_flips(norm, x, normal, torch.full_like(offset, 100.0), 0.5)
    assert bool(flips.distance.isinf().all())


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, share=st.floats(0.01, 0.99))
def test_flips_close_the_gap_at_the_stated_cost(norm: Norm, seed: int, share: float) -> None:
    x, normal, _ = problem(seed, share)
    side = torch.where(x >= 0.5, -1.0, 1.0)
    offset = share * (normal * side).clamp_min(0).sum(-1)
    distance, move = project_by_flips(norm, x, normal, offset, 0.5)
    assert bool(((move * side >= 0) & (move.abs() <= 1)).all())
    assert bool(((normal * move).sum(-1) >= offset - 1e-9).all())
    cost = (x - 0.5).abs()
    spent = {
        "l0": move.abs().sum(-1),
        "l1": (move.abs() * cost).sum(-1),
        "l2": (move.abs() * cost.square()).sum(-1).sqrt(),
        "linf": torch.where(move != 0, cost, 0).amax(-1),
    }
    torch.testing.assert_close(spent[norm], distance, rtol=1e-6, atol=1e-9)
    assert bool((at_least(norm, x, normal, offset, 0.5) <= distance + 1e-9).all())
    relaxed = project_by_flips(norm, x, normal, offset, 0.5, relaxed=True).distance
    assert bool((relaxed <= distance.clamp_min(0.005) + 1e-9).all())


@pytest.mark.parametrize(("norm", "distance"), [("l1", 0.3), ("l2", 0.3), ("linf", 0.3)])
def test_a_relaxed_flip_that_is_needed_whole_costs_all_its_way(norm: Norm, distance: float) -> None:
    x, normal, offset = (torch.tensor(values, dtype=torch.float64) for values in ([[0.2, 0.9]], [[1.0, 1.0]], [1.0]))
    found = project_by_flips(norm, x, normal, offset, 0.5, relaxed=True).distance
    torch.testing.assert_close(found, torch.tensor([distance], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "closed_form", [project, lambda norm, x, normal, offset: project_by_flips(norm, x, normal, offset, 0.5), at_least]
)
def test_an_unknown_norm_is_refused(closed_form: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="unknown norm 'l3': choose one of l0, l1, l2, linf"):
        closed_form("l3", *problem(0, 0.5))


@pytest.mark.parametrize("threshold", [None, 0.5])
@given(seed=seeds, share=st.floats(0.01, 0.99))
def test_in_colour_a_pixel_moves_with_all_its_channels(threshold: float | None, seed: int, share: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    x, normal = torch.rand(4, 3 * PIXELS, generator=rng).double(), torch.randn(4, 3 * PIXELS, generator=rng).double()
    headroom = torch.where(normal > 0, 1 - x, x)
    if threshold is not None:
        headroom = (torch.where(x >= threshold, -normal, normal) > 0).double()
    gain = (normal.abs() * headroom).view(4, 3, PIXELS).sum(1)
    offset = share * gain.sum(-1)
    if threshold is None:
        distance, move = project("l0", x, normal, offset, channels=3)
    else:
        distance, move = project_by_flips("l0", x, normal, offset, threshold, channels=3)
    torch.testing.assert_close((normal * move).sum(-1), offset)
    reached = gain.sort(-1, descending=True).values.cumsum(-1) >= offset[:, None]
    assert torch.equal((distance - 1e-9).ceil(), reached.double().argmax(-1) + 1.0)
    assert bool((at_least("l0", x, normal, offset, threshold, channels=3) <= distance + 1e-9).all())
