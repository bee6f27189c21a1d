"""Certificates of ordinary networks: no point within them is of another class, whatever the layers are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from typed import present

from arena.errors import UserError
from arena.evaluation.bounds.relaxation.activations import ELU, LeakyReLU, Logistic, Tanh
from arena.evaluation.bounds.relaxation.backward import Relaxed
from arena.evaluation.bounds.relaxation.certificate import best_choices, bounded, certified, margins
from arena.evaluation.bounds.relaxation.graph import Graph
from arena.evaluation.bounds.relaxation.reading import read
from arena.evaluation.bounds.relaxation.region import Region
from arena.evaluation.bounds.relaxation.rows import Interval
from arena.geometry.distances import distance, project_in_box
from arena.geometry.norms import Norm
from arena.interface.contracts import Defense
from arena.models.adopted import adopt
from arena.plugins.bounds.linear_relaxation import LinearRelaxation
from arena.testing import LinearDefense, check_bound
from arena.testing.relu import ReluDefense

NORMS = ("l1", "l2", "linf")
SHAPE = (2, 6, 6)


class Residual(nn.Module):
    """A block whose ReLUs write in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.norm(self.first(x)).relu_())
        y += x
        return y.relu_()


class Branches(nn.Module):
    """Concatenation, a weighted sum, a permutation, and arithmetic with constants."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3, groups=1, dilation=1)
        self.last = nn.Linear(96, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.left(1 - x)), torch.tanh(self.right((x - 0.5) / 0.3))
        joined = torch.cat([a - 2 * b, nn.functional.pad(b, (0, 0, 0, 0))], 1)
        return self.last(joined.permute(0, 2, 3, 1).flatten(1)).log_softmax(1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 3)),
    "elu": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ELU(), nn.Flatten(), nn.Linear(16, 3)
    ),
    "strides": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=2, dilation=2, groups=2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4, 3, 2, stride=3),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(12, 3),
    ),
    "pools": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2, stride=1),
        nn.Conv2d(4, 3, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
    "residual": lambda: nn.Sequential(Residual(2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3), nn.Softmax(1)),
    "branches": Branches,
}


def network(name: str, seed: int) -> Defense:
    torch.manual_seed(seed)
    module = NETWORKS[name]()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(present(one.running_var), 0.5, 2)
            nn.init.uniform_(present(one.running_mean), -0.5, 0.5)
            nn.init.uniform_(one.weight, -1, 1)
    return adopt(name, module)


def points(norm: Norm, x: Tensor, radius: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Images of the box at most `radius` away: random ones, and corners of the ball."""
    noise = torch.randn(n, *x.shape[1:], generator=rng, dtype=x.dtype)
    sparse = torch.where(torch.rand(noise.shape, generator=rng) < 0.1, noise, 0).sign()
    away = torch.cat([noise, noise.sign(), sparse]) * float(radius) * 3
    every = x.expand(len(away), -1, -1, -1)
    return project_in_box(norm, every + away, every, radius.expand(len(away)))


def attacked(graph: Graph, norm: Norm, x: Tensor, y: Tensor, radius: Tensor, steps: int = 15) -> Tensor:
    """The images at most `radius` away where each other class is ahead the most, by projected gradient steps."""
    rows = margins(graph, y).values[0]
    every = x.expand(len(rows), -1, -1, -1)
    image = every.clone()
    for _ in range(steps):
        image = image.detach().requires_grad_()
        (rows * graph(image)).sum().backward()
        slope = present(image.grad)
        length = slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-12)
        step = slope.sign() if norm == "linf" else slope / length
        image = project_in_box(norm, image.detach() - float(radius) / 4 * step, every, radius.expand(len(rows)))
    return image.detach()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 0.6))
def test_what_is_bounded_stays_within(name: str, norm: Norm, seed: int, size: float) -> None:
    defense, rng = network(name, seed), torch.Generator().manual_seed(seed)
    graph = read(defense, SHAPE)
    x = torch.rand(1, *SHAPE, generator=rng).double()
    y = graph(x).argmax(1)
    radius = torch.tensor([size * {"l1": 6, "l2": 2, "linf": 0.4}[norm]], dtype=torch.float64)
    with torch.no_grad():
        relaxed = Relaxed(graph, Region(norm, x, radius))
    images = torch.cat([points(norm, x, radius, 20, rng), attacked(graph, norm, x, y, radius)])
    assert bool((distance(norm, images, x) <= radius * (1 + 1e-9)).all())
    for number, values in enumerate(graph.values(images)):
        low, high = relaxed.bounds[number]
        assert bool((values >= low - 1e-9).all()) and bool((values <= high + 1e-9).all()), number
    rows = margins(graph, y)
    actual = (rows.values @ graph(images)[..., None])[..., 0]
    for steps in (0, 5):
        of_image, constant = bounded(relaxed, rows, best_choices(relaxed, rows, steps))
        function = images.flatten(1) @ of_image.whole(SHAPE)[0].flatten(1).T + constant
        assert bool((function <= actual + 1e-9).all())
        assert bool((relaxed.region.minimum(of_image, constant) <= function + 1e-9).all())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_image_within_a_certificate_is_of_another_class(name: str, norm: Norm) -> None:
    rng = torch.Generator().manual_seed(1)
    defense = network(name, 5)
    graph = read(defense, SHAPE)
    x = torch.rand(1, *SHAPE, generator=rng).double()
    y = graph(x).argmax(1)
    radius = certified(graph, x, y, norm, steps=5)
    assert float(radius) > 0
    images = torch.cat([points(norm, x, radius, 200, rng), attacked(graph, norm, x, y, radius)])
    assert bool((graph(images).argmax(1) == y).all())


@pytest.mark.parametrize("piece", [LeakyReLU(), LeakyReLU(0.3), ELU(), ELU(0.5), Tanh(), Logistic()], ids=str)
def test_lines_enclose_the_function_whatever_is_chosen(piece: LeakyReLU) -> None:
    rng = torch.Generator().manual_seed(0)
    ends = (torch.randn(2, 3000, generator=rng, dtype=torch.float64) * 4).sort(0).values
    ends[1, :300] = ends[0, :300] + 1e-7 * torch.rand(300, generator=rng, dtype=torch.float64)
    bounds = Interval(ends[:1], ends[1:])
    best = piece.choices(bounds)
    for choices in (
        best,
        torch.rand(best.shape, generator=rng, dtype=torch.float64),
        torch.zeros_like(best),
        torch.ones_like(best),
    ):
        lines = piece.relax(bounds, choices)
        for share in torch.linspace(0, 1, 41, dtype=torch.float64):
            at = ends[0] + share * (ends[1] - ends[0])
            value = piece.forward(at)
            assert bool((lines.low_slope * at + lines.low_offset <= value + 1e-12).all())
            assert bool((lines.high_slope * at + lines.high_offset >= value - 1e-12).all())


@pytest.mark.parametrize("norm", NORMS)
def test_of_a_linear_defense_the_certificate_is_the_minimal_distance(norm: Norm) -> None:
    defense = LinearDefense(classes=4)
    x, y = defense.sample_images(3)
    exact = defense.minimal_distance(norm, x)
    found = LinearRelaxation().run(defense, x, y, norm, torch.Generator())
    assert bool((found <= exact).all())
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_is_certified_as_its_images_are(norm: Norm) -> None:
    graph = read(network("strides", 5), SHAPE)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    y = graph(x).argmax(1)
    alone = torch.cat([certified(graph, *pair, norm, steps=2) for pair in zip(x.split(1), y.split(1), strict=True)])
    torch.testing.assert_close(certified(graph, x, y, norm, steps=2), alone, rtol=0.02, atol=0)


def test_an_image_on_the_boundary_has_none() -> None:
    """Classified correctly by float32 at best: in real arithmetic another class is ahead."""
    graph = read(network("linear", 5), SHAPE)
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    assert float(certified(graph, x, graph(x).argmin(1), "linf", steps=0)) == 0


def test_it_is_tighter_than_interval_arithmetic() -> None:
    """At the certified radius intervals alone prove nothing."""
    graph = read(network("linear", 5), SHAPE)
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    y = graph(x).argmax(1)
    radius = certified(graph, x, y, "linf", steps=5)
    bounds = [Region("linf", x, radius).box]
    for node in graph.nodes[1:]:
        assert node.piece is not None
        bounds.append(node.piece.interval(*(bounds[i] for i in node.inputs)))
    label = torch.nn.functional.one_hot(y, graph.classes).bool()
    assert float(bounds[-1].low[label]) < float(bounds[-1].high[~label].max())


def test_a_choice_of_lines_pays() -> None:
    """Of a network of two hidden layers, at a radius where its ReLUs are undecided."""
    torch.manual_seed(0)
    layers = (nn.Linear(72, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3))
    graph = read(adopt("deep", nn.Sequential(nn.Flatten(), *layers)), SHAPE)
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    y = graph(x).argmax(1)
    with torch.no_grad():
        relaxed = Relaxed(graph, Region("linf", x, torch.full((4,), 0.2, dtype=torch.float64)))
    rows = margins(graph, y)
    plain, chosen = (
        relaxed.region.minimum(*bounded(relaxed, rows, best_choices(relaxed, rows, steps))) for steps in (0, 20)
    )
    assert bool((chosen >= plain).all()) and bool(((chosen - plain) / plain.abs() > 0.01).any())


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.GELU(), "gelu"),
        (nn.ELU(2.0), "alpha = 2"),
        (nn.Softmax(1), "softmax"),
        (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode"),
    ],
)
def test_it_names_the_layer_that_it_has_no_lines_for(layer: nn.Module, named: str) -> None:
    pooled = 27 if isinstance(layer, nn.MaxPool2d) else 108
    defense = adopt("odd", nn.Sequential(nn.Conv2d(2, 3, 1), layer, nn.Flatten(), nn.Linear(pooled, 3)))
    with pytest.raises(UserError, match=named):
        read(defense, SHAPE)
    assert named in present(LinearRelaxation().refusal(defense, SHAPE))


def test_it_refuses_what_no_trace_sees() -> None:
    """A factor that goes through numpy would be a constant of the trace."""

    def sharpened(x: Tensor) -> Tensor:
        return x.mean((2, 3)) * (1 + x.detach().numpy().sum())

    assert "trace" in present(LinearRelaxation().refusal(adopt("numpy", sharpened), SHAPE))


def test_a_path_that_depends_on_values_is_refused() -> None:
    def branching(x: Tensor) -> Tensor:
        return x.mean((2, 3)) * (2 if bool(x.sum() > 1) else 1)

    assert "trace" in present(LinearRelaxation().refusal(adopt("branching", branching, gradient="autograd"), SHAPE))


def test_it_keeps_the_contract() -> None:
    report = check_bound(LinearRelaxation(steps=0), defenses=[LinearDefense(classes=2), ReluDefense()])
    assert report.ok, str(report)
