"""Differences between defenses, and how sure their order is."""

import math
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from stores import attack, defense, open_match, record
from typed import present

from arena.errors import UserError
from arena.store.closest import UNSTABLE, Closest
from arena.store.standing import difference, standings
from arena.store.store import Store, open_store


def closest(distances: list[float], first: int = 0) -> Closest:
    samples = np.arange(first, first + len(distances))
    return Closest(samples, np.array(distances, float), np.zeros(len(distances), bool), 0, (1,))


def test_a_difference_is_over_the_samples_that_both_have() -> None:
    found = present(difference(closest([9.0, *[2.0] * 10]), closest([1.0] * 10 + [9.0], first=1), 1.5))
    assert (found.samples, found.median, found.median_interval) == (10, 1.0, (1, 1))
    interval = present(found.accuracy_interval)
    assert found.accuracy == 1.0 and 0.5 < interval.low < 1 == interval.high
    assert difference(closest([1.0]), closest([1.0], first=5), 1.5) is None
    without = present(difference(closest([2.0] * 10), closest([1.0] * 10), None))
    assert without.accuracy is None and without.accuracy_interval is None and without.median == 1


def test_of_samples_that_either_is_unstable_on_the_medians_are_not() -> None:
    found = present(difference(closest([UNSTABLE, *[2.0] * 7]), closest([4.0, *[1.0] * 7]), 1.5))
    assert (found.samples, found.median, found.accuracy) == (8, 1.0, 7 / 8 - 1 / 8)
    never = present(difference(closest([math.inf] * 8), closest([math.inf] * 8), 1.5))
    assert never.median is None and never.median_interval == (-math.inf, math.inf) and never.accuracy == 0


def test_places_are_by_accuracy_then_by_median_and_equals_share_theirs() -> None:
    strong, weak, twin = closest([3.0] * 10), closest([1.0] * 10), closest([1.0] * 10)
    found = map(present, standings([weak, strong, twin], 1.5))
    assert [(of.rank, of.probability, of.first, of.samples) for of in found] == [
        (2, 0.5, 0, 10),
        (1, 1, 1, 10),
        (2, 0.5, 0, 10),
    ]
    by_median = standings([closest([1.0] * 8), closest([1.25] * 8)], 1.5)
    assert [present(of).rank for of in by_median] == [2, 1]


def test_the_probability_is_that_of_the_resamples() -> None:
    """The second is better if a resample of 10 has more of the 6 samples that it holds than of the other 4."""
    mine, yours = closest([2.0] * 4 + [1.0] * 6), closest([1.0] * 4 + [2.0] * 6)
    of_mine, of_yours = map(present, standings([mine, yours], 1.5))
    draws = [math.comb(10, k) * 0.6**k * 0.4 ** (10 - k) for k in range(11)]
    expected = sum(draws[6:]) + draws[5] / 2
    assert of_yours.first == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 1000))
    assert (of_mine.rank, of_yours.rank) == (2, 1) and of_mine.first == pytest.approx(1 - of_yours.first)
    assert of_mine.probability == of_yours.probability == of_yours.first


def test_defenses_of_too_few_samples_have_no_place() -> None:
    few, many, other = closest([9.0] * 4), closest([1.0] * 20), closest([2.0] * 20)
    found = standings([few, many, other], 1.5)
    assert found[0] is None and [(of.rank, of.samples) for of in map(present, found[1:])] == [(2, 20), (1, 20)]
    assert standings([few, many], 1.5) == [None, None] and standings([many], 1.5) == [None]


def test_an_unstable_defense_is_not_the_more_robust() -> None:
    shaky, firm = map(present, standings([closest([UNSTABLE] * 8), closest([0.5] * 8)], 1.5))
    assert (shaky.rank, firm.rank) == (2, 1)


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(open_store("sqlite://")) as store:
        for name, distance in (("abs", 2.0), ("cnn", 1.0)):
            for how in ("fgm", "boundary"):
                rows = [record(sample, distance=distance + (how == "fgm")) for sample in range(8)]
                store.append(open_match(store, defense(name), attack(how)), rows)
        yield store


def test_the_leaderboard_compares_attack_by_attack(store: Store) -> None:
    rows = store.leaderboard(against="cnn")
    assert {(row.defense, row.attack): row.difference and row.difference.median for row in rows} == {
        **{("abs", name): 1.0 for name in ("fgm", "boundary", "all")},
        **{("cnn", name): None for name in ("fgm", "boundary", "all")},
    }
    assert all(row.difference is None and row.standing is None for row in store.leaderboard())
    with pytest.raises(UserError, match="no results of 'cmn': choose one of abs, cnn"):
        store.leaderboard(against="cmn")


def test_defenses_are_ranked_under_all_attacks(store: Store) -> None:
    assert {row.defense: present(row.standing).rank for row in store.leaderboard(by="defense")} == {"abs": 1, "cnn": 2}
