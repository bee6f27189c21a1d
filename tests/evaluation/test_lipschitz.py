"""The Lipschitz bound, against operators whose norms are known and networks whose minimal distances are."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typed import present

import arena
from arena.evaluation.bounds import lipschitz
from arena.evaluation.bounds.lipschitz import LENGTHS, Speed
from arena.geometry.norms import SPECS, Norm
from arena.testing import LinearDefense, ReluDefense

SHAPE = (2, 6, 7)


class Layers(arena.Defense):
    """The scores of a module."""

    name, gradient = "layers", "autograd"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_module(*layers: nn.Module, seed: int = 0) -> nn.Sequential:
    module = nn.Sequential(*layers).requires_grad_(False)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng(seed)) / math.sqrt(parameter[0].numel())
    return module


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)},
        {"kernel_size": (4, 3), "stride": (2, 3), "padding": (1, 2), "groups": 2},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (2, 1), "dilation": (2, 1)},
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_a_convolution_stretches_as_its_matrix_does(
    options: dict[str, Any], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lipschitz, "_SMALL", 0 if large else math.inf)
    layer = random_module(nn.Conv2d(2, 4, **options)).double()[0]
    x = torch.zeros(1, *SHAPE, dtype=torch.float64)
    matrix = torch.func.jacrev(layer)(x).view(-1, x.numel())
    found = lipschitz._of_layer(layer, x)
    assert found.l1 == pytest.approx(float(torch.linalg.matrix_norm(matrix, 1)))
    assert found.linf == pytest.approx(float(torch.linalg.matrix_norm(matrix, math.inf)))
    spectral = float(torch.linalg.matrix_norm(matrix, 2))
    assert spectral * (1 - 1e-9) <= found.l2 <= (1.25 if large else 1 + 1e-9) * spectral


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 2, "dilation": 2},
        {"kernel_size": (3, 2), "stride": (4, 1), "dilation": (2, 3)},
    ],
)
def test_pooling_counts_a_value_as_often_as_windows_hold_it(options: dict[str, Any]) -> None:
    windows = functional.fold(functional.unfold(torch.ones(1, 1, 20, 20), **options), (20, 20), **options)
    most = float(windows.max())
    assert lipschitz._of_layer(nn.MaxPool2d(**options), torch.zeros(1, 1, 20, 20)) == (most, most**0.5, 1)


NETWORKS = {
    "relu": random_module(nn.Flatten(), nn.Linear(84, 20), nn.ReLU(), nn.Linear(20, 5)),
    "pooled": random_module(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.ELU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(36, 5))
    ),
    "averaged": random_module(
        *(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Sigmoid()),
        *(nn.Conv2d(5, 5, 2), nn.Flatten()),
    ),
    "nested": random_module(nn.BatchNorm2d(2), nn.Sequential(nn.Tanh(), nn.Flatten()), nn.Dropout(), nn.Linear(84, 5)),
    "linear": random_module(nn.Flatten(), nn.Linear(84, 5)),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_below_it_flips_the_class(name: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lipschitz, "_SMALL", 0 if large else 2**21)
    defense = Layers(NETWORKS[name])
    speed = Speed(defense, SHAPE)
    x = torch.rand(64, *SHAPE, generator=rng())
    y = defense.scores(x).argmax(1)
    for norm in LENGTHS:
        reach = speed.distances(x, y, norm)
        assert bool((reach > 0).all())
        for other in (x.roll(1, 0), x + 0.3 * torch.randn(x.shape, generator=rng(1)), x.flip(-1)):
            step = (other - x).double()
            share = 0.999 * reach / SPECS[norm].length(step.flatten(1))
            inside = x.double() + step * share.view(-1, 1, 1, 1)
            assert torch.equal(defense.scores(inside.float()).argmax(1), y)


@pytest.mark.parametrize("norm", LENGTHS)
def test_where_no_layer_loses_anything_it_is_the_minimal_distance(norm: Norm) -> None:
    """Layers that keep every length, and one plane between two classes: half the sum of two grey values is 0.5."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2)).requires_grad_(False)
    module[1].weight.data = torch.eye(2)
    module[3].weight.data, module[3].bias.data = torch.tensor([[0.5, 0.5], [0.0, 0.0]]), torch.tensor([0.0, 0.5])
    x = torch.tensor([0.8, 0.6]).view(1, 1, 1, 2)
    bound = arena.load_bound("lipschitz").run(Layers(module), x, torch.tensor([0]), norm, rng())
    assert float(bound) == pytest.approx({"l1": 0.4, "l2": 0.4 / math.sqrt(2), "linf": 0.2}[norm], rel=1e-5)


class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp_min(0) ** 2


class Louder(Layers):
    def scores(self, x: Tensor) -> Tensor:
        return 9 * super().scores(x) ** 3


@pytest.mark.parametrize(
    ("defense", "reason"),
    [
        (LinearDefense(), "it has no attribute `network`"),
        (Layers(nn.Sequential(nn.Flatten(), Halved(84, 5))), "of its layer Halved(in_features=84"),
        (Layers(nn.Sequential(nn.Flatten(), nn.Linear(84, 5), nn.Softmax(1))), "of its layer Softmax(dim=1)"),
        (
            Layers(random_module(nn.Conv2d(2, 5, 3, padding="same"), nn.Flatten())),
            "its padding is not a number of zeros",
        ),
        (Layers(random_module(nn.ELU(2.0), nn.Flatten(), nn.Linear(84, 5))), "its slope is above 1"),
        (Louder(NETWORKS["linear"]), "its scores are not what its `network` says of the image"),
        (ReluDefense(), "it is not made for images [2, 6, 7]"),
    ],
)
def test_what_it_does_not_know_it_refuses_with_the_reason(defense: arena.Defense, reason: str) -> None:
    refusal = arena.load_bound("lipschitz").refusal(defense, SHAPE)
    assert reason in present(refusal) and "\n" not in present(refusal)
