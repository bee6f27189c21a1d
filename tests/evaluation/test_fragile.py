"""Adversarials that exist only because the defense's inference had not converged: the referee says so."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from typed import Batch, present

import arena
from arena.errors import PluginError
from arena.interface.contracts import Converges
from arena.testing import LinearDefense, check_defense
from arena.toolbox.search import walk_back
from arena.toolbox.starts import nearest_other

LAG = 0.3


class Lagging(LinearDefense):
    """Its search comes short by LAG for the class that explains the image best: runners-up that close win."""

    def scores_cut_short(self, x: Tensor) -> Tensor:
        scores = LinearDefense.scores(self, x)
        return scores.scatter_add(1, scores.argmax(1, keepdim=True), torch.full((len(x), 1), -LAG))

    scores = scores_cut_short

    def converged_scores(self, x: Tensor) -> Tensor:
        return super().scores(x)


class Approach(arena.Attack):
    """From the nearest image of another class as near to the boundary as bisection comes."""

    name, norm, access = "approach", "l2", "decision"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        target.labels(nearest_other(x, y))
        return walk_back(target, x, y)


class Invert(arena.Attack):
    name, norm, access = "invert", "l2", "decision"

    def run(self, target: arena.Target, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        return 1 - x


@pytest.fixture
def batch() -> Batch:
    """Images whose label no lag can change, and their labels."""
    x, _ = LinearDefense(classes=4).sample_images(60, seed=1)
    scores = LinearDefense(classes=4).scores(x)
    best = scores.topk(2).values
    sure = best[:, 0] - best[:, 1] > LAG
    return x[sure], scores.argmax(1)[sure]


@pytest.mark.parametrize(("attack", "most"), [(Approach(), True), (Invert(), False)], ids=["near", "far"])
def test_what_converged_inference_undoes_is_fragile(batch: Batch, attack: Approach | Invert, most: bool) -> None:
    records = arena.play(Lagging(classes=4), attack, *batch)
    assert all(record.status == "found" and present(record.margin) > 0 for record in records)
    converged = LinearDefense(classes=4).scores(torch.stack([torch.from_numpy(r.adversarial) for r in records]))
    assert [record.fragile for record in records] == (converged.argmax(1) == batch[1]).tolist()
    assert (sum(present(record.fragile) for record in records) > len(records) / 2) == most


def test_asking_costs_the_attack_nothing(batch: Batch) -> None:
    class Silent(LinearDefense):
        scores = Lagging.scores_cut_short

    asked, silent = (arena.play(defense(classes=4), Approach(), *batch) for defense in (Lagging, Silent))
    assert [record.queries for record in asked] == [record.queries for record in silent]
    assert {record.fragile for record in silent} == {None} and asked[0].fragile is not None


def test_only_what_was_found_is_asked_about(batch: Batch) -> None:
    x, y = batch
    asked = []

    class Counting(Lagging):
        batch_size = 3

        def converged_scores(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            return super().converged_scores(x)

    wrong = torch.cat([(y[:1] + 1) % 4, y[1:8]])
    records = arena.play(Counting(classes=4), Approach(), x[:8], wrong)
    assert records[0].status == "misclassified" and records[0].fragile is None
    assert asked == [3, 3, 1]
    asked.clear()
    nothing = arena.play(Counting(classes=4), Approach(), x[:1], y[:1])  # no image of another class to start from
    assert nothing[0].status == "not_found" and nothing[0].fragile is None and not asked


def test_converged_scores_that_are_no_numbers_are_the_defenses_fault(batch: Batch) -> None:
    class Broken(Lagging):
        def converged_scores(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 4), math.nan)

    with pytest.raises(PluginError, match="linear.*not finite"):
        arena.play(Broken(classes=4), Invert(), *batch)


@pytest.mark.parametrize(
    ("converged", "passes"),
    [(lambda self, x: LinearDefense.scores(self, x), True), (lambda self, x: x.flatten(1)[:, :1], False)],
)
def test_the_kit_looks_at_converged_scores(converged: Callable[[Lagging, Tensor], Tensor], passes: bool) -> None:
    report = check_defense(type("Checked", (Lagging,), {"gradient": "none", "converged_scores": converged}))
    assert report.ok == passes
    assert [finding.passed for finding in report.findings if finding.check == "converged"] == [passes]


@pytest.mark.parametrize("name", ["abs", "binary-abs"])
def test_converged_inference_explains_at_least_as_well(name: str, mnist: Batch) -> None:
    x = mnist[0][:1]
    short, long = (arena.load_defense(name, points=100, steps=steps) for steps in (2, 300))
    assert isinstance(short, Converges)
    converged = short.converged_scores(x)
    assert (converged >= short.scores(x)).all() and (converged >= long.scores(x)).all()
    assert (converged - short.scores(x)).max() > 1e-3


def test_abs_without_refinement_has_fragile_adversarials(mnist: Batch) -> None:
    x, y = (part[:3] for part in mnist)
    records = arena.play(arena.load_defense("abs", points=100, steps=1), Approach(), x, y)
    assert {record.status for record in records} == {"found"}
    assert any(record.fragile for record in records)
