"""A defense that returns saturated probabilities instead of logits hides little from attacks that use gradients."""

import pytest
import torch
from torch import Tensor
from typed import present

import arena
from arena.target.logits import are_probabilities, evaluate, margin, unsaturated
from arena.target.query_log import QueryLog
from arena.target.target import Target


class Saturated(arena.Defense):
    """A softmax over logits so large that the label's probability is one to the last bit."""

    name, gradient = "saturated", "autograd"

    def __init__(self, softmax: bool = True) -> None:
        super().__init__()
        self.softmax = softmax
        self.network = torch.nn.Linear(12, 3, bias=False).requires_grad_(False).eval()
        self.network.weight.copy_(torch.randn(3, 12, generator=torch.Generator().manual_seed(0)))

    def scores(self, x: Tensor) -> Tensor:
        logits = 20 * self.network(x.flatten(1))
        return logits.softmax(1) if self.softmax else logits


def distances(softmax: bool, attack: str, x: Tensor) -> list[float]:
    defense = Saturated(softmax)
    y = defense.scores(x).argmax(1)
    return [present(row.distance) for row in arena.play(defense, arena.load_attack(attack), x, y)]


@pytest.mark.parametrize("attack", ["deepfool-l2", "ddn", "fmn-l2", "apgd-ce-linf", "carlini-wagner", "ead"])
def test_probabilities_cost_an_attack_nothing(attack: str) -> None:
    x = torch.rand(6, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    assert distances(True, attack, x) == pytest.approx(distances(False, attack, x), rel=0.1)


def test_logits_stay_as_they_are_and_probabilities_keep_their_order() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(2))
    assert unsaturated(logits) is logits and not are_probabilities(logits)
    probabilities = (50 * logits).softmax(1)
    assert are_probabilities(probabilities)
    assert torch.equal(unsaturated(probabilities).argmax(1), probabilities.argmax(1))
    assert bool(unsaturated(probabilities).isfinite().all())


def test_what_is_remembered_is_what_the_referee_will_hear_and_a_spent_row_is_answered_alike() -> None:
    defense = Saturated()
    x = torch.rand(8, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    y = defense.scores(x).argmax(1)
    log = QueryLog(x, y, "l2", budget=2)
    target, first = Target(defense, log, "gradient"), torch.tensor([0])
    target.scores(x[:1], first)
    target.scores(x[:1], first)
    images = (1 - x).requires_grad_()
    heard = target.scores(images).detach()
    fooled = log.seen.distance.isfinite()
    assert bool(fooled[1:].any()) and not fooled[0]
    seen = evaluate(defense, log.seen.images[fooled])
    assert torch.allclose(log.seen.margin[fooled], margin(seen, y[fooled]))
    torch.testing.assert_close(heard, unsaturated(evaluate(defense, torch.cat([x[:1], 1 - x[1:]]))))
