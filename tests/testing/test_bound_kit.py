"""The kit passes bounds that hold, and names what is wrong with those that do not."""

from typing import Any

import pytest
import torch
from torch import Tensor

import arena
from arena.geometry.norms import NORMS, Norm
from arena.interface.registry import registry
from arena.testing import LinearDefense, ReluDefense, check_bound

GENERATOR = torch.Generator()


class Known(arena.Bound):
    """What is known of linear defenses, times a factor."""

    name, norms, kind, factor = "known", NORMS, "certificate", 0.9

    def refusal(self, defense: arena.Defense, shape: tuple[int, ...]) -> str | None:
        return None if isinstance(defense, LinearDefense) else "it is not linear"

    def run(self, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        assert isinstance(defense, LinearDefense | ReluDefense)
        return self.factor * defense.minimal_distance(norm, x)


def failed(bound: type[Any]) -> set[tuple[str, str]]:
    report = check_bound(bound)
    return {(finding.check, finding.message) for finding in report.findings if not finding.passed}


def test_a_bound_that_holds_passes() -> None:
    report = check_bound(Known())
    assert report.ok, str(report)
    assert "median 0.9 x the minimal distance" in str(report)


# These are held against known distances in test_lower_bounds.py, test_programs.py and test_relaxation.py.
ELSEWHERE = ("joint", "exact", "linear-relaxation")


@pytest.mark.parametrize(
    "name", [name for kind, name in registry().plugins if kind == "bound" and name not in ELSEWHERE]
)
def test_so_do_those_that_ship(name: str) -> None:
    report = check_bound(arena.load_bound(name))
    assert report.ok, str(report)


def test_one_above_the_minimal_distance_fails() -> None:
    assert {check for check, _ in failed(type("High", (Known,), {"factor": 1.01}))} == {"sound"}
    one_norm = {"run": lambda self, defense, x, y, norm, rng: (1 + (norm == "l1")) * defense.minimal_distance(norm, x)}
    found = failed(type("HighInL1", (Known,), one_norm))
    assert {check for check, _ in found} == {"sound"}
    assert all("l1: above the minimal distance" in message for _, message in found)


def test_one_that_is_zero_everywhere_is_weak() -> None:
    report = check_bound(type("Zero", (Known,), {"factor": 0.0}))
    assert report.ok and "weak: linear, l2: zero everywhere" in str(report)


def test_a_bound_for_networks_is_held_against_one_that_bends() -> None:
    high = {"factor": 1.01, "refusal": lambda self, defense, shape: None if defense.name == "relu" else "not a network"}
    found = failed(type("High", (Known,), high))
    assert {check for check, _ in found} == {"sound"} and len(found) == len(NORMS)


def forgetting(self: Known, defense: arena.Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
    return torch.rand(len(x), dtype=torch.float64, generator=GENERATOR) * 1e-3


def of_the_batch(self: Known, defense: LinearDefense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
    return defense.minimal_distance(norm, x) / len(x)


@pytest.mark.parametrize(
    ("wrong", "check", "message"),
    [
        ({"run": forgetting}, "reproducible", "two equal runs differ"),
        ({"run": of_the_batch}, "rows", "alone / in a batch differ"),
        ({"run": lambda self, defense, x, y, norm, rng: x.double().sum()}, "runs", "not float64 [6]"),
        ({"run": lambda self, defense, x, y, norm, rng: 1 / 0}, "runs", "ZeroDivisionError"),
        ({"refusal": lambda self, defense, shape: "it is\nnot linear"}, "refusal", "give a reason of one line"),
        ({"refusal": lambda self, defense, shape: False}, "refusal", "give a reason of one line"),
        ({"refusal": lambda self, defense, shape: "it is not deep"}, "applies", "refuses every opponent"),
        ({"norms": ("l3",)}, "declaration", "norms = ('l3',)"),
        ({"kind": "sure"}, "declaration", "kind = 'sure'"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], check: str, message: str) -> None:
    found = {said for of, said in failed(type("Wrong", (Known,), wrong)) if of == check}
    assert found and all(message in said for said in found)
