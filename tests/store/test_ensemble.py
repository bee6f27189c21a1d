"""The fewest attacks that suffice, held against trying all sets, and what leaving one out costs."""

import json
import math
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from stores import attack, defense, open_match, record

from arena.cli import cli
from arena.reporting.ensemble import render
from arena.reporting.text import Format
from arena.store.ensemble import cover, ensembles
from arena.store.store import open_store

SEED = st.integers(0, 10_000)


@given(SEED, st.integers(1, 7), st.integers(1, 12), st.floats(0.1, 1))
def test_no_fewer_attacks_and_no_cheaper_ones_suffice(seed: int, attacks: int, samples: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    reaches = rng.random((attacks, samples)) < 0.4
    costs = rng.random(attacks)
    needed = math.ceil(share * reaches.any(axis=0).sum())
    if needed == 0:
        return
    chosen, least = cover(reaches, needed, costs.tolist())
    sets = [list(of) for size in range(attacks + 1) for of in combinations(range(attacks), size)]
    enough = [of for of in sets if reaches[of].any(axis=0).sum() >= needed]
    best = min(enough, key=lambda of: (len(of), costs[of].sum()))
    assert reaches[chosen].any(axis=0).sum() >= needed
    assert chosen.sum() == len(best) == least
    assert costs[chosen].sum() == pytest.approx(costs[best].sum())


def test_a_search_that_is_cut_off_gives_a_cover_and_a_bound_that_holds() -> None:
    rng = np.random.default_rng(0)
    reaches = rng.random((40, 600)) < 0.2
    chosen, least = cover(reaches, 560, [1.0] * 40, limit=0.01)
    assert reaches[chosen].any(axis=0).sum() >= 560 and 1 <= least <= chosen.sum()
    assert chosen.sum() <= 20  # greedy takes no more


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four attacks on ten samples that were found: only `far` reaches 0 to 7 and only `near` 8 and 9."""
    path = tmp_path / "arena.db"
    distances = {
        "far": [1.0] * 8 + [2.0] * 2,
        "near": [3.0] * 8 + [1.0] * 2,
        "twin": [1.005] * 7 + [3.0] + [2.0] * 2,
        "weak": [4.0] * 10,
    }
    seconds = {"far": 2.0, "near": 1.0, "twin": 0.5, "weak": 1.5}
    with closing(open_store(str(path))) as store:
        for name, of in distances.items():
            rows = [record(sample, distance=distance, seconds=seconds[name]) for sample, distance in enumerate(of)]
            rows += [record(10, "misclassified"), record(11, "not_found")]
            store.append(open_match(store, defense(), attack(name)), rows)
    return path


def test_what_suffices_and_what_leaving_each_out_costs(path: Path) -> None:
    with closing(open_store(str(path))) as store, store.reading() as connection:
        (found,) = ensembles(connection)
    assert (found.samples, found.reached, found.least) == (10, 10, 2)  # neither the misclassified nor the never found
    members = {of.attack: (of.chosen, of.reached, of.lost, of.worst) for of in found.members}
    assert members == {
        "far": (True, 8, 8, 3.0),
        "near": (True, 2, 2, 2.0),
        "twin": (False, 7, 0, 1.0),
        "weak": (False, 0, 0, 1.0),
    }
    assert [of.attack for of in found.chosen] == ["far", "near"]
    assert (found.seconds, found.all_seconds) == pytest.approx((3 * 10 / 12, 5 * 10 / 12))  # two samples took none


def test_one_percent_of_the_samples_may_be_missed() -> None:
    with closing(open_store("sqlite://")) as store:
        for name, of in (("most", [1.0] * 99 + [2.0]), ("rest", [9.0] * 99 + [1.0])):
            rows = [record(sample, distance=distance) for sample, distance in enumerate(of)]
            store.append(open_match(store, defense(), attack(name)), rows)
        with store.reading() as connection:
            (found,) = ensembles(connection)
    assert [of.attack for of in found.chosen] == ["most"] and (found.reached, found.samples) == (99, 100)


def test_the_command_tells_people_the_chosen_and_programs_all(path: Path) -> None:
    def arena(*options: str) -> str:
        result = CliRunner().invoke(cli, ["ensemble", "--db", str(path), *options])
        assert result.exit_code == 0, result.output
        return result.output

    text = arena()
    assert "2 of 4 attacks come within 1% of the closest on 10 of 10 samples, in 60% of the time; no fewer do." in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith(" ") and "x" in line] == ["far", "near"]
    rows = json.loads(arena("--format", "json"))
    assert [(row["attack"], row["chosen"], row["lost"]) for row in rows][:3] == [
        ("far", True, 8),
        ("near", True, 2),
        ("twin", False, 0),
    ]
    assert len(arena("--format", "csv").splitlines()) == 5
    assert "| L2 | cnn | near | 0.833 | 2 | 2 | 2 x |" in arena("--format", "markdown")
    assert r"$L_2$ & cnn & far & 1.67 & 8 & 8 & 3 x \\" in arena("--format", "latex")


@pytest.mark.parametrize(("form", "text"), [("table", "no adversarials"), ("json", "[]"), ("csv", "")])
def test_without_adversarials(form: Format, text: str) -> None:
    assert render([], form) == text
