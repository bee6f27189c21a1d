"""Against the paper: with the authors' CNN, the attacks together come at least as close as Table 1 says.

Minutes on one core, hence slow: `make conformance`. The figures are medians over samples of the minimum over attacks.
"""

import numpy
import pytest
from paths import REFERENCE
from torch import Tensor
from typed import Batch, present

import arena
from arena.geometry.norms import Norm

STRONG: dict[Norm, list[str]] = {
    "l2": ["fgm", "deepfool-l2", "bim-l2"],
    "linf": ["fgsm", "deepfool-linf", "bim-linf", "mim"],
    "l0": ["pointwise-l0", "salt-and-pepper"],
}

pytestmark = pytest.mark.slow


def median_of_minimum(defense: arena.Defense, attacks: list[str], x: Tensor, y: Tensor) -> float:
    """The median over samples of the closest that any attack came."""
    chunks = [
        [
            [present(record.distance) for record in arena.play(defense, arena.load_attack(name), *part)]
            for name in attacks
        ]
        for part in zip(x.split(20), y.split(20), strict=True)
    ]
    return float(numpy.median(numpy.concatenate([numpy.min(chunk, axis=0) for chunk in chunks])))


@pytest.mark.skipif(not REFERENCE.exists(), reason="the authors' weights (../shared/reference-weights) are not here")
@pytest.mark.parametrize(("norm", "at_most"), [("l2", 1.15), ("linf", 0.085), ("l0", 9.5)])
def test_the_authors_cnn(mnist: Batch, norm: Norm, at_most: float) -> None:
    defense = arena.load_defense("cnn", weights=REFERENCE / "vanilla_cnn.net")
    x, y = mnist
    assert median_of_minimum(defense, STRONG[norm], x[:200], y[:200]) <= at_most


def test_pointwise_on_the_nearest_neighbor(mnist: Batch) -> None:
    x, y = mnist
    defense = arena.load_defense("nearest-neighbor")
    assert median_of_minimum(defense, ["pointwise-l0"], x[:20], y[:20]) <= 11
