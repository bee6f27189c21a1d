"""Signs of masked gradients are read from what is stored, with the attacks and the samples that show them."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from stores import attack, defense, open_match, record

from arena.interface.contracts import AccessLevel
from arena.store.store import Store, open_store

NEVER = math.inf


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(open_store("sqlite://")) as store:
        yield store


def play(
    store: Store, name: str, access: AccessLevel, distances: list[float], gradients: int = 10, **fields: Any
) -> None:
    """The attack `name` against cnn; distances: of the first samples, 0 for a misclassified one."""
    of = {0: "misclassified", NEVER: "not_found"}
    rows = [
        record(sample, of.get(distance, "found"), distance, gradient_queries=gradients, **fields)
        for sample, distance in enumerate(distances)
    ]
    store.append(open_match(store, defense(), replace(attack(name), access=access)), rows)


def doubts(store: Store) -> list[tuple[Any, ...]]:
    (row,) = store.leaderboard(by="defense")
    return [(of.sign, of.count, of.samples, of.closer, of.than) for of in row.warnings]


def test_a_defense_that_gradients_serve_best_is_not_doubted(store: Store) -> None:
    play(store, "boundary", "decision", [2.0] * 10, 0)
    play(store, "ddn-ge", "score", [2.0] * 10, 0)
    play(store, "fgm", "gradient", [1.5] * 10, 1)
    play(store, "ddn", "gradient", [1.0] * 9 + [NEVER])
    assert doubts(store) == []
    assert "masked" not in str(store.leaderboard(by="defense")[0].warnings)


def test_attacks_without_gradients_that_are_closer(store: Store) -> None:
    play(store, "boundary", "decision", [0, *[0.5] * 8, 2.0], 0)
    play(store, "square-l2", "score", [0, 0.4, *[3.0] * 8], 0)
    play(store, "ddn", "gradient", [0] + [1.0] * 9)
    play(store, "fmn-l2", "gradient", [0, 1.0, *[1.5] * 8])
    play(store, "cutting-plane-l2", "white-box", [0] + [0.1] * 9)  # knows more than gradients tell
    assert doubts(store) == [("no gradients", 8, 9, "boundary", "ddn")]
    (row,) = store.leaderboard(by="defense")
    assert str(row.warnings[0]) == (
        "attacks without gradients are closer than those with them on 8 of 9 samples (most often boundary, than ddn)"
    )
    assert all(not row.warnings for row in store.leaderboard() if row.attack != "all")


def test_one_step_that_is_closer_than_many(store: Store) -> None:
    play(store, "my-fast-attack", "gradient", [0.5] * 8, 1)  # no name says how many steps: the gradients do
    play(store, "bim-l2", "gradient", [1.0] * 8, 2)
    assert doubts(store) == [("one step", 8, 8, "my-fast-attack", "bim-l2")]


def test_estimated_gradients_that_are_closer_than_the_defenses_own(store: Store) -> None:
    play(store, "bim-l2-ge", "score", [0.5] * 8, 0)
    play(store, "bim-l2", "gradient", [1.0] * 8)
    play(store, "ddn", "gradient", [0.1] * 8)
    assert doubts(store) == [("estimated gradients", 8, 8, "bim-l2-ge", "bim-l2")]
    # Of a defense with exact gradients the twin is another.
    exact = defense("nearest-neighbor")
    for name, access, distance in (("fgm-ge", "score", 0.5), ("fgm-exact", "gradient", 1.0)):
        rows = [record(sample, distance=distance) for sample in range(8)]
        store.append(open_match(store, exact, replace(attack(name), access=access)), rows)
    (row,) = [row for row in store.leaderboard(by="defense") if row.defense == exact.name]
    assert [(of.sign, of.closer, of.than) for of in row.warnings][-1] == ("estimated gradients", "fgm-ge", "fgm-exact")


def test_gradient_attacks_that_find_nothing(store: Store) -> None:
    play(store, "ddn", "gradient", [NEVER] * 6 + [1.0] * 4)
    play(store, "fgm", "gradient", [NEVER] * 10, 1)  # along a line nothing may lie
    assert doubts(store) == [("nothing found", 6, 10, None, None)]


def test_zero_gradients_are_told_of_any_sample(store: Store) -> None:
    play(store, "ddn", "gradient", [1.0] * 9)
    store.append(open_match(store, defense(), replace(attack("fgm"), access="gradient")), [record(9, masked=1)])
    assert doubts(store) == [("zero gradients", 1, 10, None, None)]


@pytest.mark.parametrize(
    ("closer", "samples", "told"), [(4, 4, False), (5, 20, False), (6, 20, True), (16, 100, False)]
)
def test_few_samples_are_no_sign(store: Store, closer: int, samples: int, told: bool) -> None:
    """It must be on more than a tenth of the samples: Clopper and Pearson's lower ends of 5 and 6 of 20 are 8.7 and
    11.9 %, of 16 of 100 9.4 %."""
    play(store, "boundary", "decision", [0.5] * closer + [2.0] * (samples - closer), 0)
    play(store, "ddn", "gradient", [1.0] * samples)
    assert bool(doubts(store)) == told


def test_what_is_closer_by_less_than_a_percent_is_as_close(store: Store) -> None:
    play(store, "boundary", "decision", [0.995] * 10, 0)
    play(store, "ddn", "gradient", [1.0] * 10)
    assert doubts(store) == []
