"""Losses of logits, by values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from arena.toolbox import targeted_dlr

HAND = {  # logits, the label being the first and the aim the last: the loss
    (6.0, 4.0, 3.0, 1.0): -5 / (6 - 2),
    (6.0, 4.0, 1.0): -5 / (6 - 1),
    (6.0, 1.0): -5.0,
}


@pytest.mark.parametrize("logits", HAND, ids=len)
def test_the_targeted_dlr_is_that_of_equation_7(logits: tuple[float, ...]) -> None:
    scores = torch.tensor([logits])
    label, aim = torch.tensor([0]), torch.tensor([len(logits) - 1])
    assert targeted_dlr(scores, label, aim).item() == pytest.approx(HAND[logits])
