"""Attacks of libraries, played sample by sample: who pays, what is seeded, what ends, and the search for epsilon."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import arena
from arena.errors import PluginError
from arena.interface.results import Status
from arena.testing import LinearDefense, check_attack

# Written as a third party would: arena.toolbox is reached through `import arena` alone.


class Walk(arena.PerSampleAttack):
    """Along one random direction, in steps of a size that depends on the sample, until the model errs."""

    name, norm, access = "walk", "l2", "score"

    def strike(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        noise = torch.randn_like(x) + numpy.random.rand() + random.random()
        for step in range(1, 200):
            image = (x + 0.02 * step * noise).clamp(0, 1)
            if model(image).argmax(1) != y:
                break
        return image


class Ball(arena.FixedEpsilonAttack):
    """One signed gradient step of length epsilon."""

    name, norm, access = "ball", "linf", "gradient"

    def strike(self, model: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
        gradient = torch.autograd.grad(torch.nn.functional.cross_entropy(model(x.requires_grad_()), y), x)[0]
        return (x + epsilon * gradient.sign()).clamp(0, 1)


@pytest.fixture(scope="module")
def linear() -> LinearDefense:
    return LinearDefense(classes=10)


@pytest.mark.parametrize("attack", [Walk, Ball])
def test_they_keep_the_contract(attack: type[arena.Attack]) -> None:
    report = check_attack(attack)
    assert report.ok, str(report)


def test_each_sample_pays_for_its_own_queries_and_ends_by_itself(linear: LinearDefense) -> None:
    x, y = linear.sample_images(6)
    free = arena.play(linear, Walk(), x, y)
    spent = sorted(record.queries for record in free)
    budget = spent[3]  # enough for some
    paid = arena.play(linear, Walk(), x, y, budget=budget)
    for record, limited in zip(free, paid, strict=True):
        if record.queries <= budget:
            assert limited.distance == record.distance
        else:
            assert limited.queries == budget and limited.status == Status.NOT_FOUND


def test_results_do_not_depend_on_the_global_generators(linear: LinearDefense) -> None:
    x, y = linear.sample_images(2)
    first = [record.distance for record in arena.play(linear, Walk(), x, y, seed=1)]
    torch.manual_seed(7)
    numpy.random.seed(7)
    random.seed(7)
    assert [record.distance for record in arena.play(linear, Walk(), x, y, seed=1)] == first
    assert [record.distance for record in arena.play(linear, Walk(), x, y, seed=2)] != first


def test_what_the_library_never_asked_about_is_found_with_one_query(linear: LinearDefense) -> None:
    class Blind(Walk):
        def strike(self, model: nn.Module, x: Tensor, y: Tensor) -> numpy.ndarray:
            return (1 - x).numpy()

    x, y = linear.sample_images(6)
    records = arena.play(linear, Blind(), x, y)
    assert [record.queries for record in records] == 6 * [1]
    assert all(record.best_query == 1 for record in records if record.status == Status.FOUND)
    assert any(record.status == Status.FOUND for record in records)


def test_a_library_may_ask_about_any_number_of_rows(linear: LinearDefense) -> None:
    class Many(Walk):
        def strike(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            model(x.expand(5, -1, -1, -1))
            return super().strike(model, x, y)

    x, y = linear.sample_images(3)
    more, fewer = (arena.play(linear, attack, x, y) for attack in (Many(), Walk()))
    assert [a.queries - b.queries for a, b in zip(more, fewer, strict=True)] == [5, 5, 5]


def test_an_image_that_is_none_costs_its_sample_alone(linear: LinearDefense) -> None:
    class Sometimes(Walk):
        def strike(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return x + torch.nan if torch.equal(x, first) else super().strike(model, x, y)

    x, y = linear.sample_images(3)
    first = x[:1]
    status = [record.status for record in arena.play(linear, Sometimes(), x, y)]
    assert status == [Status.REJECTED, Status.FOUND, Status.FOUND]


def test_another_shape_is_refused_in_one_line(linear: LinearDefense) -> None:
    class Flat(Walk):
        def strike(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return x.flatten()

    x, y = linear.sample_images(2)
    with pytest.raises(PluginError, match=r"strike returned \[784\] for an image \[1, 1, 28, 28\]"):
        arena.play(linear, Flat(), x, y)


def test_the_smallest_epsilon_is_searched_for_each_sample(linear: LinearDefense) -> None:
    x, y = linear.sample_images(6)
    found = torch.tensor([record.distance for record in arena.play(linear, Ball(), x, y)])
    again = [arena.play(linear, Ball(epsilon=0.99 * float(d)), x, y)[n].status for n, d in enumerate(found)]
    assert found.isfinite().all() and again == 6 * [Status.NOT_FOUND]


def test_one_epsilon_is_one_strike_inside_its_ball(linear: LinearDefense) -> None:
    x, y = linear.sample_images(6)
    distance = linear.minimal_distance("linf", x)
    epsilon = float(distance.median())
    records = arena.play(linear, Ball(epsilon=epsilon), x, y)
    assert {(record.queries, record.gradient_queries) for record in records} == {(2, 1)}
    found = torch.tensor([record.status == Status.FOUND for record in records])
    assert found.any() and not found.all() and not found[distance > epsilon].any()


def test_a_clipped_model_keeps_the_gradient_of_pixels_on_the_border() -> None:
    x = torch.tensor([[-0.5, 0.0, 0.3, 1.0, 1.5]], requires_grad=True)
    model = arena.toolbox.Clipped(nn.Linear(5, 2).eval())
    with torch.no_grad():
        model.model.weight.copy_(torch.arange(10.0).view(2, 5))
        model.model.bias.zero_()
    assert not model.training and torch.equal(model(x), model.model(x.clamp(0, 1)))
    assert torch.equal(torch.autograd.grad(model(x)[0, 1], x)[0], torch.tensor([[0.0, 6, 7, 8, 0]]))


def test_the_code_of_the_base_is_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package names it `arena.PerSampleAttack`, and imports nothing but arena."""
    (tmp_path / "handed_on.py").write_text("import toolkit\n\nclass Mine(toolkit.Base):\n    name = 'mine'\n")
    (tmp_path / "toolkit.py").write_text("import importlib\nBase = importlib.import_module('kit_base').Base\n")
    prints = []
    for steps in (1, 2, 1):
        (tmp_path / "kit_base.py").write_text(
            "import arena\n\nclass Base(arena.Attack):\n    norm, access = 'l2', 'decision'\n"
            f"    def run(self, target, x, y, rng):\n        return x * {steps}{'  # ' * steps}\n"
        )
        for module in ("handed_on", "toolkit", "kit_base"):
            sys.modules.pop(module, None)
        monkeypatch.syspath_prepend(tmp_path)
        prints.append(__import__("handed_on").Mine().fingerprint)
    assert prints[0] == prints[2] != prints[1]
