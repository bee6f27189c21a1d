"""The minimal distances of small ReLU networks, as programs prove them: known ones, and those that attacks reach."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from typed import present

import arena
from arena.evaluation.bounds.programs import bracket
from arena.evaluation.bounds.relaxation.reading import read
from arena.geometry.norms import Norm
from arena.models.adopted import adopt
from arena.plugins.bounds.exact import Exact
from arena.testing import LinearDefense, ReluDefense, check_bound
from arena.testing.relu import MINIMAL

NORMS = Exact.norms


@pytest.mark.parametrize("norm", NORMS)
def test_minimal_distances_that_are_known_are_proven(norm: Norm) -> None:
    """Whatever an attack found: the truth, twice as far, nothing."""
    defense = ReluDefense()
    graph = read(defense, defense.shape)
    x, y = defense.sample_images(2)
    for i, known in enumerate(MINIMAL[norm][:2]):
        for attacked in (known, 2 * known, math.inf):
            found = bracket(graph, x[i : i + 1], y[i : i + 1], norm, attacked, seconds=30, gap=0.005)
            assert 0.99 * known <= found.low <= known
            assert found.low <= found.high <= attacked and found.low >= 0.99 * found.high


@pytest.mark.parametrize("norm", NORMS)
def test_leaky_convolutions_and_residual_sums_are_programs_too(norm: Norm) -> None:
    """No attack comes closer than what is proven, and the closest is within the gap."""
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.leaky_relu(self.first(x), 0.1)
            return self.last((x + self.second(x).relu()).flatten(1))

    module = Residual()
    module.last.bias.data = -module(torch.full((1, 1, 6, 6), 0.5))[0].detach() + module.last.bias.data
    defense = adopt("residual", module)
    x = torch.rand(1, 1, 6, 6)
    y = defense.scores(x).argmax(1)
    proven = Exact().run(defense, x, y, norm, torch.Generator().manual_seed(0))
    for name in (f"fab-t-{norm}", f"brendel-bethge-{norm}"):
        records = arena.play(defense, arena.load_attack(name), x, y)
        reached = torch.tensor([record.distance for record in records], dtype=torch.float64)
        assert bool((proven <= reached).all())
    assert bool((proven > 0.9 * reached).all())


def test_where_time_ends_what_is_proven_by_then_is_told() -> None:
    defense = ReluDefense()
    x, y = defense.sample_images(1)
    found = bracket(read(defense, defense.shape), x, y, "linf", MINIMAL["linf"][0], seconds=1e-9)
    assert found == (0, MINIMAL["linf"][0])


def test_a_network_that_never_errs_has_no_adversarial() -> None:
    last = nn.Linear(4, 2)
    last.weight.data.zero_()
    last.bias.data = torch.tensor([1.0, 0.0])
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), last)
    x, y = torch.rand(1, 1, 6, 6), torch.zeros(1, dtype=torch.int64)
    found = bracket(read(adopt("sure", module), (1, 6, 6)), x, y, "linf", math.inf, seconds=30)
    assert found == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("module", "why"),
    [(nn.ELU(), "it has ELU"), (nn.Sequential(nn.Linear(36, 2001), nn.ReLU(), nn.Linear(2001, 36)), "2001 ReLUs")],
)
def test_what_is_no_small_relu_network_is_refused(module: nn.Module, why: str) -> None:
    defense = adopt("other", nn.Sequential(nn.Flatten(), module, nn.Linear(36, 2)))
    assert why in present(Exact().refusal(defense, (1, 6, 6)))


@pytest.mark.slow  # a minute of small programs
def test_it_keeps_the_contract() -> None:
    report = check_bound(Exact(seconds=10), defenses=[LinearDefense(classes=2), ReluDefense()])
    assert report.ok, str(report)
