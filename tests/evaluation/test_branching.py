"""The minimal distances of small ReLU networks, as branch and bound proves them: those that are known, those that every
pattern of signs has been searched for, and those that attacks reach."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn
from typed import present

import arena
from arena.data import load_data
from arena.evaluation.bounds.branching import bracket
from arena.evaluation.bounds.relaxation.reading import read
from arena.evaluation.bounds.relaxation.region import Region
from arena.evaluation.bounds.relaxation.splits import Splits
from arena.geometry.norms import Norm
from arena.models.adopted import adopt
from arena.plugins.bounds.exact import Exact
from arena.testing import LinearDefense, ReluDefense, check_bound
from arena.testing.relu import MINIMAL

NORMS = Exact.norms
SEEDS = 2
SLOPE = 0.1  # of the tiny networks' units, below zero


@pytest.mark.parametrize("norm", NORMS)
def test_minimal_distances_that_are_known_are_proven(norm: Norm) -> None:
    """Whatever an attack found: the truth, or twice as far."""
    defense = ReluDefense()
    graph = read(defense, defense.shape)
    x, y = defense.sample_images(2)
    for i, (known, attacked) in enumerate(zip(MINIMAL[norm][:2], (1.0, 2.0), strict=True)):
        found = bracket(graph, x[i : i + 1], y[i : i + 1], norm, attacked * known, seconds=30, gap=0.005)
        assert 0.99 * known <= found.low <= known
        assert 0.999 * known <= found.high <= attacked * known  # an image is held for one a little before it is


def tiny(seed: int) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """Six pixels, three and two leaky ReLUs, three classes; one image, and what the network says."""
    torch.manual_seed(seed)
    layers = nn.Linear(6, 3), nn.LeakyReLU(SLOPE), nn.Linear(3, 2), nn.LeakyReLU(SLOPE), nn.Linear(2, 3)
    module = nn.Sequential(nn.Flatten(), *layers).requires_grad_(False)
    module[-1].bias -= module(torch.rand(200, 1, 2, 3)).mean(0)
    x = torch.rand(1, 1, 2, 3)
    return module, x, module(x).argmax(1)


def by_patterns(module: nn.Sequential, x: torch.Tensor, y: torch.Tensor, norm: Norm) -> float:
    """The minimal distance: the least over all patterns of signs, in each of which the network is linear."""
    image, label = x.double().flatten().numpy(), int(y)
    *hidden, last = ((m.weight.double().numpy(), m.bias.double().numpy()) for m in module if isinstance(m, nn.Linear))
    least = math.inf
    for signs in itertools.product((1, -1), repeat=sum(len(bias) for _, bias in hidden)):
        slope, value, normals, offsets, left = np.eye(len(image)), image, [], [], np.array(signs)
        for weight, bias in hidden:
            sign, left = left[: len(bias)], left[len(bias) :]
            slope, value = weight @ slope, weight @ value + bias
            normals.append(sign[:, None] * slope)
            offsets.append(-sign * value)
            share = np.where(sign > 0, 1, SLOPE)
            slope, value = share[:, None] * slope, share * value
        slope, value = last[0] @ slope, last[0] @ value + last[1]
        for rival in {0, 1, 2} - {label}:
            rows = np.vstack([*normals, slope[rival] - slope[label]])
            gaps = np.append(np.concatenate(offsets), value[label] - value[rival])
            least = min(least, shortest(norm, image, rows, gaps))
    return least


def shortest(norm: Norm, x: np.ndarray, normals: np.ndarray, offsets: np.ndarray) -> float:
    """The length of the smallest move in the box with normals d >= offsets, a rise less a fall of each pixel; infinity
    if there is none."""
    pixels = len(x)
    cost, rows = np.ones(2 * pixels), np.hstack([-normals, normals])
    ends = np.column_stack([np.zeros(2 * pixels), np.concatenate([1 - x, x])])
    if norm == "linf":
        cost = np.eye(1, 2 * pixels + 1, 2 * pixels)[0]
        rows = np.block([[rows, np.zeros((len(rows), 1))], [np.eye(2 * pixels), -np.ones((2 * pixels, 1))]])
        offsets, ends = np.append(offsets, np.zeros(2 * pixels)), np.vstack([ends, [0, 1]])
    solved = linprog(cost, rows, -offsets, bounds=ends)
    return math.inf if solved.status else solved.fun


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_what_every_pattern_of_signs_allows_is_proven_and_no_more(norm: Norm) -> None:
    for seed in range(SEEDS):
        module, x, y = tiny(seed)
        known = by_patterns(module, x, y, norm)
        found = bracket(read(adopt("tiny", module), (1, 2, 3)), x, y, norm, math.inf, seconds=30)
        assert 0.98 * known <= found.low <= known * (1 + 1e-6), (seed, known, found)
        assert math.isinf(known) or found.low <= found.high


@pytest.mark.parametrize("norm", NORMS)
def test_no_image_of_a_part_has_a_lesser_margin_than_its_bound(norm: Norm) -> None:
    """With few steps and with many, whatever is assumed."""
    module, x, y = tiny(5)
    graph, x = read(adopt("tiny", module), (1, 2, 3)), x.double()
    images = torch.rand(2000, 1, 2, 3, dtype=torch.float64)
    splits = Splits(graph, Region(norm, x, x.new_tensor([6.0])), y)  # all of the box
    parts = splits.whole()
    hidden = torch.cat([graph.values(images)[at] for _, at in graph.nonlinear.values()], 1)
    assert parts.sign.shape[1] == hidden.shape[1]  # no sign is known in all of the box
    logits = graph(images)
    margin = logits[:, y] - logits[:, [c for c in range(3) if c != int(y)]]
    for neuron in torch.randperm(hidden.shape[1]).tolist():
        parts = parts.cut(torch.full((len(parts.rival),), neuron))
        bounds = [splits.bounded(parts, steps) for steps in (0, 30)]
        assert bool((bounds[1].least >= bounds[0].least).all())
        inside = (hidden[:, None] * parts.sign >= 0).all(2)  # [images, parts]
        for bound in bounds:
            assert bool((margin[:, parts.rival] >= bound.least - 1e-9)[inside].all())
        parts = bounds[1].parts
    assert bool(inside.any(1).all())  # no image is in no part


def test_a_network_of_digits_is_closed_to_a_percent() -> None:
    """784-50-50-10, trained for a moment: its fifty open neurons are more than integer programs solve in a minute."""
    torch.manual_seed(0)
    layers = nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10)
    module = nn.Sequential(nn.Flatten(), *layers)
    x, y = load_data("mnist", "train")
    adam = torch.optim.Adam(module.parameters(), 1e-3)
    for batch in torch.randperm(len(x)).split(200):
        adam.zero_grad()
        nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
        adam.step()
    defense = adopt("digits", module.requires_grad_(False))
    x, y = load_data("mnist", "test")
    x, y = x[:2], y[:2]
    assert bool((module(x).argmax(1) == y).all())
    records = arena.play(defense, arena.load_attack("fab-t-linf"), x, y)
    for image, label, record in zip(x.split(1), y.split(1), records, strict=True):
        reached = present(record.distance)
        found = bracket(read(defense, (1, 28, 28)), image, label, "linf", reached, seconds=60)
        assert 0.9899 * found.high <= found.low <= found.high <= reached


@pytest.mark.parametrize("norm", ["linf", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("l1", "l2"))])
def test_leaky_convolutions_and_residual_sums_are_split_too(norm: Norm) -> None:
    """No attack comes closer than what is proven, and the closest is within the gap."""
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.Linear(32, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.leaky_relu(self.first(x), 0.1)
            return self.last((x + self.second(x).relu()).flatten(1))

    module = Residual()
    module.last.bias.data = -module(torch.full((1, 1, 6, 6), 0.5))[0].detach() + module.last.bias.data
    defense = adopt("residual", module)
    x = torch.rand(1, 1, 6, 6)
    y = defense.scores(x).argmax(1)
    proven = Exact().run(defense, x, y, norm, torch.Generator().manual_seed(0))
    reached = []
    for name in (f"fab-t-{norm}", f"brendel-bethge-{norm}"):
        (record,) = arena.play(defense, arena.load_attack(name), x, y)
        reached.append(present(record.distance))
    assert 0.9 * min(reached) < float(proven) <= min(reached)


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


@pytest.mark.slow  # half a minute of attacks
def test_it_keeps_the_contract() -> None:
    report = check_bound(Exact(seconds=10), defenses=[LinearDefense(classes=2), ReluDefense()])
    assert report.ok, str(report)
