"""The searches that make an attack minimal, by properties."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.target.query_log import QueryLog
from arena.target.target import Target
from arena.testing import LinearDefense
from arena.toolbox.search import bisect, smallest_epsilon, walk_back

THRESHOLDS = st.lists(st.floats(2**-7, 1.5, width=32), min_size=1, max_size=6).map(torch.tensor)


class Counted:
    """An attempt that fools from a threshold [B] on, noting which samples it was asked about, and at what epsilon."""

    def __init__(self, thresholds: Tensor) -> None:
        self.thresholds = thresholds
        self.asked: list[list[float]] = [[] for _ in thresholds]

    def __call__(self, epsilon: Tensor, index: Tensor) -> Tensor:
        assert len(epsilon) == len(index)
        for value, sample in zip(epsilon.tolist(), index.tolist(), strict=True):
            self.asked[sample].append(value)
        return epsilon >= self.thresholds[index]


@given(thresholds=THRESHOLDS, steps=st.integers(1, 20), bisections=st.integers(0, 12))
def test_the_smallest_epsilon_is_found_to_the_resolution_of_the_search(
    thresholds: Tensor, steps: int, bisections: int
) -> None:
    attempt = Counted(thresholds)
    found = smallest_epsilon(attempt, torch.linspace(0, 1, steps + 1)[1:], len(thresholds), bisections)
    reachable = thresholds <= 1
    assert found[~reachable].isinf().all()
    excess = found[reachable] - thresholds[reachable]
    assert (excess >= 0).all()
    assert (excess <= 1 / steps / 2**bisections + 1e-6).all()


@given(thresholds=THRESHOLDS, steps=st.integers(1, 20))
def test_a_sample_is_not_asked_about_beyond_its_first_success(thresholds: Tensor, steps: int) -> None:
    attempt = Counted(thresholds)
    smallest_epsilon(attempt, torch.linspace(0, 1, steps + 1)[1:], len(thresholds), bisections=0)
    for asked, threshold in zip(attempt.asked, thresholds.tolist(), strict=True):
        assert all(epsilon < threshold for epsilon in asked[:-1])


@given(windows=st.lists(st.integers(0, 2**10 - 1), min_size=1, max_size=4), bisections=st.integers(0, 6))
def test_success_need_not_be_monotone_and_what_is_returned_has_succeeded(windows: list[int], bisections: int) -> None:
    fools = torch.tensor([[window >> bit & 1 for bit in range(10)] for window in windows]).bool()  # in tenths

    def attempt(epsilon: Tensor, index: Tensor) -> Tensor:
        return fools[index, (epsilon * 10).floor().long().clamp(max=9)]

    found = smallest_epsilon(attempt, (torch.arange(10) + 0.5) / 10, len(windows), bisections)
    assert torch.equal(found.isfinite(), fools.any(1))
    index = found.isfinite().nonzero().flatten()
    assert attempt(found[index], index).all()
    assert (found[index] <= (fools.int().argmax(1)[index] + 0.5) / 10).all()  # no later than the first on the grid


def test_bisection_leaves_alone_what_has_no_success() -> None:
    attempt = Counted(torch.tensor([0.3, 0.3]))
    found = bisect(attempt, torch.zeros(2), torch.tensor([torch.inf, 1.0]), 8)
    assert found[0].isinf()
    assert not attempt.asked[0]
    assert 0.3 <= found[1] <= 0.3 + 2**-8


def test_walking_back_ends_at_the_boundary() -> None:
    defense = LinearDefense()
    x, y = defense.sample_images(4)
    target = Target(defense, QueryLog(x, y, "l2"), "decision")
    assert torch.equal(walk_back(target, x, y), x)  # nothing seen yet: nothing asked, nothing claimed
    other = defense.sample_images(64, seed=1)[0]
    far = torch.stack([other[defense.scores(other).argmax(1) != label][0] for label in y])
    target.labels(far)
    near = walk_back(target, x, y)
    assert (defense.scores(near).argmax(1) != y).all()
    share = (near - x).flatten(1).norm(dim=1) / (far - x).flatten(1).norm(dim=1)
    inside = x + (share - 0.002).view(-1, 1, 1, 1) * (far - x)
    assert (defense.scores(inside).argmax(1) == y).all()
