"""The leaderboard's numbers, held against a plain-Python oracle and against the views of the same name."""

import math
import sys
from collections import defaultdict
from contextlib import closing
from dataclasses import asdict, fields
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from stores import attack, bound, defense, open_match, record, store_bounds
from typed import present

from arena.errors import UserError
from arena.geometry.norms import NORMS
from arena.interface.results import Identity, Status
from arena.reporting.columns import render
from arena.store.engine import reading, writing
from arena.store.leaderboard import Bracket, LeaderboardRow
from arena.store.store import Store, open_store

DEFENSES = (defense("cnn", "a"), defense("cnn", "b"), defense("nearest-neighbor"))
ATTACKS = (
    attack("boundary", "l2", 1),
    attack("boundary", "l2", 2),
    attack("fgm", "l2"),
    attack("fgsm", "linf"),
    attack("ead", "l1"),
)
EPSILON = {"l0": 12, "l2": 1.5, "linf": 0.3}  # L1 has none

# Few values, so that ties and distances of exactly epsilon come up, and those of a ball of float32(0.3).
distances = st.sampled_from([0.1, 0.3, float(np.float32(0.3)), 0.9, 1.5, 2.5, 12.0, 13.0])
rows = st.builds(
    lambda sample, status, fragile, *norms: (sample, status, dict(zip(NORMS, norms, strict=True)), fragile),
    st.integers(0, 4),
    st.sampled_from(["found", *Status]),
    st.sampled_from([None, False, True]),
    *(distances for _ in NORMS),
)
units = st.tuples(
    st.sampled_from(DEFENSES),
    st.sampled_from(ATTACKS),
    st.sampled_from([{"seed": 0}, {"seed": 1}, {"split": "train"}]),
    st.lists(rows, max_size=5, unique_by=lambda row: row[0]),
)
Row = tuple[int, str, dict[str, float], bool | None]  # sample, status, distance by norm, fragile
Tournament = list[tuple[Identity, Identity, dict[str, Any], list[Row]]]  # defense, attack, conditions, outcomes
Board = dict[tuple[str, str, str], tuple[Any, ...]]

tournaments = st.lists(units, min_size=1, max_size=8, unique_by=lambda unit: str(unit[:3]))


def play(store: Store, tournament: Tournament) -> None:
    for which, how, conditions, outcomes in tournament:
        norm = present(how.norm)
        records = [
            record(sample, status, norms[norm], **({**norms, "fragile": fragile} if status == "found" else {}))
            for sample, status, norms, fragile in outcomes
        ]
        store.append(open_match(store, which, how, **conditions), records)


def oracle(tournament: Tournament, cross_norm: bool = False) -> Board:
    """By (defense, norm, attack): samples, errors, clean accuracy, median, accuracy, fingerprint, fragile, unstable."""
    latest = {which.name: which for which, *_ in tournament}
    split = tournament[-1][2].get("split")
    found: dict[tuple[str, str, str], dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    errors: dict[tuple[str, str, str], int] = defaultdict(int)
    for which, how, conditions, outcomes in tournament:
        if latest[which.name] != which or conditions.get("split") != split:
            continue
        for sample, status, norms, fragile in outcomes:
            for norm in NORMS if cross_norm else [present(how.norm)]:
                for name in (how.name, "all"):
                    key = (which.name, norm, name)
                    of_sample = found[key]
                    if status == "error":
                        errors[key] += 1
                    else:
                        distance = {"found": norms[norm], "misclassified": 0, "unstable": None}.get(status, math.inf)
                        of_sample[sample].append((distance, status == "found" and fragile is True))
    board: Board = {}
    for key, of_sample in found.items():
        closest, unstable, samples = [], 0, len(of_sample)
        for pairs in of_sample.values():
            best = min((pair for pair in pairs if pair[0] is not None), default=(math.inf, False))
            if best[0] == math.inf and (None, False) in pairs:
                unstable += 1
            else:
                closest.append(best)  # of equally close ones the solid
        values = [distance for distance, _ in closest]
        middle = median(values) if values else None
        clean = (unstable + sum(value > 0 for value in values)) / samples if samples else None
        epsilon, accuracy = EPSILON.get(key[1]), None
        if samples and epsilon is not None:
            accuracy = sum(value > epsilon * (1 + 1e-6) for value in values) / samples
        fingerprint = latest[key[0]].fingerprint
        fragile = sum(of for _, of in closest)
        board[key] = (samples, errors[key], clean, middle, accuracy, fingerprint, fragile, unstable)
    return board


def keyed(rows: list[dict[str, Any]]) -> Board:
    board = {
        (row["defense"], row["norm"], row["attack"]): (
            *(row["samples"], row["errors"], row["clean_accuracy"], row["median_distance"], row["accuracy"]),
            *(row["fingerprint"], row["fragile"], row["unstable"]),
        )
        for row in rows
    }
    assert len(board) == len(rows)
    return board


def flat(row: LeaderboardRow) -> dict[str, Any]:
    """A row with the fields of its bracket among its own, as the view has them."""
    blank = dict.fromkeys(field.name for field in fields(Bracket))
    return asdict(row) | (asdict(row.bracket) if row.bracket else blank)


def view(store: Store, name: str) -> list[dict[str, Any]]:
    with reading(store._engine) as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]


@given(tournaments)
def test_api_view_and_oracle_agree(tournament: Tournament) -> None:
    store = open_store("sqlite://")
    play(store, tournament)
    rows = [flat(row) for row in store.leaderboard()]
    assert keyed(rows) == oracle(tournament)
    in_view = view(store, "leaderboard")
    assert sorted(in_view, key=str) == sorted(
        [{k: row[k] for k in in_view[0]} for row in rows] if rows else [], key=str
    )
    store.close()


@given(tournaments)
def test_cross_norm_counts_every_adversarial_in_all_norms(tournament: Tournament) -> None:
    store = open_store("sqlite://")
    play(store, tournament)
    assert keyed([asdict(row) for row in store.leaderboard(cross_norm=True)]) == oracle(tournament, cross_norm=True)
    store.close()


@given(tournaments)
def test_best_result_is_the_closest_of_each_sample(tournament: Tournament) -> None:
    store = open_store("sqlite://")
    play(store, tournament)
    counted = [row for row in store.results() if row["status"] != "error"]
    best: dict[tuple[str, str, int], dict[str, Any]] = {}

    def closeness(row: dict[str, Any]) -> float:
        return sys.float_info.max if row["status"] == "unstable" else row["distance"]

    for row in sorted(counted, key=lambda row: (closeness(row), row["match_id"])):
        best.setdefault((row["defense"], row["norm"], row["sample"]), row)
    names = ("attack", "distance", "status", "match_id")
    seen = {(row["defense"], row["norm"], row["sample"]): [row[n] for n in names] for row in view(store, "best_result")}
    assert seen == {key: [row[name] for name in names] for key, row in best.items()}
    store.close()


@pytest.fixture
def store(store: Store) -> Store:
    for which, distance in ((defense("cnn"), 1.0), (defense("abs"), 2.0)):
        store.append(open_match(store, which), [record(0, distance=distance), record(1, "misclassified")])
        store.append(open_match(store, which, attack("fgm")), [record(0, distance=distance / 2), record(1, "error")])
        store.append(open_match(store, which, attack("deepfool")), [record(0, "error")])
        store.append(open_match(store, which, attack("fgsm", "linf")), [record(0, "not_found")])
    return store


def names(rows: list[LeaderboardRow]) -> list[tuple[str, ...]]:
    return [(row.norm, row.defense, row.attack) for row in rows]


def test_by_match_lists_the_strongest_attack_first_and_all_last(store: Store) -> None:
    # Medians tie: against abs fgm leaves the lower accuracy, against cnn names decide. deepfool has no result.
    of_abs = [("l2", "abs", name) for name in ("fgm", "boundary", "deepfool", "all")]
    of_cnn = [("l2", "cnn", name) for name in ("boundary", "fgm", "deepfool", "all")]
    linf = [("linf", which, name) for which in ("abs", "cnn") for name in ("fgsm", "all")]
    assert names(store.leaderboard()) == of_abs + of_cnn + linf
    assert names(store.leaderboard(norm="linf")) == linf


def test_by_defense_lists_the_most_robust_first_against_all_attacks(store: Store) -> None:
    board = store.leaderboard(by="defense", norm="l2")
    assert names(board) == [("l2", "abs", "all"), ("l2", "cnn", "all")]
    assert [row.median_distance for row in board] == [0.5, 0.25]


def test_by_attack_ranks_the_attacks_on_each_defense(store: Store) -> None:
    board = store.leaderboard(by="attack", norm="l2")
    # fgm halves boundary's distance; deepfool has no result.
    assert names(board) == [("l2", d, a) for d in ("abs", "cnn") for a in ("fgm", "boundary", "deepfool")]
    ranks = [present(row.rank) for row in board]
    assert [rank.optimality for rank in ranks[:3]] == [1, 0, None]
    assert [rank.unique for rank in ranks] == [1, 0, 0, 0, 0, 0]  # boundary's 2.0 is beyond 1.5, its 1.0 is not
    assert [(rank.median_queries, rank.median_seconds) for rank in ranks[:3]] == [(10, 0), (10, 0), (None, None)]


def test_an_attack_that_only_failed_is_listed_with_its_errors(store: Store) -> None:
    (row,) = [row for row in store.leaderboard() if (row.defense, row.attack) == ("cnn", "deepfool")]
    assert (row.samples, row.errors) == (0, 1)
    assert row.clean_accuracy is row.median_distance is row.accuracy is None


def test_an_unstable_sample_is_never_robust() -> None:
    with closing(open_store("sqlite://")) as store:
        shaky, firm = defense("no-eval"), defense("cnn")
        store.append(open_match(store, shaky), [record(n, "unstable") for n in range(4)] + [record(4, "not_found")])
        store.append(open_match(store, shaky, attack("fgm")), [record(0, "not_found"), record(1, distance=2.0)])
        store.append(open_match(store, firm), [record(n, distance=2.0) for n in range(4)] + [record(4, "not_found")])
        best, second = store.leaderboard(by="defense")
        assert (best.defense, best.accuracy, best.unstable) == ("cnn", 1.0, 0)
        # Of its five samples one was broken beyond 1.5, one held; three gave way and have no distance.
        assert (second.samples, second.unstable, second.accuracy) == (5, 3, 0.4)
        assert second.median_distance == math.inf and second.clean_accuracy == 1.0
        rows = [row for row in store.leaderboard(by="attack") if row.defense == "no-eval"]
        ranks = {row.attack: present(row.rank).optimality for row in rows}
        assert ranks == {"boundary": 0, "fgm": 1}
        curves = {row.attack: row.curve for row in store.leaderboard(curves=True) if row.defense == "no-eval"}
        assert present(curves["boundary"])[-1] == (10, math.inf)


def test_a_ball_of_epsilon_in_float32_is_within_epsilon() -> None:
    ball = float(np.float32(0.3))
    assert ball > 0.3
    with closing(open_store("sqlite://")) as store:
        rows = [record(0, distance=ball), record(1, distance=0.3 * (1 + 2e-6))]
        store.append(open_match(store, attack=attack("fgsm", "linf")), rows)
        assert [row.accuracy for row in store.leaderboard()] == [0.5, 0.5]
        assert [row["accuracy"] for row in view(store, "leaderboard")] == [0.5, 0.5]
        assert present(store.leaderboard(by="attack")[0].rank).unique == 1


def test_thresholds_come_from_the_table_or_the_caller(store: Store) -> None:
    assert {row.norm: row.epsilon for row in store.leaderboard()} == {"l2": 1.5, "linf": 0.3}
    at_half = {(row.defense, row.attack): row.accuracy for row in store.leaderboard("l2", thresholds={"l2": 0.5})}
    assert at_half["cnn", "fgm"] == 0
    assert at_half["abs", "fgm"] == 1
    with writing(store._engine) as connection:
        connection.execute(text("UPDATE threshold SET epsilon = 0.5 WHERE norm = 'l2'"))
    assert {(row.defense, row.attack): row.accuracy for row in store.leaderboard("l2")} == at_half
    in_view = {
        (row["defense"], row["attack"]): row["accuracy"] for row in view(store, "leaderboard") if row["norm"] == "l2"
    }
    assert in_view == at_half


def test_a_norm_without_a_threshold_has_distances_but_no_accuracy(store: Store) -> None:
    with writing(store._engine) as connection:
        connection.execute(text("DELETE FROM threshold WHERE norm = 'l2'"))
    rows = store.leaderboard("l2", by="attack")
    assert {(row.defense, row.attack): row.median_distance for row in rows}["cnn", "fgm"] == 0.5
    assert {(row.epsilon, row.accuracy, present(row.rank).unique) for row in rows} == {(None, None, None)}
    assert "acc" not in render(rows, "table") and "acc" not in render(rows, "markdown")


def test_lower_bounds_are_averaged_by_defense_and_norm(store: Store) -> None:
    store_bounds(store, {0: 0.25, 1: 0.0}, norm="l2")
    store_bounds(store, {0: 0.1}, norm="linf")
    store_bounds(store, {0: 9.0, 1: 9.0}, norm="l2", by=bound("chance"), kind="statistical")  # which may fail
    expected = {("abs", "l2"): None, ("abs", "linf"): None, ("cnn", "l2"): 0.125, ("cnn", "linf"): 0.1}
    means = {
        (row.defense, row.norm, row.attack): row.bracket and row.bracket.lower_bound_mean for row in store.leaderboard()
    }
    assert {(defense, norm): mean for (defense, norm, attack), mean in means.items() if attack == "all"} == expected
    in_view = view(store, "leaderboard")
    assert {(row["defense"], row["norm"], row["attack"]): row["lower_bound_mean"] for row in in_view} == means


def test_going_back_to_earlier_weights_counts_their_results_again(store: Store) -> None:
    assert {row.fingerprint for row in store.leaderboard() if row.defense == "cnn"} == {"cnn a"}
    store.append(open_match(store, defense("cnn", "b")), [record(0)])
    assert {row.fingerprint for row in store.leaderboard() if row.defense == "cnn"} == {"cnn b"}
    open_match(store, defense("cnn", "a"))
    assert {row.fingerprint for row in store.leaderboard() if row.defense == "cnn"} == {"cnn a"}


@pytest.mark.parametrize("wrong", [{"norm": "l3"}, {"by": "sample"}])
def test_an_unknown_choice_names_the_known_ones(store: Store, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"choose one of (l0|match)"):
        store.leaderboard(**wrong)


def test_samples_whose_gradients_were_masked_are_counted_once(store: Store) -> None:
    for name in ("ddn", "fgm"):
        rows = [record(0, "not_found", masked=3), record(1, masked=0 if name == "fgm" else 1), record(2)]
        store.append(open_match(store, defense("flat"), attack(name)), rows)
    counts = {row.attack: row.masked for row in store.leaderboard() if row.defense == "flat"}
    assert counts == {"ddn": 2, "fgm": 1, "all": 2}
