"""The minimal distances of the small ReLU network, found again: by mixed-integer programs, and pattern by pattern."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from arena.geometry.norms import NORMS, Norm
from arena.plugins.attacks.cutting_planes.moves import smallest_move
from arena.testing import ReluDefense
from arena.testing.relu import IMAGES, MINIMAL

# Those at which most attacks miss the optimum. All are solved with -m slow; L2 takes 11 s an image.
HARD = [("l0", 1), ("l0", 4), ("l1", 1), ("l1", 4), ("linf", 1), ("linf", 4)]
RELATIVE = 1e-6


Network = tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray, list[int]]


@pytest.fixture(scope="module")
def network() -> Network:
    """Weights W, b, V, the images as rows, and their labels, float64."""
    defense = ReluDefense()
    x, y = defense.sample_images()
    hidden, bias, output = (part.double().numpy() for part in defense.network.parameters())
    return hidden, bias, output, x.flatten(1).double().numpy(), y.tolist()


def program(
    norm: Norm,
    network: Network,
    image: int,
    rival: int,
) -> float:
    """The minimal distance at which `rival` is as high as the label: the rises and falls of all pixels, what each
    neuron gives, whether it is active, and the size of the move (Tjeng et al. 2019)."""
    hidden, bias, output, images, labels = network
    x, (neurons, pixels) = images[image], hidden.shape
    sizes = pixels, pixels, neurons, neurons, {"l0": pixels, "l1": 0, "linf": 1}[norm]
    rise, fall, out, on, size = (
        numpy.eye(sum(sizes))[end - n : end] for n, end in zip(sizes, numpy.cumsum(sizes), strict=True)
    )
    move, before = hidden @ (rise - fall), hidden @ x + bias
    low, high = (numpy.clip(hidden, *ends).sum(1) + bias for ends in ((None, 0), (0, None)))
    rows = [
        (out - move, before, numpy.inf),
        (out - move - low[:, None] * on, -numpy.inf, before - low),
        (out - high[:, None] * on, -numpy.inf, 0),
        ((output[rival] - output[labels[image]])[None] @ out, 0, numpy.inf),
    ]
    if norm == "l0":
        rows += [(rise - (1 - x)[:, None] * size, -numpy.inf, 0), (fall - x[:, None] * size, -numpy.inf, 0)]
    if norm == "linf":
        rows += [(rise + fall - size, -numpy.inf, 0)]
    ends = numpy.concatenate([1 - x, x, high.clip(0), numpy.ones(neurons + sizes[-1])])
    solved = milp(
        (rise.sum(0) + fall.sum(0)) if norm == "l1" else size.sum(0),
        constraints=[LinearConstraint(matrix, below, above) for matrix, below, above in rows],
        integrality=on.sum(0) + (size.sum(0) if norm == "l0" else 0),
        bounds=Bounds(0, ends),
        options={"mip_rel_gap": 1e-9},
    )
    return solved.fun if solved.status == 0 else numpy.inf


def by_patterns(network: Network, image: int, within: float) -> float:
    """The least L2 distance, if it is below `within`: a neuron after the other is active or not, as far as an image
    with those before it can be within reach; where all are decided the network is linear."""
    hidden, bias, output, images, labels = network
    x, label = images[image], labels[image]
    before, length = hidden @ x + bias, numpy.linalg.norm(hidden, axis=1)

    def nearest(
        signs: list[int], normals: Sequence[numpy.ndarray] = (), offsets: Sequence[numpy.ndarray] = ()
    ) -> float:
        rows = [sign * row for sign, row in zip(signs, hidden[: len(signs)], strict=True)]
        gaps = [-sign * value for sign, value in zip(signs, before[: len(signs)], strict=True)]
        move = smallest_move("l2", x, numpy.array([*rows, *normals]), numpy.array([*gaps, *offsets]))
        return numpy.inf if move is None else float(numpy.linalg.norm(move))

    def search(signs: list[int], best: float) -> float:
        if signs and nearest(signs) > best:
            return best
        if len(signs) == len(hidden):
            active = numpy.array(signs) > 0
            for rival in set(range(len(output))) - {label}:
                gain = (output[rival] - output[label]) * active
                best = min(best, nearest(signs, [gain @ hidden], [-gain @ before]))
            return best
        neuron = len(signs)
        for sign in (1, -1):
            if sign * before[neuron] >= 0 or abs(before[neuron]) <= best * length[neuron]:
                best = search([*signs, sign], best)
        return best

    return search([], within)


@pytest.mark.parametrize(
    ("norm", "image"),
    [
        pytest.param(*case, marks=[] if case in HARD else pytest.mark.slow)
        for case in itertools.product(NORMS, range(IMAGES))
    ],
)
def test_the_distances_are_minimal(network: Network, norm: Norm, image: int) -> None:
    known = MINIMAL[norm][image]
    if norm == "l2":
        found = by_patterns(network, image, within=known * (1 + 10 * RELATIVE))
    else:
        rivals = set(range(len(network[2]))) - {network[4][image]}
        found = min(program(norm, network, image, rival) for rival in rivals)
    assert found == pytest.approx(known, rel=RELATIVE)
