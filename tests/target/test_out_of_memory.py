"""A batch that does not fit in memory is answered in halves; results do not show it."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

import arena
from arena.target.logits import evaluate
from arena.target.out_of_memory import split_on_out_of_memory
from arena.testing import LinearDefense


class Cramped(LinearDefense):
    """Has memory for `room` images at once."""

    name = "cramped"
    room = 3

    def scores(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().scores(x)


def test_a_match_goes_on_in_halves_and_its_records_are_the_same() -> None:
    cramped, roomy = Cramped(), LinearDefense()
    x, y = roomy.sample_images(10)
    for name in ("fgm", "pointwise-l0"):
        attack = arena.load_attack(name)
        distances = [[r.distance for r in arena.play(defense, attack, x, y)] for defense in (cramped, roomy)]
        assert distances[0] == distances[1]


def test_one_row_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cramped, "room", 0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        evaluate(Cramped(), torch.zeros(5, 1, 28, 28))


def test_other_errors_are_not_asked_again() -> None:
    asked = []

    def ask(x: Tensor) -> Tensor:
        asked.append(len(x))
        raise RuntimeError("the sizes do not match")

    with pytest.raises(RuntimeError, match="sizes"):
        split_on_out_of_memory(ask, torch.zeros(4, 2))
    assert asked == [4]


@pytest.mark.skipif(sys.platform == "darwin", reason="the limit on memory is not enforced there")
def test_what_torch_really_raises_under_a_limit_is_recognised() -> None:
    program = """
import resource, torch
from arena.target.out_of_memory import split_on_out_of_memory
resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
asked = []
def ask(x):
    asked.append(len(x))
    return torch.empty(len(x), 1 << 28).new_ones(len(x))  # 1 GiB a row
print(len(split_on_out_of_memory(ask, torch.zeros(4, 1))), asked)
"""
    played = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    answered, sizes = played.stdout.split(maxsplit=1)
    assert answered == "4"
    assert sizes.startswith("[4, 2, 1")
