"""The built-in defenses on real images, with our weights and with the authors'."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from paths import REFERENCE
from torch import Tensor
from torch.nn import functional
from typed import Batch, present

from arena.data import load_data
from arena.errors import UserError
from arena.interface.contracts import Defense
from arena.interface.registry import load_defense
from arena.models.cnn import ConvolutionalNetwork
from arena.models.pgd import linf_pgd
from arena.models.weights import ZOO, load_weights
from arena.plugins.defenses.cnn import CNN
from arena.target.logits import evaluate

NAMES = ["cnn", "binary-cnn", "nearest-neighbor", "madry", "binary-abs", "abs"]
SLOW = pytest.mark.slow  # minutes


@pytest.fixture(scope="module")
def defenses() -> dict[str, Defense]:
    return {name: load_defense(name) for name in NAMES}


def reference(name: str, file: str) -> Defense:
    if not (REFERENCE / file).exists():
        pytest.skip(f"the authors' checkpoint {file} is not here")
    return load_defense(name, weights=REFERENCE / file)


def accuracy(defense: Defense, mnist: Batch) -> float:
    return float((evaluate(defense, mnist[0]).argmax(1) == mnist[1]).double().mean())


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("cnn", 0.990),
        ("binary-cnn", 0.985),
        ("madry", 0.983),
        pytest.param("abs", 0.988, marks=SLOW),
        pytest.param("binary-abs", 0.988, marks=SLOW),
    ],
)
def test_accuracy_of_the_shipped_weights(name: str, least: float, defenses: dict[str, Defense], mnist: Batch) -> None:
    assert accuracy(defenses[name], mnist) >= least


def test_accuracy_of_the_substitute(mnist: Batch) -> None:
    network = ConvolutionalNetwork(maps=(32, 32, 64, 10)).eval()
    load_weights(network, ZOO / "substitute.safetensors")
    with torch.no_grad():
        labels = torch.cat([network(images).argmax(1) for images in mnist[0].split(500)])
    assert (labels == mnist[1]).double().mean() >= 0.99


@pytest.mark.slow
def test_madry_under_pgd(defenses: dict[str, Defense], mnist: Batch) -> None:
    (x, y), rng = mnist, torch.Generator().manual_seed(1)
    network = defenses["madry"].scores
    correct = 0
    for images, labels in zip(x.split(500), y.split(500), strict=True):
        adversarial = linf_pgd(network, images, labels, 0.3, 0.01, 40, rng)
        with torch.no_grad():
            correct += int((network(adversarial).argmax(1) == labels).sum())
    assert correct / len(x) >= 0.91


@pytest.mark.slow
def test_accuracy_of_the_nearest_neighbor(defenses: dict[str, Defense], mnist: Batch) -> None:
    assert accuracy(defenses["nearest-neighbor"], mnist) == 0.9691


@pytest.mark.parametrize(
    ("name", "file", "expected"), [("cnn", "vanilla_cnn.net", 0.9935), ("binary-cnn", "binary_cnn.net", 0.9871)]
)
def test_accuracy_of_the_authors_checkpoints(name: str, file: str, expected: float, mnist: Batch) -> None:
    assert accuracy(reference(name, file), mnist) == pytest.approx(expected, abs=2e-4)


def test_checkpoints_of_another_architecture_are_refused() -> None:
    for file in ("transfer_cnn.net", "ABS_0.net"):
        with pytest.raises(UserError, match="another architecture"):
            reference("cnn", file)


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_independent_and_logits_deterministic(name: str, defenses: dict[str, Defense], mnist: Batch) -> None:
    x, defense = mnist[0][:20], defenses[name]
    with torch.no_grad():
        together = defense.scores(x)
        assert together.shape == (20, 10)
        assert torch.equal(together, defense.scores(x))
        for rows in (1, 7):
            apart = torch.cat([defense.scores(part) for part in x.split(rows)])
            assert (apart - together).abs().max() < 1e-4
        assert (defense.scores(x.flip(0)).flip(0) - together).abs().max() < 1e-4


def test_nearest_neighbor_agrees_with_brute_force(defenses: dict[str, Defense], mnist: Batch) -> None:
    prototypes, labels = load_data("mnist", "train")
    rng = torch.Generator().manual_seed(0)
    x = mnist[0][:6]
    x = torch.cat([x, (x + 0.1 * torch.randn(x.shape, generator=rng)).clamp(0, 1), prototypes[:2]])
    expected = torch.empty(len(x), 10, dtype=torch.float64)
    for c in range(10):
        of_class = prototypes[labels == c].flatten(1).double()
        expected[:, c] = -torch.stack([(of_class - image).norm(dim=1).min() for image in x.flatten(1).double()])
    assert (defenses["nearest-neighbor"].scores(x) - expected).abs().max() < 1e-5


MEMORY = """
import resource, torch
from arena.interface.registry import load_defense
torch.set_num_threads(1)
defense = load_defense("nearest-neighbor")
x = torch.rand(1200, 1, 28, 28)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
defense.scores(x)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak // 1024, (peak - before) // 1024)
"""


def test_nearest_neighbor_keeps_within_its_memory() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    whole, extra = map(int, done.stdout.split())
    assert whole < 2000  # MB, of the process
    assert extra < 600


def test_nearest_neighbor_refuses_weights() -> None:
    with pytest.raises(UserError, match="takes no weights"):
        load_defense("nearest-neighbor", weights="some.safetensors")


def test_the_fingerprint_follows_the_weights(defenses: dict[str, Defense]) -> None:
    assert load_defense("cnn").fingerprint == defenses["cnn"].fingerprint
    assert reference("cnn", "vanilla_cnn.net").fingerprint != defenses["cnn"].fingerprint


def test_the_gradient_of_the_cnn_is_that_of_its_scores(defenses: dict[str, Defense], mnist: Batch) -> None:
    x, y = mnist[0][:8].double(), mnist[1][:8]
    network = CNN().network.double()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(network(x), y), x)
    with torch.no_grad():
        above, below = (functional.cross_entropy(network(x + t * direction), y) for t in (1e-6, -1e-6))
    assert (gradient * direction).sum().item() == pytest.approx((above - below).item() / 2e-6, rel=1e-4)


def test_binary_cnn_sees_black_and_white_and_lets_the_gradient_through(
    defenses: dict[str, Defense], mnist: Batch
) -> None:
    defense = defenses["binary-cnn"]
    x = mnist[0][:8]
    binary = (x >= present(defense.binary_threshold)).float()
    assert not torch.equal(x, binary)

    def scores_and_gradient(images: Tensor) -> tuple[Tensor, Tensor]:
        images = images.clone().requires_grad_()
        scores = defense.scores(images)
        return scores.detach(), torch.autograd.grad(scores[:, 3].sum(), images)[0]

    scores, gradient = scores_and_gradient(x)
    scores_binary, gradient_binary = scores_and_gradient(binary)
    assert torch.equal(scores, scores_binary)
    assert torch.equal(gradient, gradient_binary)
    assert (gradient != 0).any()
    assert (gradient[x < 0.2] != 0).any()  # also where a small step would not change the scores
