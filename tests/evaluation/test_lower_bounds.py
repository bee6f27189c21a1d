"""Lower bounds against minimal perturbations that are known in closed form, and against whatever tries to go below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import MNIST, bound, defense, open_match, record, store_bounds
from torch import Tensor
from typed import Batch, present

import arena
from arena.cli import cli
from arena.data import data_hash
from arena.errors import PluginError, UserError
from arena.evaluation import bounds
from arena.evaluation.bounds.separate import SeparateBound
from arena.evaluation.lower_bounds import lower_bounds
from arena.geometry.distances import distance, per_row
from arena.geometry.halfspaces import project
from arena.geometry.norms import NORMS, Norm
from arena.interface.contracts import Defense
from arena.interface.prototypes import FiniteSet, HasPrototypes, Points, Pool, input_of
from arena.reporting.columns import render
from arena.store import bounds as bound_rows
from arena.store.leaderboard import Bracket
from arena.store.store import open_store
from arena.target.logits import evaluate
from arena.testing import BinaryLinearDefense, LinearPrototypes

ALL_KINDS = [("joint", norm) for norm in NORMS] + [("separate", norm) for norm in SeparateBound.norms]


class BinaryPrototypes(LinearPrototypes, BinaryLinearDefense):
    """One prototype a class, input in black and white."""

    name = "binary-prototypes"


class Neighbors(Defense):
    """The nearest of a few random images."""

    name, gradient = "neighbors", "none"

    def __init__(self, seed: int, classes: int = 3, each: int = 4, threshold: float | None = None) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.sets = [
            (torch.rand(each, 784, generator=rng) < 0.3) * torch.rand(each, 784, generator=rng) for _ in range(classes)
        ]
        self.binary_threshold = threshold  # type: ignore[misc]  # a class has one; these differ

    @property
    def prototypes(self) -> FiniteSet:
        return FiniteSet(self.sets)

    def scores(self, x: Tensor) -> Tensor:
        input = input_of(self, x)
        return -torch.stack([torch.cdist(input, images).amin(1) for images in self.sets], 1)


class LinearDecoders(Defense):
    """G_c(z) = a_c + B z with orthonormal columns: f_c(x) = (x - a_c)' M (x - a_c), M = I - 2/3 B B' for every class:
    all decision boundaries are planes."""

    name, gradient = "linear-decoders", "none"
    finite = False

    def __init__(self, seed: int = 0, classes: int = 3) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.centers = 0.35 + 0.3 * torch.rand(classes, 784, generator=rng)
        self.basis = torch.linalg.qr(torch.randn(784, 4, generator=rng)).Q
        self.scales = torch.ones(classes)

    @property
    def prototypes(self) -> LinearDecoders:
        return self

    def scores(self, x: Tensor) -> Tensor:
        return -self._parts(x.flatten(1))[1]

    def _parts(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """The best z [N, C, 4] and f [N, C]."""
        away = input[:, None] - self.centers
        z = away @ self.basis / 1.5
        return z, away.square().sum(-1) - 1.5 * z.square().sum(-1)

    def _points(self, z: Tensor) -> Points:
        return Points(z, self.centers + z @ self.basis.T, z.square().sum(-1) / 2)

    def nearest(self, input: Tensor) -> Points:
        return self._points(self._parts(input)[0])

    def pool(self, label: int, seed: int = 0) -> Pool:
        z = torch.randn(300, 4, generator=torch.Generator().manual_seed(seed))
        return Pool(z, self.centers[label] + z @ self.basis.T, z.square().sum(-1) / 2)

    @torch.enable_grad()
    def refine(self, start: Points, objective: Callable[[Tensor, Tensor], Tensor], steps: int) -> Points:
        z = start.code.clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=0.05)
        for _ in range(steps - 1):
            points = self._points(z)
            z.grad = torch.autograd.grad(objective(points.image, points.penalty).sum(), z)[0]
            adam.step()
        return self._points(z.detach())

    def minimal_distance(self, norm: Norm, x: Tensor, y: Tensor) -> Tensor:
        """In closed form: f_c - f_y falls along 2 M (a_c - a_y), a linear problem for each other class."""
        centers = self.centers.double()
        apart = centers - centers[y][:, None]
        normal = 2 * (apart - 2 / 3 * apart @ self.basis.double() @ self.basis.T.double())
        f = self._parts(x.flatten(1))[1].double()
        found = project(norm, x.flatten(1).double()[:, None], normal, f - f.gather(1, y[:, None])).distance
        found = found.ceil() if norm == "l0" else found
        return found.scatter(1, y[:, None], torch.inf).amin(1)


def attempts(
    norm: Norm, x: Tensor, y: Tensor, limit: Tensor, targets: list[Tensor], rng: torch.Generator
) -> Iterator[Tensor]:
    """Perturbations of at most `limit` [B] in the box: to other images, and at random."""
    noise = torch.randn(x.shape, generator=rng)
    for direction in [noise, noise.sign(), *(target.view_as(x[:1]) - x for target in targets)]:
        if norm == "l0":
            gain = direction.flatten(1).abs()
            ranks = gain.argsort(dim=1, descending=True).argsort(dim=1).view_as(x)
            yield torch.where(ranks < per_row(limit, x), (x + direction.sign()).clamp(0, 1), x)
            yield torch.where(ranks < per_row(limit, x), (x + direction).clamp(0, 1), x)
        else:
            for step in (direction, direction.sign()) if norm == "linf" else (direction,):
                size = distance(norm, step, torch.zeros_like(step))
                yield (x + step * per_row(limit / size, x)).clamp(0, 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cls", [LinearPrototypes, BinaryPrototypes])
@pytest.mark.parametrize("classes", [2, 10])
def test_with_one_prototype_a_class_the_joint_bound_is_the_minimal_distance(
    cls: type[LinearPrototypes], classes: int, norm: Norm
) -> None:
    defense = cls(classes=classes)
    x, y = defense.sample_images(6)
    exact = defense.minimal_distance(norm, x)
    torch.testing.assert_close(bounds.joint(defense, x, y, norm).value, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_between_two_samples_the_separate_bound_is_known(norm: Norm) -> None:
    """From a sample, r = 0: half the distance in L2. The box is not in it."""
    defense = LinearPrototypes(classes=2)
    x, y = defense.matrix.view(2, 1, 28, 28), torch.arange(2)
    value = bounds.separate(defense, x, y, norm).value
    away = (x[0] - x[1]).abs().double().flatten()
    if norm == "l2":
        assert value.tolist() == pytest.approx([float(away.norm()) / 2] * 2, rel=1e-5)
    else:
        for epsilon, sign in ((value[0] * 0.999, 1), (value[0] * 1.001, -1)):
            assert sign * float((away - epsilon).clamp_min(0).square().sum() - 784 * epsilon.square()) > 0


@pytest.mark.parametrize("norm", NORMS)
def test_linear_decoders_are_bounded_closely(norm: Norm) -> None:
    defense = LinearDecoders()
    x = torch.rand(3, 784, generator=torch.Generator().manual_seed(1)).lerp(defense.centers, 0.8).view(3, 1, 28, 28)
    y = defense.scores(x).argmax(1)
    exact = defense.minimal_distance(norm, x, y)
    value = bounds.joint(defense, x, y, norm, search=bounds.Search(starts=2, steps=20)).value
    assert bool((value <= exact * (1 + 1e-4)).all())
    assert bool((value >= 0.98 * exact - int(norm == "l0")).all())
    if norm in SeparateBound.norms:
        assert bool((bounds.separate(defense, x, y, norm).value < value).all())


@pytest.mark.parametrize(("kind", "norm"), ALL_KINDS)
@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), share=st.floats(0.5, 0.999), threshold=st.sampled_from([None, 0.5]))
def test_nothing_below_the_bound_flips_the_class(
    kind: str, norm: Norm, seed: int, share: float, threshold: float | None
) -> None:
    defense = Neighbors(seed, threshold=threshold)
    rng = torch.Generator().manual_seed(seed)
    x = torch.cat(defense.sets)[::2].lerp(torch.rand(6, 784, generator=rng), 0.2).view(6, 1, 28, 28)
    y = defense.scores(x).argmax(1)
    found = getattr(bounds, kind)(defense, x, y, norm)
    limit = (share * found.value).float() if norm != "l0" else (found.value - 1).clamp_min(0).float()
    nearest = found.points.image[torch.arange(6), found.per_class.argmin(1)]
    for images in attempts(norm, x, y, limit, [*nearest, *torch.cat(defense.sets)], rng):
        kept = distance(norm, images, x) <= limit * (1 + 1e-5) + 1e-6  # L1 adds up 784 roundings
        assert bool(kept.all())
        assert torch.equal(defense.scores(images).argmax(1), y)


@pytest.mark.parametrize(("norm", "alone", "exact"), [("l2", 28 * 0.3, 28 * 0.5), ("linf", 0.3, 0.5), ("l0", 262, 436)])
def test_prototypes_of_the_label_on_the_way_are_counted(norm: Norm, alone: float, exact: float) -> None:
    """Grey images: from 0.1, the nearest of its class, over 0.5, also of its class, to 0.7. (L0: each pixel goes up to
    white, which closes 1.08 of the offset of 784 x 0.36, or 0.36 of 784 x 0.2.)"""
    defense = Neighbors(0)
    defense.sets = [torch.full((1, 784), 0.1).add(torch.tensor([[0.0], [0.4]])), torch.full((1, 784), 0.7)]
    x, y = torch.full((1, 1, 28, 28), 0.1), torch.tensor([0])
    values = [bounds.joint(defense, x, y, norm, search=bounds.Search(rounds=n)).value.item() for n in (0, 2)]
    assert values == pytest.approx([alone, exact], rel=1e-4)


def test_a_finite_set_is_searched_as_if_every_prototype_were_tried() -> None:
    defense = Neighbors(1, classes=4, each=300)
    x = torch.cat(defense.sets)[::200].lerp(torch.rand(6, 784, generator=torch.Generator().manual_seed(0)), 0.3)
    y = defense.scores(x.view(6, 1, 28, 28)).argmax(1)
    found = bounds.joint(defense, x.view(6, 1, 28, 28), y, "l2", search=bounds.Search(rounds=0))
    own = defense.prototypes.nearest(x).image[torch.arange(6), y].double()
    for row in range(6):
        least = torch.inf
        for label, images in enumerate(defense.sets):
            if label != y[row]:
                pixels, other = x[row].double(), images.double()
                offset = (pixels - other).square().sum(1) - (pixels - own[row]).square().sum()
                least = min(least, float(project("l2", pixels, 2 * (other - own[row]), offset).distance.min()))
        assert float(found.value[row]) == pytest.approx(least, rel=1e-6)


def test_a_misclassified_image_has_no_distance() -> None:
    defense = LinearPrototypes(classes=3)
    x, y = defense.sample_images(4)
    assert bounds.joint(defense, x, (y + 1) % 3, "l2").value.tolist() == [0] * 4


def test_a_defense_without_prototypes_is_one_line() -> None:
    with pytest.raises(UserError, match="defense cnn has no prototypes"):
        bounds.joint(arena.load_defense("cnn"), torch.zeros(1, 1, 28, 28), torch.tensor([0]), "l2")


@pytest.mark.parametrize("name", ["abs", "binary-abs", "nearest-neighbor"])
def test_prototypes_say_what_the_defense_says(name: str, mnist: Batch) -> None:
    defense, x = arena.load_defense(name), mnist[0][:3]
    assert isinstance(defense, HasPrototypes)
    prototypes, input = defense.prototypes, input_of(defense, x)
    points = prototypes.nearest(input)
    score = prototypes.scales * ((input[:, None] - points.image).square().sum(-1) + points.penalty)
    logits = -score.sqrt() if prototypes.finite else -score / 784
    torch.testing.assert_close(logits, evaluate(defense, x), rtol=1e-4, atol=1e-5)
    better = prototypes.refine(
        points, lambda image, penalty: (input[:, None] - image).square().sum(-1) + penalty, steps=5
    )
    gain = score - prototypes.scales * ((input[:, None] - better.image).square().sum(-1) + better.penalty)
    assert bool((gain >= -1e-4).all()) and (bool((gain > 1e-3).any()) or prototypes.finite)
    pool, other = prototypes.pool(3), prototypes.pool(3, seed=1)
    assert pool.image.shape == (len(pool.code), 784) and pool.penalty.shape == (len(pool.code),)
    assert torch.equal(pool.image, other.image) == prototypes.finite


def test_the_command_computes_what_is_missing(tmp_path: Path) -> None:
    url = str(tmp_path / "arena.db")
    with closing(open_store(url)) as store:
        joint, nearest = arena.load_bound("joint").identity, arena.load_defense("nearest-neighbor").identity
        series = bound_rows.Series(nearest, joint, "certificate", data_hash(), "l2")
        bound_rows.commit(store, series, {1: 123.0})  # known, hence not computed again
        run = ["bounds", "--norm", "l2", "--samples", "2", "--db", url, "--quiet", "--bound", "joint", "--defense"]
        outcome = CliRunner().invoke(cli, [*run, "nearest-neighbor"], standalone_mode=False)
        assert outcome.return_value == 0
        known = bound_rows.read(store, series)
        assert set(known) == {0, 1} and known[1] == 123 and 1 < known[0] < 5
        assert f"{(known[0] + 123) / 2:.4g}" in outcome.output and "certificate" in outcome.output
        assert "separate" not in outcome.output
        nobody = CliRunner().invoke(cli, [*run, "cnn"], standalone_mode=False)
        message = "no bound for cnn: its score is no minimum over prototypes (joint)"
        assert isinstance(nobody.exception, UserError) and message in str(nobody.exception)


def test_with_a_tournament_the_cheap_bounds_of_its_norms_are_computed(tmp_path: Path) -> None:
    settings, url = tmp_path / "arena.toml", str(tmp_path / "arena.db")
    settings.write_text("[tournament]\nsamples = 2\ndefenses = ['cnn']\nattacks = ['fgsm']\n")
    run = ["run", str(settings), "--db", url, "--workers", "1", "--quiet"]
    assert CliRunner().invoke(cli, run, standalone_mode=False).return_value == 0
    with closing(open_store(url)) as store:
        (row,) = store.leaderboard(by="defense")
        bracket = present(row.bracket)
        assert bracket.proven == 1 and 0 < bracket.lower_bound_mean < bracket.mean_distance
        with store.reading() as connection:
            values = connection.exec_driver_sql("SELECT bound, kind, norm, sample FROM current_bound").all()
    assert set(values) == {("lipschitz", "certificate", "linf", sample) for sample in range(2)}


class Wrong(arena.Bound):
    name, norms, kind = "wrong", ("l2",), "certificate"

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def run(self, defense: Defense, x: Tensor, y: Tensor, norm: Norm, rng: torch.Generator) -> Tensor:
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: None, "returned NoneType for 3 images, not float64"),
        (lambda x: x.sum((1, 2, 3)), "returned torch.float32"),
        (lambda x: x.double().sum(), "not float64"),
        (lambda x: x.double().sum((1, 2, 3)) - 1e6, "negative or NaN"),
        (lambda x: x.double().sum((1, 2, 3)) * torch.nan, "negative or NaN"),
        (lambda x: x.zero_().double().sum((1, 2, 3)), "modified its input"),
    ],
)
def test_what_a_bound_returns_is_checked(answer: Callable[[Tensor], Any], message: str) -> None:
    defense = LinearPrototypes(classes=3)
    x, y = defense.sample_images(3)
    with pytest.raises(PluginError, match=message):
        lower_bounds(Wrong(answer), defense, x, y, "l2")


def test_a_misclassified_image_has_no_distance_whatever_the_bound() -> None:
    defense = LinearPrototypes(classes=3)
    x, y = defense.sample_images(4)
    labels = torch.where(torch.arange(4) == 2, (y + 1) % 3, y)
    ones = Wrong(lambda x: torch.ones(len(x), dtype=torch.float64))
    assert lower_bounds(ones, defense, x, labels, "l2").tolist() == [1, 1, 0, 1]


def test_a_bound_that_another_program_stored_meanwhile_stays() -> None:
    with closing(open_store("sqlite://")) as store:
        store_bounds(store, {0: 1.0, 1: 3.0})
        store_bounds(store, {1: 2.0, 2: 4.0})
        series = bound_rows.Series(defense(), bound(), "estimate", MNIST["data_hash"], "l2")
        assert bound_rows.read(store, series) == {0: 1.0, 1: 3.0, 2: 4.0}


def test_the_leaderboard_counts_the_best_bound_and_the_least_seed_of_the_current_data() -> None:
    with closing(open_store("sqlite://")) as store:
        found = [record(0, distance=2.0), record(1, distance=4.0), record(2, distance=9.0)]
        store.append(open_match(store, defense()), found)
        store_bounds(store, {0: 1.75, 1: 3.75}, by=bound("joint", "as it was"))
        store_bounds(store, {0: 1.0, 1: 3.0, 3: 7.0})  # no bound of 2, no result of 3
        store_bounds(store, {0: 0.5, 1: 3.5}, seed=1)
        store_bounds(store, {0: 0.75, 1: 0.25}, by=bound("separate"), kind="certificate")
        store_bounds(store, {0: 9.0}, data_hash="other")
        (row,) = store.leaderboard(by="defense")
        bracket = present(row.bracket)
        assert (bracket.lower_bound_mean, bracket.mean_distance) == ((0.75 + 3.0) / 2, (2.0 + 4.0) / 2)
        assert bracket.tightness == (0.75 / 2 + 3.0 / 4) / 2
        assert bracket.proven == 0.5 and row.statistical is None
        with store.reading() as connection:
            view = connection.exec_driver_sql("SELECT lower_bound_mean, mean_distance FROM leaderboard").all()
            assert set(view) == {(1.875, 3.0)}
            assert bound_rows.by_name(connection, defense().fingerprint, MNIST["data_hash"]) == {
                (0, "l2", "joint", "estimate"): 0.5,
                (0, "l2", "separate", "certificate"): 0.75,
                (1, "l2", "joint", "estimate"): 3.0,
                (1, "l2", "separate", "certificate"): 0.25,
                (3, "l2", "joint", "estimate"): 7.0,
            }
            best = bound_rows.of_current_defenses(connection, MNIST["data_hash"])["cnn", "l2"]
            assert best[0] == bound_rows.LowerBound(0.75, "separate", "certificate")


def test_statistical_bounds_are_shown_apart() -> None:
    with closing(open_store("sqlite://")) as store:
        store.append(open_match(store, defense()), [record(0, distance=2.0), record(1, "not_found")])
        store_bounds(store, {0: 0.5}, kind="certificate")
        store_bounds(store, {0: 1.5, 1: math.inf}, by=bound("chance"), kind="statistical")
        (row,) = store.leaderboard(by="defense")
        assert row.bracket == Bracket(0.5, 2.0, 0.25, 1.0)
        assert row.statistical == Bracket(math.inf, math.inf, (0.75 + 1) / 2, 0.0)
        with store.reading() as connection:
            views = ("lower_bound", "statistical_bound")
            read = [connection.exec_driver_sql(f"SELECT sample, value, bound FROM {view}").all() for view in views]
    assert read == [[(0, 0.5, "joint")], [(0, 1.5, "chance"), (1, math.inf, "chance")]]
    table = render([row], "table")
    assert "25.0%" in table and "87.5%" in table and table.count("stat.") == 2
