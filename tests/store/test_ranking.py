"""Which attack matters: optimality, samples that only one broke, distance against queries."""

import json
import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from stores import attack, defense, open_match, record
from typed import present

from arena.cli import cli
from arena.reporting.curves import accuracy_curve
from arena.store import ranking
from arena.store.store import Store, open_store

distances = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.5, 2.5, math.inf])
of_two_attacks = st.lists(st.tuples(distances, distances), min_size=1, max_size=8).map(
    lambda pairs: np.array([[0, 0] if 0 in pair else pair for pair in pairs]).T  # misclassified for both
)


def area(values: np.ndarray, epsilon: float) -> float:
    """Under the curve of accuracy against perturbation size, from 0 to epsilon."""
    at, accuracy = accuracy_curve(values)
    ends = np.append(at[1:], math.inf).clip(max=epsilon)
    return float(np.sum(accuracy * (ends - at.clip(max=epsilon))))


@given(of_two_attacks)
def test_optimality_is_the_area_between_the_curves_over_that_of_an_attack_that_finds_nothing(pair: np.ndarray) -> None:
    best = pair.min(axis=0)
    assume(len(set(best[np.isfinite(best) & (best > 0)])) > 1)
    epsilon = best[np.isfinite(best)].max()
    nothing = np.where(best > 0, math.inf, 0)
    for of in pair:
        lost = (area(of, epsilon) - area(best, epsilon)) / (area(nothing, epsilon) - area(best, epsilon))
        assert ranking.optimality(of, best) == pytest.approx(1 - lost)


@given(of_two_attacks)
def test_optimality_is_a_share_and_the_best_has_all_of_it(pair: np.ndarray) -> None:
    best = pair.min(axis=0)
    assert ranking.optimality(best, best) in (1, None)
    for of in pair:
        found = ranking.optimality(of, best)
        assert found is None or 0 <= found <= 1


@pytest.mark.parametrize(
    ("of", "best", "expected"),
    [
        ([1, math.inf], [1, math.inf], 1),
        ([math.inf, 2], [1, 2], 0),  # the sample at epsilon_0 adds nothing
        ([1, 1.5, 2], [1, 1, 2], 0.75),
        ([2, 1], [1, 1], 0.5),  # all broken at the same distance
        ([math.inf, math.inf], [1, 1], 0),
        ([math.inf], [math.inf], None),
        ([0, 0], [0, 0], None),  # all misclassified
        ([], [], None),
    ],
)
def test_optimality_of_known_cases(of: list[float], best: list[float], expected: float | None) -> None:
    assert ranking.optimality(np.array(of, float), np.array(best, float)) == expected


def test_unique_counts_what_no_other_attack_broke() -> None:
    broken = {"a": np.array([1, 2, 5]), "b": np.array([2]), "c": np.array([5, 7, 8])}
    assert ranking.unique(broken) == {"a": 1, "b": 0, "c": 2}


def test_the_curve_is_the_median_distance_that_so_many_queries_reach(store: Store) -> None:
    rows = [
        replace(record(0, distance=1.0, progress=[[3, 4.0], [7, 1.0]]), queries=20, gradient_queries=10),
        replace(record(1, distance=2.0, progress=[[5, 3.0]]), queries=12),  # returned a closer one, unasked
        record(2, "misclassified"),
        record(3, "not_found"),
        record(4, "error"),
    ]
    store.append(open_match(store), rows)
    every, best = store.leaderboard(curves=True)
    # Sorted at each count: misclassified 0, samples 0 and 1, not found.
    expected = {1: math.inf, 2: math.inf, 5: 3.5, 10: 2.0, 20: 1.5, 30: 1.5}
    assert every.curve == list(expected.items())
    assert every.curve[-1][1] == every.median_distance
    assert best.curve is None
    assert store.leaderboard()[0].curve is None


def test_progress_that_the_referee_refuted_counts_no_closer_than_what_held(store: Store) -> None:
    store.append(open_match(store), [record(0, distance=2.0, progress=[[1, 0.5]])])
    assert present(store.leaderboard(curves=True)[0].curve)[-1] == (10, 2.0)


def test_the_same_attack_in_two_settings_runs_side_by_side_and_costs_both(store: Store) -> None:
    store.append(open_match(store, attack=attack(steps=1)), [record(0, distance=2.0, progress=[[2, 2.0]], seconds=1.0)])
    store.append(open_match(store, attack=attack(steps=2)), [record(0, distance=1.0, progress=[[9, 1.0]], seconds=3.0)])
    (row,) = store.leaderboard(by="attack", curves=True)
    assert row.curve == [(1, math.inf), (2, 2.0), (5, 2.0), (10, 1.0)]
    rank = present(row.rank)
    assert (rank.median_queries, rank.median_seconds, rank.unique) == (20, 4.0, 1)


@pytest.mark.parametrize(
    ("options", "has"),
    [([], True), (["--by", "match"], True), (["--by", "defense"], False), (["--by", "attack"], False)],
)
def test_json_by_match_has_the_curve(tmp_path: Path, options: list[str], has: bool) -> None:
    url = f"sqlite:///{tmp_path / 'arena.db'}"
    with closing(open_store(url)) as store:
        store.append(open_match(store), [record(0, progress=[[2, 1.0]])])
    answer = CliRunner().invoke(cli, ["leaderboard", "--db", url, "--format", "json", *options])
    assert answer.exit_code == 0
    first = json.loads(answer.stdout)[0]
    assert first.get("curve") == ([[1, "inf"], [2, 1.0], [5, 1.0], [10, 1.0]] if has else None)
    assert ("optimality" in first) == (options == ["--by", "attack"])


def test_an_attack_is_ranked_on_the_samples_it_was_played_on(store: Store) -> None:
    store.append(open_match(store), [record(n, distance=1.0 + n) for n in range(4)])
    store.append(open_match(store, attack=attack("fgm")), [record(0, distance=1.0), record(1, distance=3.0)])
    # fgm's samples: the best are 1 and 2, epsilon_0 is 2.
    optimality = {row.attack: present(row.rank).optimality for row in store.leaderboard(by="attack")}
    assert optimality == {"boundary": 1, "fgm": 1}
    store.append(open_match(store, defense("abs")), [record(0)])
    assert [row.defense for row in store.leaderboard(by="attack")] == ["abs", "cnn", "cnn"]
