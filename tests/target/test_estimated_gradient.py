"""Images close together, as an estimated gradient asks about, share what they can: answers are as one by one."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from typed import Batch, present

import arena
from arena.kernels.decoder import Decoder
from arena.kernels.ops import latent_bank, latent_descent
from arena.models import analysis_by_synthesis
from arena.models.analysis_by_synthesis import InferenceSettings, draw_latents
from arena.models.reach import CLOSE, FEW, in_reach
from arena.plugins.defenses.abs import ABS
from arena.target.logits import evaluate, margin
from arena.target.query_log import QueryLog
from arena.target.target import Target

STEPS = (0.01, 0.6)  # of the differences: the defaults of the attacks


def neighbors(x: Tensor, step: float, pixels: Tensor) -> Tensor:
    """The images [2 n, 1, 28, 28] of the central differences at x [1, 28, 28] along the given pixels."""
    offsets = step * torch.eye(784)[pixels].view(-1, 1, 28, 28)
    return torch.cat([(x + offsets).clamp(0, 1), (x - offsets).clamp(0, 1)])


@pytest.fixture(scope="module", params=["abs", "binary-abs"])
def defense(request: pytest.FixtureRequest) -> arena.Defense:
    return arena.load_defense(request.param, points=200, steps=2)


@pytest.mark.parametrize("step", STEPS)
def test_a_gradient_is_the_same_to_the_bit_whatever_is_shared(
    defense: arena.Defense, mnist: Batch, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = mnist[0][:1], mnist[1][:1]
    together, alone = arena.load_defense(defense.name, points=200, steps=2), defense
    monkeypatch.setattr(alone, "batch_size", FEW // 2)
    gradients = [
        Target(d, QueryLog(x, y, "l2"), "score").with_finite_differences(step).gradient(x, margin)
        for d in (together, alone)
    ]
    assert torch.equal(*gradients)
    assert gradients[0].any()


@pytest.mark.parametrize("step", STEPS)
def test_equal_images_are_explained_once(
    defense: arena.Defense, mnist: Batch, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained = []

    def counted(
        decoder: Decoder, z0: Tensor, x: Tensor, *settings: Any, **more: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        explained.append(len(x))
        return latent_descent(decoder, z0, x, *settings, **more)

    monkeypatch.setattr(analysis_by_synthesis, "latent_descent", counted)
    x = mnist[0][:1]
    images = neighbors(x[0], step, torch.arange(784))
    seen = images if defense.name == "abs" else (images >= 0.5).float()
    books = QueryLog(x, mnist[1][:1], "l2")
    target = Target(arena.load_defense(defense.name, points=200, steps=2), books, "score")
    target.scores(images, index=torch.zeros(2 * 784, dtype=torch.int64))
    assert explained == [len(seen.unique(dim=0))] and explained[0] < 0.65 * len(images)
    assert books.queries.tolist() == [2 * 784]  # the attack pays for what it asked, equal or not


def test_the_order_of_the_images_is_kept(defense: arena.Defense, mnist: Batch) -> None:
    x = mnist[0][:5]
    order = torch.tensor([3, 0, 3, 4, 1, 1, 2])
    assert torch.equal(defense.scores(x[order]), evaluate(defense, x, rows=1)[order])


@given(
    seed=st.integers(0, 10**6),
    step=st.sampled_from([0.0, 0.01, 0.6, 1.0]),
    spread=st.sampled_from([0.0, 1e-6, 0.01, 0.3]),
    own=st.booleans(),
)
def test_no_image_is_best_explained_by_a_point_out_of_reach(seed: int, step: float, spread: float, own: bool) -> None:
    """Points at almost the same place, which rounding puts in any order, and points far from each other."""
    draw = torch.Generator().manual_seed(seed)
    places = torch.rand(2, 5, 784, generator=draw).repeat_interleave(6, 1)
    bank = (places + spread * torch.randn(2, 30, 784, generator=draw)).clamp(0, 1)
    latents = 1e-2 * torch.randn(30, 8, generator=draw)
    center = bank[0, 0] if own else torch.rand(784, generator=draw)
    x = neighbors(center.view(1, 28, 28), step, torch.arange(FEW // 2)).flatten(1)
    reach = in_reach(bank, latents, x)
    scores = (x[:, None, None] - bank).square().sum(-1) + 0.5 * latents.square().sum(-1)
    assert reach is not None and set(scores.argmin(-1).flatten().tolist()) <= set(reach.tolist())
    assert torch.equal(reach, reach.sort().values)


def test_few_points_are_in_reach_of_an_estimated_gradient(mnist: Batch) -> None:
    latents = draw_latents(InferenceSettings(points=500))
    bank = latent_bank(ABS().network.decoder, latents)
    for step in STEPS:
        x = neighbors(mnist[0][0], step, torch.arange(784)).flatten(1)
        assert len(present(in_reach(bank, latents, x))) < 50


def test_reach_is_not_asked_for_where_it_does_not_pay() -> None:
    bank, latents = torch.rand(2, 10, 784), torch.rand(10, 8)
    x = torch.zeros(FEW, 784)
    assert in_reach(bank, latents, x) is not None
    assert in_reach(bank, latents, x[1:]) is None
    x[-1, :3] = 1.1 * CLOSE / 3
    assert in_reach(bank, latents, x) is None
