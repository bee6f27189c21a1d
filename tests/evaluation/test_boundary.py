"""An attack that ends on the boundary: rounding decides what it asked about, the referee tries a hair beyond it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import arena
from arena.evaluation.consistency import contradictions
from arena.interface.results import Record, Status
from arena.target.target import Target
from arena.testing import LinearDefense

SHORT = 1e-4  # of the distance


def records_of(defense: LinearDefense, ask: Callable[[Target, Tensor, Tensor], None]) -> list[Record]:
    """Of an attack that asks about images between the clean ones and the nearest on the boundary, and says no more."""
    x, y = defense.sample_images(6)
    other = defense.matrix[1 - y] - defense.matrix[y]
    gap = -(other * x.flatten(1)).sum(1, keepdim=True)
    edge = x + (gap * other / other.square().sum(1, keepdim=True)).view_as(x)

    class Ends(arena.Attack):
        name, norm, access = "ends", "l2", "gradient"

        def run(self, target: Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
            ask(target, x, edge)
            return target.best

    return arena.play(defense, Ends(), x, y)


class Unbounded(LinearDefense):
    """Images far from the border of the box, so that the nearest images on the boundary are inside it."""

    def sample_images(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        x = 0.5 + (super().sample_images(n, seed)[0] - 0.5) / 4
        return x, self.scores(x).argmax(1)


def test_an_attack_that_ends_on_the_boundary_has_found_it() -> None:
    defense = Unbounded()

    def ask(target: Target, x: Tensor, edge: Tensor) -> None:
        for share in (0.0, 0.5, 1 - SHORT, 0.9):
            target.scores(torch.lerp(x, edge, share))
        assert target.best_distance.isinf().all()

    x, _ = defense.sample_images(6)
    optimum = defense.minimal_distance("l2", x)
    for record, least in zip(records_of(defense, ask), optimum.tolist(), strict=True):
        assert record.status == Status.FOUND and record.best_query == 3 and record.progress[0][0] == 3
        assert least < record.distance < least * (1 + 1.1e-3)
        assert not list(contradictions(record, "l2", None))


def test_an_attack_that_ends_short_of_the_boundary_has_not() -> None:
    def ask(target: Target, x: Tensor, edge: Tensor) -> None:
        target.scores(torch.lerp(x, edge, 0.99))

    for record in records_of(Unbounded(), ask):
        assert record.status == Status.NOT_FOUND and record.reason is None


def test_what_fooled_is_kept_where_something_did() -> None:
    def ask(target: Target, x: Tensor, edge: Tensor) -> None:
        target.scores(torch.lerp(x, edge, 1 - SHORT))
        target.scores(torch.lerp(x, edge, 1.1))

    for record in records_of(Unbounded(), ask):
        assert record.status == Status.FOUND and record.best_query == 2
