"""A defense that returns saturated probabilities instead of logits hides little from attacks that use gradients."""

import pytest
import torch

import arena
from arena.target.logits import are_probabilities, unsaturated


class Saturated(arena.Defense):
    """A softmax over logits so large that the label's probability is one to the last bit."""

    name, gradient = "saturated", "autograd"

    def __init__(self, softmax=True):
        super().__init__()
        self.softmax = softmax
        self.network = torch.nn.Linear(12, 3, bias=False).requires_grad_(False).eval()
        self.network.weight.copy_(torch.randn(3, 12, generator=torch.Generator().manual_seed(0)))

    def scores(self, x):
        logits = 20 * self.network(x.flatten(1))
        return logits.softmax(1) if self.softmax else logits


def distances(softmax, attack, x):
    defense = Saturated(softmax)
    y = defense.scores(x).argmax(1)
    return [float(row.distance) for row in arena.play(defense, arena.load_attack(attack), x, y)]


@pytest.mark.parametrize("attack", ["deepfool-l2", "ddn", "fmn-l2", "apgd-ce-linf", "carlini-wagner", "ead"])
def test_probabilities_cost_an_attack_nothing(attack):
    x = torch.rand(6, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    assert distances(True, attack, x) == pytest.approx(distances(False, attack, x), rel=0.1)


def test_logits_stay_as_they_are_and_probabilities_keep_their_order():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    assert unsaturated(logits) is logits and not are_probabilities(logits)
    probabilities = (50 * logits).softmax(1)
    assert are_probabilities(probabilities)
    assert torch.equal(unsaturated(probabilities).argmax(1), probabilities.argmax(1))
    assert bool(unsaturated(probabilities).isfinite().all())
